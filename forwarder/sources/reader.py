"""The request being read: llhttp's callbacks, its body, and the limits that llhttp does not have.

`feed` is given small slices, so that limits are looked at often. Whatever is wrong raises `body.Refused`.
"""

import re
from collections.abc import Callable, Sequence
from typing import Protocol

import httptools

from forwarder.sources import body, head
from forwarder.sources.answers import Denial, Shape
from forwarder.sources.body import Refused
from forwarder.sources.chunks import Chunks
from forwarder.sources.inflight import Inflight
from forwarder.sources.plan import Accept, Fixed, Plan
from forwarder.sources.rtsp import Reading, Watch

SLICE = 16 * 1024
"""Bytes to feed at once."""
SLICE_INFLATED = 1024
"""The same for a compressed body: at most about a thousand times as much comes out."""
MAX_DISCARD = 1024 * 1024
"""Bytes of an unwanted body that are read, to keep the connection, before it is answered at once and closed."""
_LOOSE = 64
"""Pieces of a body that are kept as they came; of more the small ones are put together, as a piece has its own cost."""
_SMALL_PIECE = 4096
_END = b"\r\n\r\n"
_BREAKS = b"\r\n"
_EMPTY_LINES = re.compile(rb"[\r\n]+")


class Sink(Protocol):
    """What a connection does with what its reader finds."""

    def plan(self, method: str, target: bytes, version: str, headers: list[tuple[bytes, bytes]], keep: bool) -> Plan:  # noqa: FBT001 - llhttp's answer, handed on
        """Decide what to do with a request; raises Refused."""

    def learn(self, raw: bytes, method: str, headers: int, plan: Plan) -> None:
        """Remember the plan of this head."""

    def proceed(self) -> None:
        """Send 100 Continue."""

    def accept(self, action: Accept, shape: Shape, data: bytes, size: int) -> None:
        """Take a whole request; `size` bytes of it count as in flight."""

    def reply(self, action: Fixed | Denial, shape: Shape) -> None:
        """Take a whole request whose body does not matter."""

    def last(self) -> None:
        """No request follows: a trailer said so."""


