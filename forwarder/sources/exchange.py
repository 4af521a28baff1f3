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

LARGE = 256 * 1024
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


class Submission(Exchange):
    """An exchange that submits events. `size` bytes count as in flight until they are committed."""

    __slots__ = (
        "accept", "accepted", "connection", "reached", "refused", "shape", "size", "started", "timer",
    )  # fmt: skip

    def __init__(self, connection: "Connection", accept: Accept, shape: Shape) -> None:
        self.answer = None
        self.last = shape.close
        self.connection = connection
        self.accept = accept
        self.shape = shape
        self.accepted = 0
        self.refused: Sequence[Refusal] = ()
        self.reached: Durability | None = None
        self.timer: asyncio.TimerHandle | None = None

    def submit(self, body: bytes, size: int) -> None:
        """Check the body and submit its events."""
        connection, accept = self.connection, self.accept
        door = connection.door
        self.size = size
        self.started = door.clock.monotonic()
        if len(body) > LARGE or connection.checking:
            self._check_aside(body)
            return
        self._take(accept.route.check(body, received_at=door.stamp.now(), presented_key=accept.key))

    def _check_aside(self, body: bytes) -> None:
        """Check a large body, and whatever follows it on its connection, on a thread: the loop goes on meanwhile."""
        connection, accept = self.connection, self.accept
        connection.checking += 1
        check = partial(accept.route.check, body, received_at=connection.door.stamp.now(), presented_key=accept.key)
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
        door = connection.door
        if isinstance(checked, BadRequest):
            self._deny(answers.denied(checked))
            return
        self.accepted = checked.accepted
        self.refused = checked.refused
        connection.listener.count(checked)
        if not checked.groups or (checked.refused and accept.terms.strict):
            self._nothing(checked)
            return
        level = accept.terms.level
        if level is Durability.DELIVERED and not connection.ending:
            self.timer = connection.loop.call_later(accept.terms.wait_s, self.expire)
        busy = door.intake.submit(checked.groups, level, self.done)
        if busy is not None:
            self._busy(busy)

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
        door = connection.door
        connection.listener.duration.observe(door.clock.monotonic() - self.started)
        status = self.accept.route.success_status
        if self.shape is PLAIN and not self.refused and not connection.ending:
            self._end(door.answers.accepted(status, self.accepted, level))
        else:
            self._end(door.answers.partly(status, self.accepted, self.refused, level, self._shape()))

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

    def _busy(self, busy: Busy) -> None:
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
        self._stop_timer()
        self._release()
        self.connection.answered()

    def _stop_timer(self) -> None:
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None

    def _release(self) -> None:
        size, self.size = self.size, 0
        if size:
            self.connection.door.inflight.release(size)
