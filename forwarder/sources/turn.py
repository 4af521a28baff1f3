"""What one turn of the loop brings, of all connections: checked together, submitted together.

Hot path (`make bench`). The callbacks that read sockets put the plainest requests into bursts (burst.py), which are
checked in one go when the loop has read all sockets; and what is for one destination under one batch key goes to the
intake as one group. While the next commit waits for others, bursts do (core/joining.py). What one connection sends is
submitted in its order: a request is in a burst only while it is the one that its connection waits for.
"""

import asyncio
from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING

from forwarder.core.seams import Clock, Durability, Failed, Group, Intake, Stored, Trait
from forwarder.metrics import Histogram
from forwarder.sources.burst import Burst, Part
from forwarder.sources.exchange import Submission
from forwarder.sources.familiar import Known
from forwarder.sources.handing_in import hand_in
from forwarder.sources.stamp import Stamp
from forwarder.vendors.base import Route

if TYPE_CHECKING:
    from forwarder.sources.connection import Connection
    from forwarder.sources.http import HttpListener

FEW = 4
"""So many bodies are worth checking together."""
APART = 50
"""Times that the bodies of one route are checked one by one, after they could not be checked together."""
MAX_APART = 64
"""Routes of which that is remembered; at the limit all are forgotten, which costs a try each."""
MAX_SIZE = 512 * 1024
"""Bytes of events submitted together; half of what a frame may hold."""

Alike = tuple["HttpListener", Route, Durability]
"""What the requests of a burst have in common."""
Waiter = Submission | Burst | Part
"""Who waits for a group."""


