"""One batch of events to one address: how it is sent, and what the answer means."""

import asyncio
import contextlib
import errno
import os
import socket
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Literal, Protocol, Self
from urllib.parse import urlencode, urlsplit

import aiohttp
import msgspec

from forwarder.cli.feed import Event
from forwarder.errors import DaemonUnreachable

Form = Literal["ndjson", "array", "single"]

LONGEST_WAIT_S = 30.0
LATER = frozenset({429, 503})
ABOUT_EVENTS = frozenset({400, 408, 413, 422})
CONTENT_TYPES: Mapping[Form, str] = {
    "ndjson": "application/x-ndjson",
    "array": "application/json",
    "single": "application/json",
}


class Result(msgspec.Struct):
    """What became of one batch. `refused` holds (index in the batch, error); `fatal` ends the sending."""

    accepted: int = 0
    refused: list[tuple[int, str]] = []
    ack: str | None = None
    fatal: str | None = None


class Sender(Protocol):
    """A way to the daemon. Sending raises DaemonUnreachable when nobody is there (any more)."""

    answered: bool
    """Whether the daemon says what it accepted."""
    batch: int
    """Events in one request or datagram."""

    async def __aenter__(self) -> Self:
        """Get ready."""

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close connections."""

    async def send(self, events: Sequence[Event]) -> Result:
        """Send one batch."""


class HttpSender:
    """Posts to a TCP address or a unix socket, and waits when the daemon says so."""

    answered = True

    def __init__(
        self,
        base: str,
        path: str,
        *,
        unix: str | None,
        form: Form,
        batch: int,
        query: Mapping[str, str],
        headers: Mapping[str, str],
        retries: int,
        timeout_s: float,
    ) -> None:
        self.batch = 1 if form == "single" else batch
        joint = "&" if "?" in path else "?"
        self._url = base + path + (joint + urlencode(query) if query else "")
        self._where = f"unix:{unix}" if unix else base
        self._unix = unix
        self._form = form
        self._headers = {"Content-Type": CONTENT_TYPES[form], **headers}
        self._retries = retries
        self._timeout_s = timeout_s
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        connector = aiohttp.UnixConnector(self._unix) if self._unix else None
        self._session = aiohttp.ClientSession(
            connector=connector, timeout=aiohttp.ClientTimeout(total=self._timeout_s), trust_env=False
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def send(self, events: Sequence[Event]) -> Result:
        """Post one batch; 429 and 503 are tried again up to `retries` times, after Retry-After or 1, 2, 4… seconds."""
        body = _body(events, self._form)
        for attempt in range(self._retries + 1):
            status, headers, text = await self._post(body)
            if status not in LATER or attempt == self._retries:
                return _result(status, headers, text, len(events))
            await asyncio.sleep(_wait_s(headers.get("Retry-After"), attempt))
        raise AssertionError("unreachable")

    async def _post(self, body: bytes) -> tuple[int, Mapping[str, str], bytes]:
        assert self._session is not None  # noqa: S101  entered by the caller
        try:
            async with self._session.post(self._url, data=body, headers=self._headers, allow_redirects=False) as answer:
                return answer.status, answer.headers, await answer.read()
        except (aiohttp.ClientConnectorError, FileNotFoundError) as error:
            message = (
                f"nothing answers at {self._where} ({_cause(error)}): is it running? Start it with `forwarder run`"
            )
            raise DaemonUnreachable(message) from error
        except TimeoutError as error:
            message = f"{self._where} did not answer within {self._timeout_s:g} s; the last batch may be accepted"
            raise DaemonUnreachable(message) from error
        except aiohttp.ClientError as error:
            message = f"{self._where} broke off before its answer ({error}); the last batch may be accepted"
            raise DaemonUnreachable(message) from error


class DatagramSender:
    """Sends each event in a datagram of its own. Nobody answers; only an absent listener on this machine is noticed."""

    answered = False
    batch = 1

    def __init__(self, family: socket.AddressFamily, address: tuple[str, int] | str, where: str) -> None:
        self._family = family
        self._address = address
        self._where = where
        self._socket: socket.socket | None = None

    async def __aenter__(self) -> Self:
        self._socket = socket.socket(self._family, socket.SOCK_DGRAM)
        try:
            self._socket.connect(self._address)
        except OSError as error:
            self._socket.close()
            raise self._unreachable(error) from error
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._socket is not None:
            self._socket.close()

    async def send(self, events: Sequence[Event]) -> Result:
        """Send one datagram; the kernel's "connection refused" for it comes at once on this machine."""
        assert self._socket is not None  # noqa: S101  entered by the caller
        try:
            self._socket.send(events[0].text)
            pending = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        except OSError as error:
            if error.errno == errno.EMSGSIZE:
                return Result(
                    refused=[(0, f"{len(events[0].text)} bytes are too large for a datagram: send it by HTTP")]
                )
            raise self._unreachable(error) from error
        if pending:
            raise self._unreachable(OSError(pending, os.strerror(pending)))
        return Result(accepted=1)

    def _unreachable(self, error: OSError) -> DaemonUnreachable:
        return DaemonUnreachable(
            f"nothing listens at {self._where} ({error}): is it running? Start it with `forwarder run`"
        )


