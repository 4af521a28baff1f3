"""One kept connection to a vendor: a request is written in one go, the answer is parsed as it comes.

Hot path (benchmarks/delivery.py): no task and no timer of its own a request.
"""

import asyncio
from typing import cast

import httptools

from forwarder.core.lane.outcome import Unreachable
from forwarder.flusher import tls, transport
from forwarder.flusher.alarm import Alarm
from forwarder.flusher.transport import ANSWER_BYTES, BODY_PATIENCE_S, KEEP_ALIVE_S, Exchange, Reply

HEAD_LIMIT = 32 * 1024
"""Bytes of an answer until its head is complete (interim answers included); llhttp itself knows no limit."""
PART = 256 * 1024
"""What is written at once of a large body."""
_INTERIM = range(100, 200)
_SWITCHING = 101
_KEPT = frozenset((b"retry-after", b"date", b"location"))


class Connection(asyncio.Protocol):
    """Takes one request at a time; `usable` says whether it takes the next one."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._parser: httptools.HttpResponseParser | None = httptools.HttpResponseParser(self)
        self._waiter: asyncio.Future[Exchange] | None = None
        self._alarm = Alarm(self._loop, self._ring)
        self._rest = memoryview(b"")
        self._paused = False
        self._lost: Exception | None = None
        self._begin()

    def _begin(self) -> None:
        """Forget the last answer."""
        self._status = 0
        self._headers: dict[bytes, bytes] = {}
        self._start = b""
        self._head_size = 0
        self._complete = self._surplus = self._lasting = self._patient = False

    @property
    def usable(self) -> bool:
        """Return whether a request may be made: the connection is open and nothing is under way on it."""
        return self._waiter is None and not self._transport.is_closing()

    def ask(self, request: bytes, rest: bytes, timeout_s: float) -> asyncio.Future[Exchange]:
        """Write a request (and `rest`, in parts, behind it); the future never fails."""
        waiter: asyncio.Future[Exchange] = self._loop.create_future()
        if self._transport.is_closing():
            waiter.set_result(self._unsent())
            return waiter
        self._begin()
        self._waiter = waiter
        self._alarm.set_in(timeout_s)
        self._transport.write(request)
        if rest:
            self._rest = memoryview(rest)
            self._write_more()
        return waiter

    def close(self) -> None:
        """Close at once; a request under way ends as ambiguous."""
        if self._waiter is None:
            self._transport.close()
        else:
            self._transport.abort()

    # --- what the loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport; what nobody asks anything is closed soon."""
        self._transport = cast("asyncio.Transport", transport)
        self._alarm.set_in(KEEP_ALIVE_S)

    def data_received(self, data: bytes) -> None:
        """Parse; whatever comes unasked ends the connection."""
        if self._waiter is None or self._parser is None:
            self._transport.abort()
            return
        if not self._status:
            self._head_size += len(data)
        garbled = False
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            garbled = True
        if self._status:
            if garbled or self._complete or len(self._start) >= ANSWER_BYTES:
                self._answer(keep=self._complete and not garbled)
            elif not self._patient:
                self._patient = True
                self._alarm.set(min(self._alarm.deadline, self._loop.time() + BODY_PATIENCE_S))
        elif garbled or self._head_size > HEAD_LIMIT:
            self._end(transport.NOT_HTTP)

    def eof_received(self) -> None:
        """Let the transport close itself."""

    def connection_lost(self, exc: Exception | None) -> None:
        """End what is under way: with the status if it has come, for the status decides."""
        self._lost, self._parser = exc, None
        self._alarm.stop()
        if self._waiter is None:
            return
        if self._status:
            self._answer(keep=False)
        else:
            self._end(self._unsent() if self._rest else self._unanswered())

    def pause_writing(self) -> None:
        """Stop handing over parts of a large body."""
        self._paused = True

    def resume_writing(self) -> None:
        """Go on with a large body."""
        self._paused = False
        self._write_more()

    # --- what the parser calls

    def on_message_begin(self) -> None:
        """Take note of a second answer to one request."""
        self._surplus = self._complete

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep the headers that matter, the first of each."""
        if not self._status and (name := name.lower()) in _KEPT:
            self._headers.setdefault(name, value)

    def on_headers_complete(self) -> None:
        """Take the status; interim answers are passed over."""
        if self._complete or self._parser is None:
            return
        status = self._parser.get_status_code()
        if status in _INTERIM and status != _SWITCHING:
            self._headers.clear()
            return
        self._status = status
        self._lasting = self._parser.should_keep_alive()

    def on_body(self, piece: bytes) -> None:
        """Keep the start of the body."""
        if len(self._start) < ANSWER_BYTES and not self._complete:
            self._start += piece[:ANSWER_BYTES]

    def on_message_complete(self) -> None:
        """Take note that the answer is whole."""
        self._complete = self._complete or self._status != 0

    # --- ends

    def _answer(self, *, keep: bool) -> None:
        """Hand the reply over; keep the connection only if both sides are done with it."""
        start = self._start[:ANSWER_BYTES].decode(errors="replace")
        if self._headers:
            get = self._headers.get
            texts = _text(get(b"retry-after")), _text(get(b"date")), _text(get(b"location"))
            reply = Reply(self._status, start, *texts)
        else:
            reply = Reply(self._status, start)
        self._end(reply, keep=keep and self._lasting and not self._surplus and not self._rest)

    def _end(self, result: Exchange, *, keep: bool = False) -> None:
        waiter, self._waiter = self._waiter, None
        self._rest = memoryview(b"")
        if keep:
            self._alarm.set_in(KEEP_ALIVE_S)
        else:
            self._transport.abort()
        if waiter is not None and not waiter.done():
            waiter.set_result(result)

    def _unsent(self) -> Exchange:
        """Return why a request that never was on the wire as a whole has failed: nobody can have acted on it."""
        return self._certificates() or transport.NOT_SENT

    def _unanswered(self) -> Exchange:
        words = "the connection was closed before the answer" if self._lost is None else _words(self._lost)
        return self._certificates() or Unreachable("reset", ambiguous=True, detail=words)

    def _certificates(self) -> Exchange | None:
        """Return what TLS 1.3 tells only after the handshake: a certificate is missing or not liked."""
        return Unreachable("tls", detail=_words(self._lost)) if tls.about_certificates(self._lost) else None

    # --- large bodies, deadlines

    def _write_more(self) -> None:
        while self._rest and not self._paused and not self._transport.is_closing():
            part, self._rest = self._rest[:PART], self._rest[PART:]
            self._transport.write(part)

    def _ring(self) -> None:
        if self._waiter is None:
            self._transport.close()
        elif self._status:
            self._answer(keep=False)
        else:
            self._end(transport.NO_ANSWER)


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode("latin-1")


def _words(error: Exception | None) -> str:
    return type(error).__name__ if not str(error) else f"{type(error).__name__}: {error}"[:200]
