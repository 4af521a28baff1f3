"""One HTTP connection: bytes in, requests in order, answers in the same order, and pauses when there is too much.

Hot path (`make bench`). Everything is synchronous in the protocol's callbacks; there is no task a connection. A
head that was read before, byte for byte, is not parsed again: its plan is kept (familiar.py). `data_received` runs for
every request and does no more than it must for the plainest ones, which are all alike (burst.py).
"""

import asyncio
from collections import deque
from typing import TYPE_CHECKING, cast

from forwarder.sources import familiar
from forwarder.sources.answers import PLAIN, Denial, Shape
from forwarder.sources.body import Refused
from forwarder.sources.careful import Careful
from forwarder.sources.exchange import AWAITED, Exchange, Submission
from forwarder.sources.familiar import Known
from forwarder.sources.places import Places
from forwarder.sources.reader import Reader

if TYPE_CHECKING:
    from forwarder.sources.http import HttpDoor, HttpListener

MAX_UNANSWERED = 256
"""Requests of one connection waiting for an answer; beyond it reading pauses until half of them are answered."""
HIGH_WATER = 64 * 1024
"""Bytes of answers that the peer has not read; beyond it nothing more is parsed."""
INFLATED_STEP = 1024 * 1024
"""Bytes that compressed bodies may become before the other connections have their turn."""
SMALL_READ = 16 * 1024
"""Bytes of a read as small requests bring it; beyond it a connection reads with care."""