class Turn:
    """Collects bursts and the groups found in what was read. `now` and `stamp` are the times of what is being taken."""

    def __init__(self, *, intake: Intake, clock: Clock, duration: Histogram) -> None:
        self.now = 0.0
        self.stamp = b""
        self._intake = intake
        self._joining = intake.joining
        self._joining.attach(self)
        self._clock = clock
        self._duration = duration
        self._stamps = Stamp(clock)
        self._bursts: dict[Alike, Burst] = {}
        self._gathered: dict[tuple[str, bytes], _Gathered] = {}
        self._apart: dict[Alike, int] = {}
        self._awaited = False
        """The loop will call `_end_awaited`."""

    def take(self, connection: "Connection", data: bytes) -> None:
        """Take what a connection has read at once."""
        self._begin()
        connection.take(data)

    def end(self) -> None:
        """Check and submit what was collected."""
        self._begin()
        try:
            self._check()
        finally:
            self._submit()

    @property
    def requests(self) -> int:
        """Return the number of requests in bursts, which are not checked yet."""
        return sum([burst.requests for burst in self._bursts.values()])

    def join(self) -> None:
        """End, whatever is awaited; a bug on the way is reported. What its answers let in is taken in the next turn."""
        self._awaited = True
        try:
            self.end()
        except Exception as error:  # noqa: BLE001 - the loop reports it
            told = {"message": "checking or submitting requests raised", "exception": error}
            asyncio.get_running_loop().call_exception_handler(told)
        finally:
            self._awaited = False
            if self._bursts or self._gathered:
                self._await()

    def _end_awaited(self) -> None:
        if self._joining.waiting:  # its end calls `join`
            self._awaited = False
            self._submit()
        else:
            self.join()

    def submit(self, groups: Sequence[Group], level: Durability, submission: Submission) -> None:
        """Submit the events of one request: with others of this turn where nobody can tell the difference.

        Not so with several groups (all or none), and at `delivered` (each is told of its own).
        """
        if len(groups) == 1 and level is not Durability.DELIVERED:
            self._gather(groups[0], level, submission)
            return
        self._submit()
        busy = hand_in(self._intake, groups, level, submission.done)
        if busy is not None:
            submission.busy(busy)

    def _begin(self) -> None:
        self.now = self._clock.monotonic()
        self.stamp = self._stamps.now()

    def _await(self) -> None:
        self._awaited = True
        asyncio.get_running_loop().call_soon(self._end_awaited)

    def burst(self, listener: "HttpListener", known: Known) -> Burst:
        """Return the burst that is open for requests with a known head."""
        if not self._awaited:
            self._await()
        accept = known.accept
        at = (listener, accept.route, accept.terms.level)
        burst = self._bursts.get(at)
        if burst is None:
            burst = self._bursts[at] = Burst(listener, accept, self._clock.monotonic())
        burst.admit(known)
        return burst

    def _check(self) -> None:
        """Check the bodies of each burst: in one go if all is well, else each by itself."""
        bursts, self._bursts = self._bursts, {}
        for burst in bursts.values():
            burst.shut()
        left = iter(bursts.items())
        try:
            for at, burst in left:
                if len(burst.bodies) < FEW or not self._together(at, burst):
                    burst.check_apart()
        finally:
            self._bursts.update(left)  # one that raises (a bug) must not cost the others their requests

    def _together(self, at: Alike, burst: Burst) -> bool:
        """Check bodies in one go; return whether that is all: each holds one good event."""
        if self._apart and self._is_apart(at):
            return False
        try:
            checked = burst.accept.route.check_each(burst.bodies, received_at=self.stamp)
        except BaseException:
            self._set_apart(at)
            burst.check_apart()
            raise
        if checked is None or not checked.groups:
            self._set_apart(at)
            return False
        burst.listener.count(checked)
        groups, level = checked.groups, burst.accept.terms.level
        waiters: Sequence[Waiter] = [burst] if len(groups) == 1 else burst.divide(groups)
        for group, waiter in zip(groups, waiters, strict=True):
            self._gather(group, level, waiter)
        return True

    def _is_apart(self, at: Alike) -> bool:
        left = self._apart.pop(at, 0)
        if left > 1:
            self._apart[at] = left - 1
        return left > 0

    def _set_apart(self, at: Alike) -> None:
        if len(self._apart) >= MAX_APART:
            self._apart.clear()
        self._apart[at] = APART

    def _gather(self, group: Group, level: Durability, waiter: Waiter) -> None:
        at = (group.destination, group.batch_key)
        while (gathered := self._gathered.get(at)) is not None and not gathered.takes(group, level):
            self._submit()  # which may let a connection go on that gathers under this key, so look again
        if gathered is not None:
            gathered.add(group, waiter)
            return
        if not self._awaited:
            self._await()
        self._gathered[at] = _Gathered(group, level, waiter)

    def _submit(self) -> None:
        """Submit what was gathered, each key in one; where that is refused, each request by itself."""
        if not self._gathered:
            return
        everything, self._gathered = self._gathered, {}
        for gathered in everything.values():
            if hand_in(self._intake, [gathered.group], gathered.level, partial(self._done, gathered)) is None:
                continue
            for group, submission in gathered.apart():
                busy = hand_in(self._intake, [group], gathered.level, submission.done)
                if busy is not None:
                    submission.busy(busy)

    def _done(self, gathered: "_Gathered", result: Stored | Failed) -> None:
        """Answer all; one that raises (a bug) must not cost the others their answers."""
        if isinstance(result, Failed):
            gathered.waiters = [submission for waiter in gathered.waiters for submission in waiter.apart()]
        now = self._clock.monotonic()
        left = iter(gathered.waiters)
        try:
            for waiter in left:
                if isinstance(result, Stored):
                    self._duration.observe(now - waiter.started, waiter.requests)
                    waiter.stored(result.level)
                elif isinstance(waiter, Submission):
                    waiter.done(result)
        finally:
            gathered.waiters = [*left]
            if gathered.waiters:
                asyncio.get_running_loop().call_soon(self._done, gathered, result)


class _Gathered:
    """Requests for one destination, batch key and level, as one group."""

    __slots__ = ("group", "level", "waiters")

    def __init__(self, group: Group, level: Durability, waiter: Waiter) -> None:
        traits = None if group.traits is None else [*group.traits]
        self.group = Group(group.destination, group.batch_key, [*group.events], group.size, traits)
        self.level = level
        self.waiters: list[Waiter] = [waiter]

    def takes(self, group: Group, level: Durability) -> bool:
        """Return whether more events may come in."""
        return self.level is level and self.group.size + group.size <= MAX_SIZE

    def add(self, group: Group, waiter: Waiter) -> None:
        """Take more events in."""
        mine = self.group
        mine.events += group.events
        mine.size += group.size
        if mine.traits is not None and group.traits is not None:
            mine.traits += group.traits
        self.waiters.append(waiter)

    def apart(self) -> Iterator[tuple[Group, Submission]]:
        """Return each request's own group again."""
        whole, at = self.group, 0
        for waiter in self.waiters:
            for submission in waiter.apart():
                stop = at + submission.accepted
                events = whole.events[at:stop]
                traits: list[Trait] | None = None if whole.traits is None else whole.traits[at:stop]
                yield Group(whole.destination, whole.batch_key, events, sum(map(len, events)), traits), submission
                at = stop