def default_form(path: str) -> Form:
    """Return the body form that a path takes: Encharge and the oldest TelemetryDeck path take one object a request."""
    bare = path.partition("?")[0].rstrip("/")
    if bare == "/events":
        return "ndjson"
    return "single" if bare.startswith("/v1") or bare.endswith("/signals") else "array"


def split(to: str) -> tuple[str, Any]:
    """Return ("http", base URL), ("unix", path), ("udp", (host, port)) or ("unixgram", path); raises ValueError."""
    scheme, _, rest = to.partition(":")
    if scheme in ("unix", "unixgram"):
        if not rest.startswith("/"):
            raise ValueError(f"expected {scheme}:/absolute/path, got {to!r}")
        return scheme, rest
    url = urlsplit(to if "://" in to else f"http://{to}")
    if url.scheme not in ("http", "https", "udp") or not url.hostname or url.path.strip("/") or url.query:
        raise ValueError(f"expected http://HOST:PORT, udp://HOST:PORT, unix:/PATH or unixgram:/PATH, got {to!r}")
    if url.scheme == "udp":
        if url.port is None:
            raise ValueError(f"expected udp://HOST:PORT, got {to!r}")
        return "udp", (url.hostname, url.port)
    return "http", f"{url.scheme}://{url.netloc}"


def _body(events: Sequence[Event], form: Form) -> bytes:
    if form == "array":
        return b"[" + b",".join(event.text for event in events) + b"]"
    return b"\n".join(event.text for event in events)


def _result(status: int, headers: Mapping[str, str], text: bytes, count: int) -> Result:
    document = _object(text)
    refused = _refusals(document, count)
    error = _explanation(document, text)
    if 200 <= status < 300:  # noqa: PLR2004  success
        told = document.get("accepted")
        accepted = told if isinstance(told, int) else count - len(refused)
        return Result(accepted, refused, headers.get("Forwarder-Ack"))
    if status in ABOUT_EVENTS:
        named = {index for index, _ in refused}
        others = [(index, f"{status}: {error}") for index in range(count) if index not in named]
        return Result(0, sorted(refused + others))
    return Result(fatal=f"answered {status}: {error}")


def _object(text: bytes) -> dict[str, Any]:
    with contextlib.suppress(msgspec.DecodeError):
        document = msgspec.json.decode(text)
        if isinstance(document, dict):
            return document
    return {}


def _explanation(document: dict[str, Any], text: bytes) -> str:
    worded = next((document[key] for key in ("error", "reason") if isinstance(document.get(key), str)), None)
    return worded or text[:300].decode(errors="replace").strip() or "no explanation"


def _refusals(document: dict[str, Any], count: int) -> list[tuple[int, str]]:
    rows = document.get("refused")
    found: list[tuple[int, str]] = []
    for row in rows if isinstance(rows, list) else []:
        index = row.get("index") if isinstance(row, dict) else None
        if isinstance(index, int) and 0 <= index < count:
            found.append((index, str(row.get("error", "refused"))))
    return found


def _wait_s(retry_after: str | None, attempt: int) -> float:
    asked = float(retry_after) if retry_after and retry_after.isdigit() else float(2**attempt)
    return min(asked, LONGEST_WAIT_S)


def _cause(error: OSError) -> str:
    """Return the system's own words; asyncio wraps them."""
    return os.strerror(error.errno) if error.errno else str(error)