class Connection(asyncio.Protocol):
    """The protocol of one connection."""

    def __init__(self, listener: "HttpListener") -> None:
        self.listener = listener
        self.door: HttpDoor = listener.door
        self.loop = listener.loop
        self.ending = False
        """No more requests are wanted: close as soon as all are answered."""
        self.checking = 0
        """Requests whose bodies are being checked on the thread; those that follow wait, so that order is kept."""
        self.owed: deque[Exchange] = deque()
        """The requests that are not answered yet, in order."""
        self.deaf = False
        """Nothing more is read as HTTP."""
        self.choked = False
        """The peer does not read its answers."""
        self.known: Known | None = None
        """The head that was known last; most clients send the same one again."""
        self.careful = False
        """It reads no more at once than the door allows."""
        self._seen = self._began = self._stuck = self._close_at = 0.0
        self._transport: asyncio.Transport | None = None
        self._gone = self._eof = self._paused = self._reading = self._flushing = False
        self._stepping = False
        """Paused for the others' turn only; `_step` goes on."""
        self._pending = b""
        self._reader = Reader(Places(self), self.door.inflight)

    # ---- life

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take a place, or answer 503 and hang up when all are taken."""
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=HIGH_WATER)
        self._seen = self.door.clock.monotonic()
        crowded = self.listener.joined(self)
        if self.listener.rules.token is None:  # which a head may hold, and which nobody must learn byte by byte
            self.known = self.listener.familiar.latest
        if self.door.inflight.full:
            self.take_care()
        if crowded is not None:
            self.refuse(crowded)
            if self.door.connections > 2 * self.listener.rules.settings.max_connections:
                self.abort()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - why it ended changes nothing
        """Give back what this connection holds; events already submitted go their way."""
        self._gone = self.deaf = True
        self._reader.drop()
        self._drop_pending()
        for exchange in tuple(self.owed):
            exchange.expire()
        self.owed.clear()
        self.door.careless.discard(self)
        self.door.inflight.leave(self)
        self.listener.left(self)

    def end(self) -> None:
        """Drain: no further requests; what is asked already is answered, `delivered` with the level reached."""
        self.ending = True
        for exchange in tuple(self.owed):
            exchange.expire()
        if self._reader.between and not self._pending and not self.owed:
            self._hang_up(linger=False)

    def abort(self) -> None:
        """Close at once."""
        if self._transport is not None:
            self._transport.abort()

    def sweep(self, now: float) -> None:
        """Enforce the time-outs; called about once a second. Waiting for us costs the peer nothing."""
        times = self.door.times
        if self._close_at:
            if now >= self._close_at:
                self.abort()
        elif self.choked:
            if now - self._stuck >= times.write_s:
                self.abort()
        elif self._paused or self.owed:
            self._seen = self._began = now
        elif self._reader.between:
            if now - self._seen >= times.idle_s:
                self._hang_up(linger=False)
        elif now - self._began >= (times.head_s if self._reader.in_head else times.body_s):
            what = "head" if self._reader.in_head else "body"
            self.refuse(Denial(status=408, error=f"the request's {what} took too long", reason="timeout", close=True))

    # ---- bytes in

    def data_received(self, data: bytes) -> None:
        """Take what was read; the plainest requests go into a burst."""
        door = self.door
        known = self.known
        if (
            known is not None
            and not (self.owed or self.deaf or self.choked or self._paused)
            and (head := known.whole.get(size := len(data))) is not None
            and data.startswith(head)
            and self._reader.between
        ):
            inflight = door.inflight
            if inflight.held < inflight.shared:
                start = len(head)
                inflight.held += size - start
                self._seen = door.now
                self.owed.append(AWAITED)
                burst = known.burst or door.turn.burst(self.listener, known)
                burst.connections.append(self)
                burst.bodies.append(data[start:])
                return
        self._receive(data)

    def _receive(self, data: bytes) -> None:
        if self.deaf:
            return
        if not self._reader.between or data.strip(b"\r\n"):  # empty lines before a request win no time
            self._seen = self.door.now
        if self.owed and self.owed[-1] is AWAITED and self.door.turn.requests:
            self.door.turn.end()  # an earlier request of this connection may be in a burst: its order is kept
        if self._paused:
            self._hold(data)
        else:
            self.door.turn.take(self, data)
        if len(data) > SMALL_READ:
            self.take_care()

    def take_care(self) -> None:
        """Read in steps that the door allows from now on: bodies are large, or memory is short."""
        transport = self._transport
        if self.careful or transport is None or transport.is_closing():
            return
        self.careful = True
        self.door.careless.discard(self)
        transport.set_protocol(Careful(self, self.door))

    def eof_received(self) -> bool:
        """Keep a half-closed connection until everything is answered."""
        self._eof = True
        if not self._pending:
            self._at_eof()
        return bool(self.owed or self._pending)

    def take(self, data: bytes) -> None:
        """Take what was read: whole requests, or pieces."""
        if self.deaf:
            return
        self._reading = True
        at = self._known(data) if self._reader.between else 0
        if at < len(data):
            self._feed(data, at)
        self._reading = False
        if self._eof and not self._pending and not self._gone:
            self._at_eof()

    def _known(self, data: bytes) -> int:
        """Take whole requests whose head was read before; return where the parser must go on."""
        size, at, known = len(data), 0, self.known
        while at < size and not self.deaf and not self._blocked():
            if known is None or (found := known.body(data, at)) is None:
                known = self.known = self.listener.familiar.find(data, at)
                if known is None or (found := known.body(data, at)) is None:
                    break
            start, stop = found
            if stop > size or stop - start > self.listener.rules.settings.max_body:
                break
            plainest = at == 0 and stop == size and 0 < stop - start <= known.accept.small
            if plainest and not self.listener.familiar.keep(known, size, data[:start]):
                self.known = None
            self.door.inflight.held += stop - start
            submission = Submission(self, known.accept, PLAIN, stop - start)
            self.owed.append(submission)
            submission.submit(data[start:stop])
            at = stop
        return at

    def _feed(self, data: bytes, at: int) -> None:
        reader, view = self._reader, memoryview(data)
        if reader.between:
            reader.candidate(data[at : data.find(b"\r\n\r\n", at, at + familiar.MAX_BYTES) + 4])
            reader.max_body = self.listener.rules.settings.max_body
        enough = reader.inflated + INFLATED_STEP
        try:
            while at < len(data) and not self.deaf:
                if self._blocked():
                    self._pause(data[at:])
                    return
                if reader.inflated >= enough:
                    self._pause(data[at:])
                    self._stepping = True
                    self.loop.call_soon(self._step)
                    return
                phase = reader.phase
                at += reader.feed(view[at : reader.stop(data, at)])
                if reader.phase != phase:
                    self._began = self.door.now
        except Refused as refused:
            if not self.deaf:
                self.refuse(refused.denial)

    def _blocked(self) -> bool:
        if self.checking or len(self.owed) >= MAX_UNANSWERED or self.choked:
            return True
        inflight = self.door.inflight
        if inflight.held < inflight.shared:
            return False
        self.door.take_care()
        return inflight.blocks(self)

    def _hold(self, data: bytes) -> None:
        self._pending += data
        self.door.inflight.held += len(data)
        if self.door.inflight.full:
            self.door.take_care()

    def _pause(self, rest: bytes) -> None:
        self._hold(rest)
        self._paused = True
        if not self._eof and self._transport is not None:
            self._transport.pause_reading()

    def _step(self) -> None:
        """Inflate on, now that the others have had their turn."""
        self._stepping = False
        self._resume()

    def _resume(self) -> None:
        if not self._paused or self._stepping or self._reading or self._gone:
            return
        if len(self.owed) > MAX_UNANSWERED // 2 or self._blocked():
            return
        self._paused = False
        data, self._pending = self._pending, b""
        self.door.inflight.held -= len(data)
        self.door.turn.take(self, data)
        if not (self._paused or self._eof or self._gone) and self._transport is not None:
            self._transport.resume_reading()

    def room(self) -> None:
        """Go on: there may be room in memory again. What cannot go on for another reason gives its turn away."""
        self._resume()
        if self._paused and not self._stepping:
            self.door.inflight.settle(self)

    def _drop_pending(self) -> None:
        size, self._pending = len(self._pending), b""
        if size:
            self.door.inflight.release(size)

    def _at_eof(self) -> None:
        if not self._reader.between and not self.deaf:
            self.refuse(Denial(status=400, error="the request ended early", reason="cut_short", close=True))
        elif not self.owed:
            self._hang_up(linger=False)

    # ---- answers out

    def refuse(self, denial: Denial) -> None:
        """Answer (after earlier answers), then close: whatever else arrives is not read as HTTP."""
        shape = self._reader.shape or Shape(self.listener.rules.cors(self._reader.headers))
        self.deaf = True
        self._reader.drop()
        self._drop_pending()
        self.listener.deny(denial)
        answer = self.door.answers.denial(denial, shape.closing())
        self.owe(Exchange(answer, last=True))

    def owe(self, exchange: Exchange) -> None:
        """Give an answer that is known its place, and write it when those before it are."""
        self.owed.append(exchange)
        self.answered()

    @property
    def newest(self) -> Exchange | None:
        """Return the last of the requests that are not answered yet."""
        return self.owed[-1] if self.owed else None

    def answered(self) -> None:
        """Write what is ready, in order; several answers of one turn of the loop go out together.

        What is answered while it is read waits for the next turn, so that it counts as unanswered: a client that asks
        for a thousand refusals in one read must not keep the loop.
        """
        if len(self.owed) == 1 and not self._reading:
            self._flush()
        elif not self._flushing and self.owed and self.owed[0].answer is not None:
            self._flushing = True
            self.loop.call_soon(self._flush)

    def answer(self, answer: bytes) -> bool:
        """Answer the request that waits in a burst; return whether that was possible without further ado."""
        owed, transport = self.owed, self._transport
        if len(owed) != 1 or owed[0] is not AWAITED or transport is None:
            return False
        if self.ending or self._eof or self._paused or self.door.inflight.elder is self:
            return False
        owed.clear()
        transport.write(answer)
        return True

    def pause_writing(self) -> None:
        """Stop parsing: the peer does not read its answers."""
        self.choked = True
        self._stuck = self.door.now

    def resume_writing(self) -> None:
        """Go on."""
        self.choked = False
        self._resume()

    def forget(self) -> None:
        """Read the next head anew: the rules have changed."""
        self.known = None

    def _flush(self) -> None:
        self._flushing = False
        owed, ready, last = self.owed, [], False
        while owed and not last and (answer := owed[0].answer) is not None:
            ready.append(answer)
            last = owed.popleft().last
        transport = self._transport
        if not ready or self._gone or transport is None or self._close_at:
            return
        transport.write(ready[0] if len(ready) == 1 else b"".join(ready))
        if self.door.inflight.elder is self:
            self.door.inflight.settle(self)
        if last:
            self._hang_up(linger=not self._eof)
        elif not owed and not self._pending and (self._eof or (self.ending and self._reader.between)):
            self._hang_up(linger=False)
        elif self._paused:
            self._resume()

    def _hang_up(self, *, linger: bool) -> None:
        """Close once the answers are written. A peer that may still be sending reads its answer before the reset."""
        transport = self._transport
        if transport is None or self._close_at:
            return
        self.deaf = True
        self.owed.clear()
        self._close_at = self.door.clock.monotonic() + self.door.times.close_s
        if linger and transport.can_write_eof():
            transport.write_eof()
            if self._paused:
                self._paused = False
                transport.resume_reading()
        else:
            transport.close()
