"""One request between its last byte and its answer: check, submit, wait for the level, answer.

Hot path (`make bench`): one object a request, a callback instead of a future, pre-built answers.
"""

from functools import partial
from typing import TYPE_CHECKING

from forwarder.core.seams import Busy, Durability, Failed, Stored
from forwarder.sources import answers
from forwarder.sources.answers import PLAIN, Denial, Shape
from forwarder.sources.plan import Accept
from forwarder.vendors.base import BadRequest, Checked, Refusal

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Sequence

    from forwarder.sources.connection import Connection

LARGE = 64 * 1024
"""Bytes of a body from which on it is checked on a thread: beyond it the check could stall the loop."""
_NONE_VALID = 400


class Exchange:
    """A place in the order of a connection's answers. `answer` is None until it is known; `last` closes after it."""

    __slots__ = ("answer", "last")

    def __init__(self, answer: bytes | None, *, last: bool = False) -> None:
        self.answer = answer
        self.last = last

    def expire(self) -> None:
        """Wait no longer than for what is certain already (only submissions wait)."""


AWAITED = Exchange(None)
"""The place of a request that waits in a burst; it is its connection's only one when it gets there."""


class Submission(Exchange):
    """An exchange that submits events. `size` bytes count as in flight until they are committed."""

    requests = 1
    __slots__ = (
        "accept", "accepted", "connection", "reached", "refused", "shape", "size", "started", "timer",
    )  # fmt: skip

    def __init__(self, connection: "Connection", accept: Accept, shape: Shape, size: int) -> None:
        self.answer = None
        self.last = shape.close
        self.connection = connection
        self.accept = accept
        self.shape = shape
        self.size = size
        self.accepted = 0
        self.refused: Sequence[Refusal] = ()
        self.reached: Durability | None = None
        self.timer: asyncio.TimerHandle | None = None

    def submit(self, body: bytes) -> None:
        """Have the body checked, and its events submitted."""
        connection = self.connection
        self.started = connection.door.turn.now
        if len(body) > LARGE or connection.checking:
            self._check_aside(body)
        else:
            self.check(body)

    def apart(self) -> "tuple[Submission]":
        """Return the requests that it stands for, as a burst does."""
        return (self,)

    def check(self, body: bytes) -> None:
        """Check the body by itself and submit its events."""
        accept = self.accept
        stamp = self.connection.door.turn.stamp
        self._take(accept.route.check(body, received_at=stamp, presented_key=accept.key))

    def _check_aside(self, body: bytes) -> None:
        """Check a large body, and whatever follows it on its connection, on a thread: the loop goes on meanwhile."""
        connection, accept = self.connection, self.accept
        connection.checking += 1
        check = partial(accept.route.check, body, received_at=connection.door.turn.stamp, presented_key=accept.key)
        connection.loop.run_in_executor(connection.door.checker, check).add_done_callback(self._checked)

    def _checked(self, future: "asyncio.Future[Checked | BadRequest]") -> None:
        self.connection.checking -= 1
        try:
            checked = future.result()
        except BaseException:
            self._release()
            self.connection.abort()  # a bug; the loop reports it
            raise
        self._take(checked)

    def _take(self, checked: Checked | BadRequest) -> None:
        connection, accept = self.connection, self.accept
        if isinstance(checked, BadRequest):
            self._deny(answers.denied(checked))
            return
        self.accepted = checked.accepted
        self.refused = checked.refused
        connection.listener.count(checked)
        terms = accept.terms
        if not checked.groups or (checked.refused and terms.strict):
            self._nothing(checked)
            return
        level = terms.level
        if level is Durability.DELIVERED and not connection.ending:
            self.timer = connection.loop.call_later(terms.wait_s, self.expire)
        connection.door.turn.submit(checked.groups, level, self)

    def done(self, result: Stored | Failed) -> None:
        """Take the intake's word; at `delivered` it comes twice: durable first, then delivered or not."""
        if self.answer is not None:
            return
        if isinstance(result, Stored):
            if self.timer is None or self.reached is not None or result.level is Durability.DELIVERED:
                self._stored(result.level)
            else:
                self.reached = result.level
                self._release()
        elif self.reached is None:
            self._failed(result)
        else:
            self._stored(self.reached)

    def expire(self) -> None:
        """Wait no longer for `delivered`: answer with the level reached, or as soon as one is."""
        self._stop_timer()
        if self.reached is not None and self.answer is None:
            self._stored(self.reached)

    def _stored(self, level: Durability) -> None:
        connection = self.connection
        connection.listener.duration.observe(connection.door.clock.monotonic() - self.started)
        self.stored(level)

    def stored(self, level: Durability) -> None:
        """Answer that the events are as durable as `level` says, unless that was said already."""
        if self.answer is not None:
            return
        connection, status = self.connection, self.accept.route.success_status
        answers = connection.door.answers
        if self.shape is PLAIN and not self.refused and not connection.ending:
            self._end(answers.accepted(status, self.accepted, level))
        else:
            self._end(answers.partly(status, self.accepted, self.refused, level, self._shape()))

    def _nothing(self, checked: Checked) -> None:
        """Answer a request of which nothing is to be stored: no valid event, `strict`, or an empty array."""
        door = self.connection.door
        if checked.refused:
            self.connection.listener.refuse("strict", checked.accepted)
            self._end(door.answers.partly(_NONE_VALID, 0, checked.refused, None, self._shape()))
        else:
            level = self.accept.terms.level
            self._end(door.answers.partly(self.accept.route.success_status, 0, (), level, self._shape()))

    def _deny(self, denial: Denial) -> None:
        self.connection.listener.deny(denial)
        self._end(self.connection.door.answers.denial(denial, self._shape()))

    def busy(self, busy: Busy) -> None:
        """Answer that nothing was stored."""
        self._unavailable(busy.limit, busy.message, max(1, busy.retry_after_s))

    def _failed(self, failed: Failed) -> None:
        self._unavailable("commit_failed", failed.message, 1)

    def _unavailable(self, reason: str, message: str, retry_after_s: int) -> None:
        self.connection.listener.refuse(reason, self.accepted)
        retry = b"Retry-After: %d\r\n" % retry_after_s
        denial = Denial(status=503, error=message, reason=reason, headers=retry)
        self._end(self.connection.door.answers.denial(denial, self._shape()))

    def _shape(self) -> Shape:
        """Return the shape of the answer: the last one of a connection that is being drained says so."""
        connection = self.connection
        if connection.ending and not self.last and connection.newest is self:
            self.last = True
            return self.shape.closing()
        return self.shape

    def _end(self, answer: bytes) -> None:
        self.answer = answer
        connection = self.connection
        if self.timer is not None:
            self._stop_timer()
        size = self.size
        if size:
            self.size = 0
            connection.door.inflight.release(size)
        connection.answered()

    def _stop_timer(self) -> None:
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None

    def _release(self) -> None:
        size, self.size = self.size, 0
        if size:
            self.connection.door.inflight.release(size)