class Reader:
    """Reads the requests of one connection. `max_body` is looked up for every request: a reload changes it."""

    between: bool
    """No request has begun."""
    _begun: bool
    _lined: bool
    """The request line is known to be over."""
    _upgrading: bool
    _plan: Plan | None
    _inflater: body.Inflater | None
    _headers: list[tuple[bytes, bytes]]
    """Those that are read: of `head.ONCE`, and one more at most, so that one of them is there twice."""
    _lines: int
    """All headers of the head."""
    _parts: list[bytes | bytearray]
    _target: bytes
    _raw: bytes
    _size: int
    """Bytes of `_parts`: the body so far, inflated; counted as in flight."""
    _taken: int
    """Bytes of the body as they came."""
    _wire: int
    """Bytes of a head that came in several slices, empty lines before it apart."""
    _chunks: Chunks | None

    def __init__(self, sink: Sink, inflight: Inflight) -> None:
        self.phase = 0
        """Counts heads begun and bodies begun: each has its own time-out."""
        self._sink = sink
        self._inflight = inflight
        self.max_body = 0
        self.inflated = 0
        """Bytes that compressed bodies have become, ever."""
        self._synthetic = False
        self._refused: Refused | None = None
        self._parser = httptools.HttpRequestParser(self)
        self._watch = Watch(self._in_target)
        self._aimed = False
        """A piece of the target came."""
        self._ended = 0
        """Bytes of the last body as they came."""
        self._taken = 0
        self._reset()

    @property
    def in_head(self) -> bool:
        """Return whether the head is still incomplete."""
        return self._plan is None

    def stop(self, data: bytes, at: int) -> int:
        """Return up to where to feed `data[at:]` next: no further than to where a limit is reached. Raises Refused."""
        plan = self._plan
        if plan is None:
            stop = self._stop_in_head(data, at)
            return self._watch.stop(Reading.HEADERS if self._lined else Reading.LINE, data, at, stop)
        stop = min(at + (SLICE if self._inflater is None else SLICE_INFLATED), len(data))
        if plan.length is not None:
            return min(at + plan.length - self._taken, stop)
        return self._stop_in_chunks(data, at, self._watch.stop(Reading.CHUNKS, data, at, stop))

    def _stop_in_head(self, data: bytes, at: int) -> int:
        """Return the end of this slice; that of the head, if it began before or if another one may end behind it.

        So a slice that holds a whole request and the start of the next holds one empty line, that of the first
        (`_locate`). The plain end of a chunked body, which no head ends in, may be at the end of a slice.
        """
        stop = min(at + SLICE, len(data))
        if self.between:
            if data[at] in _BREAKS:
                lines = _EMPTY_LINES.match(data, at, stop)
                return stop if lines is None else lines.end()
            end = data.find(_END, at, stop)
            if end >= 0 and b"content-encoding" in data[at:end].lower():
                return end + 4  # the body behind it is inflated, in slices of its own size
            other = -1 if end < 0 else data.find(_END, end + 4, stop)
            alone = other < 0 or (other + 4 == stop and data.startswith(b"\r\n0", other - 3))
            return stop if alone else end + 4
        if data[at] in _BREAKS:  # the end of the head may have begun before
            return at + 1
        stop = min(stop, at + head.MAX_HEAD - self._wire)
        end = data.find(_END, at, stop)
        return stop if end < 0 else end + 4

    def _stop_in_chunks(self, data: bytes, at: int, stop: int) -> int:
        if self._chunks is None:
            self._chunks = Chunks()
        place = self._chunks.follow(data, at, stop)
        if place == at:
            raise Refused(_not_http("too much chunk overhead, or too long trailers"))
        return place

    @property
    def shape(self) -> Shape | None:
        """Return how the request being read wants its answer, once known."""
        return None if self._plan is None else self._plan.shape

    @property
    def headers(self) -> Sequence[tuple[bytes, bytes]]:
        """Return the headers that have come; none if the parser stopped among them: how far depends on the cuts."""
        return self._headers

    def candidate(self, raw: bytes) -> None:
        """Offer the bytes that may be the whole head of the next request, to be learnt."""
        self._raw = raw

    def feed(self, piece: memoryview) -> int:
        """Parse; return how many bytes are used up (fewer only after an ignored Upgrade). Raises Refused."""
        used = len(piece)
        try:
            self._parser.feed_data(piece)
        except httptools.HttpParserUpgrade as upgrade:
            used = upgrade.args[0]
            self._ignore_upgrade()
        except httptools.HttpParserCallbackError as error:
            raise self._refused or error from None
        except httptools.HttpParserError as error:
            self._headers = []
            raise Refused(_not_http(str(error))) from None
        if not self.between:
            self._count(piece[:used])
        return used

    def drop(self) -> None:
        """Forget the request being read and give its memory back."""
        size = self._size
        self._reset()
        self._inflight.release(size)

    def _in_target(self) -> bool:
        """Return whether the target is being read: fed nothing, llhttp then hands over an empty piece of it."""
        if self.between or self._plan is not None:
            return False
        self._aimed = False
        self._parser.feed_data(b"")
        self._lined = self._target != b"" and not self._aimed
        return self._aimed

    def _count(self, piece: memoryview) -> None:
        """Bound what llhttp keeps or skips without a callback in a head; what of it came before is counted already."""
        if self._begun:
            self._begun = False
            self._locate(piece)
        elif self._plan is None:
            self._wire += len(piece)
        if self._plan is None and self._wire >= head.MAX_HEAD:
            raise Refused(head.too_long())

    def _locate(self, piece: memoryview) -> None:
        """Find out where in this piece the request began that goes on behind it; or its chunks, if its head is whole.

        Before it there is at most one whole request, and the end of no other head than that one's.
        """
        plan = self._plan
        if plan is not None and plan.length is not None:
            return
        text = bytes(piece).lstrip(_BREAKS)
        end = text.find(_END) + len(_END)
        if plan is not None:
            self._chunks = Chunks()
            self._chunks.follow(text, end, len(text))
        elif end < len(_END):
            self._wire = len(text)
        else:
            self._wire = len(text[end + self._ended :].lstrip(_BREAKS))

    def _ignore_upgrade(self) -> None:
        """Go on as if there had been no Upgrade: llhttp has dropped the body, so a new parser gets a head for it."""
        self._parser = httptools.HttpRequestParser(self)
        plan, self._upgrading = self._plan, False
        if plan is not None:
            framing = b"Transfer-Encoding: chunked" if plan.length is None else b"Content-Length: %d" % plan.length
            self._synthetic = True
            self.feed(memoryview(b"POST / HTTP/1.1\r\n%s\r\n\r\n" % framing))
            self._synthetic = False

    # ---- llhttp's callbacks

    def on_message_begin(self) -> None:
        """Start a request."""
        self.phase += 1
        self.between = False
        self._begun = True

    def on_url(self, piece: bytes) -> None:
        """Take a piece of the target."""
        self._target += piece
        self._aimed = True

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header; trailers are dropped."""
        if self._plan is None:
            self._lines += 1
            if name.lower() in head.ONCE and len(self._headers) <= len(head.ONCE):
                self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        """Decide what to do with the request."""
        if not self._synthetic:
            self._guarded(self._head)

    def on_body(self, piece: bytes) -> None:
        """Take a piece of the body."""
        self._guarded(self._body, piece)

    def on_message_complete(self) -> None:
        """Hand the request over."""
        self._guarded(self._whole)

    def _guarded(self, step: Callable[..., None], *args: bytes) -> None:
        """Keep a refusal: what llhttp raises in its place has lost it."""
        try:
            step(*args)
        except Refused as refused:
            self._refused = refused
            raise

    # ---- what they do

    def _head(self) -> None:
        parser, headers = self._parser, self._headers
        method = parser.get_method().decode()
        plan = self._sink.plan(method, self._target, parser.get_http_version(), headers, parser.should_keep_alive())
        self._plan = plan
        self.phase += 1
        self._upgrading = parser.should_upgrade()
        if self._raw and not self._upgrading:
            self._sink.learn(self._raw, method, self._lines, plan)
        self._raw = b""
        if isinstance(plan.action, Accept):
            self._prepare(plan)
        elif isinstance(plan.action, Denial) and (plan.action.close or _waits(plan)):
            raise Refused(plan.action)
        elif _waits(plan):
            self._invite(plan)

    def _body(self, piece: bytes) -> None:
        """Keep a piece of the body, or drop it when the answer is known already."""
        self._taken += len(piece)
        plan = self._plan
        if plan is None or not isinstance(plan.action, Accept):
            if self._taken > MAX_DISCARD:
                raise Refused(plan.action if plan and isinstance(plan.action, Denial) else _unwanted())
            return
        if self._inflater is not None:
            piece = self._inflate(self._inflater, piece)
            self.inflated += len(piece)
        self._size += len(piece)
        self._inflight.held += len(piece)
        if piece:
            self._keep(piece)
        if self._size > self.max_body:
            raise Refused(body.too_large())

    def _keep(self, piece: bytes) -> None:
        parts = self._parts
        if len(parts) < _LOOSE or len(piece) >= _SMALL_PIECE:
            parts.append(piece)
        elif isinstance(last := parts[-1], bytearray):
            last += piece
        else:
            parts.append(bytearray(piece))

    def _inflate(self, inflater: body.Inflater, piece: bytes) -> bytes:
        """Inflate; what comes is bounded like what it becomes, because compressed nothing can be endless."""
        beyond = self._taken - self.max_body
        if beyond <= 0:
            return inflater.feed(piece)
        inflater.feed(piece[:-beyond])  # what was wrong before is the answer, wherever the bytes were cut
        raise Refused(body.too_large())

    def _whole(self) -> None:
        plan = self._plan
        if plan is None or self._upgrading:
            return
        if self._inflater is not None:
            self._inflater.finish()
        if plan.length is None and not plan.shape.close and not self._parser.should_keep_alive():
            self._sink.last()
        parts, size = self._parts, self._size
        self._reset()
        if isinstance(plan.action, Accept):
            self._sink.accept(plan.action, plan.shape, b"".join(parts), size)
        else:
            self._sink.reply(plan.action, plan.shape)

    def _prepare(self, plan: Plan) -> None:
        if plan.coding:
            self._inflater = body.Inflater(plan.coding, self.max_body)
        if _waits(plan):
            self._sink.proceed()

    def _invite(self, plan: Plan) -> None:
        """Have the body sent that the answer does not need, to keep the connection and its framing; if it is small."""
        if plan.length is not None and plan.length > MAX_DISCARD:
            raise Refused(_unwanted())
        self._sink.proceed()

    def _reset(self) -> None:
        self.between = True
        self._begun = self._lined = self._upgrading = False
        self._watch.lines = 0
        self._plan = None
        self._inflater = None
        self._headers = []
        self._lines = 0
        self._parts = []
        self._target = self._raw = b""
        self._chunks = None
        self._ended = self._taken
        self._size = self._taken = self._wire = 0


def _waits(plan: Plan) -> bool:
    """Return whether the client may keep its body until it is told to go on."""
    return plan.expect and plan.length != 0


def _unwanted() -> Denial:
    error = "no body is wanted here, and of this one more than 1 MiB is too much: events are sent with POST"
    return Denial(status=413, error=error, reason="body_too_large", close=True)


def _not_http(what: str) -> Denial:
    return Denial(status=400, error=f"the request is not sound HTTP: {what}", reason="bad_http", close=True)
