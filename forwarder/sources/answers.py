"""Answers as bytes: status line, headers, JSON body. The common ones are built once and kept."""

from collections.abc import Sequence
from email.utils import formatdate
from http import HTTPStatus

import msgspec
import orjson

from forwarder.core.seams import Clock, Durability
from forwarder.vendors.base import BadRequest, Refusal

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
CACHE_LIMIT = 256
REFUSED_SHOWN = 1000
"""Refusals listed in one answer; the Forwarder-Refused header counts all of them."""


class Denial(msgspec.Struct, frozen=True, kw_only=True):
    """A request refused as a whole. `close`: what follows on the connection cannot be trusted, or is unwanted."""

    status: int
    error: str
    reason: str
    headers: bytes = b""
    close: bool = False


def denied(request: BadRequest) -> Denial:
    """Return a vendor's refusal as a denial."""
    headers = b"" if request.allow is None else b"Allow: %s\r\n" % request.allow.encode("latin-1", "replace")
    return Denial(status=request.status, error=request.error, reason=request.reason, headers=headers)


class Shape(msgspec.Struct, frozen=True):
    """How one request wants its answer: its CORS headers, whether it is the last, HTTP/1.0, HEAD."""

    headers: bytes = b""
    close: bool = False
    old: bool = False
    bodiless: bool = False

    def closing(self) -> "Shape":
        """Return the same as the last answer of its connection."""
        return self if self.close else Shape(self.headers, close=True, old=self.old, bodiless=self.bodiless)


PLAIN = Shape()


class Answers:
    """Serialises answers. `tick` is called once a second while there are connections: it renews the Date."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._date = b""
        self._accepted: dict[tuple[int, int, int], bytes] = {}
        self.tick()

    def tick(self) -> None:
        """Renew the Date header and with it the pre-built answers."""
        date = formatdate(self._clock.wall(), usegmt=True).encode()
        if date != self._date:
            self._date = date
            self._accepted.clear()

    def build(self, status: int, body: bytes, shape: Shape, extra: bytes = b"") -> bytes:
        """Return one whole answer; a 204 has neither body nor length."""
        head = b"HTTP/1.1 %d %s\r\nDate: %s\r\n" % (status, HTTPStatus(status).phrase.encode(), self._date)
        if status != HTTPStatus.NO_CONTENT:
            head += b"Content-Type: application/json\r\nContent-Length: %d\r\n" % len(body)
        if shape.close:
            head += b"Connection: close\r\n"
        elif shape.old:
            head += b"Connection: keep-alive\r\n"
        return b"".join((head, shape.headers, extra, b"\r\n", b"" if shape.bodiless else body))

    def accepted(self, status: int, count: int, level: Durability) -> bytes:
        """Return the answer of a plain request whose events were all accepted."""
        key = (status, count, level)
        answer = self._accepted.get(key)
        if answer is None:
            answer = self.build(status, b'{"accepted":%d}' % count, PLAIN, reached(level))
            if len(self._accepted) >= CACHE_LIMIT:
                self._accepted.clear()
            self._accepted[key] = answer
        return answer

    def partly(
        self, status: int, count: int, refused: Sequence[Refusal], level: Durability | None, shape: Shape
    ) -> bytes:
        """Return the answer that lists refusals; without a level nothing was stored."""
        body: dict[str, object] = {"accepted": count}
        if level is None:
            body = {"error": "nothing was stored: see refused", "accepted": 0}
        extra = b"" if level is None else reached(level)
        if refused:
            body["refused"] = [{"index": each.index, "error": each.error} for each in refused[:REFUSED_SHOWN]]
            extra += b"Forwarder-Refused: %d\r\n" % len(refused)
        return self.build(status, orjson.dumps(body), shape, extra)

    def denial(self, denial: Denial, shape: Shape) -> bytes:
        """Return the answer of a request that is refused as a whole."""
        return self.build(denial.status, orjson.dumps({"error": denial.error}), shape, denial.headers)


def reached(level: Durability) -> bytes:
    """Return the header that states the level reached."""
    return b"Forwarder-Ack: %s\r\n" % level.word.encode()
