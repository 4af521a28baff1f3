"""What one turn of the loop brings, of all connections: read together, checked together, submitted together.

Hot path (`make bench`). A callback that reads a socket leaves what is small here. When the loop has read all sockets,
the requests are taken one after another, with the same few functions warm in the processor's caches (half the time of
taking each in its own callback), small bodies of one route are checked in one go, and what is for one destination
under one batch key goes to the intake as one group. Nothing overtakes: whatever is submitted in another way first
settles what was left.
"""

import asyncio
from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING

from forwarder.core.seams import Clock, Durability, Failed, Group, Intake, Stored, Trait
from forwarder.metrics import Histogram
from forwarder.sources.stamp import Stamp
from forwarder.vendors.base import Route

if TYPE_CHECKING:
    from forwarder.sources.connection import Connection
    from forwarder.sources.exchange import Submission

SMALL_READ = 16 * 1024
"""Bytes read from one connection that may wait for the end of the turn; more are taken at once."""
FEW = 4
"""So many bodies are worth checking together."""
APART = 50
"""Times that bodies are checked one by one, after they could not be checked together."""
MAX_SIZE = 512 * 1024
"""Bytes of events submitted together; half of what a frame may hold."""


class Turn:
    """Collects what was read, and the groups found in it. `now` and `stamp` are the times of what is being taken."""

    def __init__(self, *, intake: Intake, clock: Clock, duration: Histogram) -> None:
        self.now = 0.0
        self.stamp = b""
        self._intake = intake
        self._clock = clock
        self._duration = duration
        self._stamps = Stamp(clock)
        self._read: list[tuple[Connection, bytes]] = []
        self._bodies: dict[tuple[Route, Durability], list[tuple[bytes, Submission]]] = {}
        self._gathered: dict[tuple[str, bytes], _Gathered] = {}
        self._apart = 0
        self._awaited = False
        """`end` will be called."""

    def leave(self, connection: "Connection", data: bytes) -> None:
        """Leave what a connection has read for the end of the turn."""
        if not self._awaited:
            self._await()
        self._read.append((connection, data))

    def take(self, connection: "Connection", data: bytes) -> None:
        """Take what a connection has read at once."""
        self._begin()
        connection.take(data)

    def end(self) -> None:
        """Take everything that was left, and submit what it holds."""
        read, self._read = self._read, []
        self._awaited = False
        self._begin()
        left = iter(read)
        try:
            for connection, data in left:
                connection.take(data)
        finally:
            for each in left:  # one that raises (a bug) must not cost the others their requests
                self.leave(*each)
            self._settle()

    def check(self, body: bytes, submission: "Submission") -> None:
        """Leave a small body to be checked together with others."""
        if not self._awaited:
            self._await()
        accept = submission.accept
        at = (accept.route, accept.terms.level)
        bodies = self._bodies.get(at)
        if bodies is None:
            self._bodies[at] = [(body, submission)]
        else:
            bodies.append((body, submission))

    def submit(self, groups: Sequence[Group], level: Durability, submission: "Submission") -> None:
        """Submit the events of one request: with others of this turn where nobody can tell the difference.

        Not so with several groups (all or none), and at `delivered` (each is told of its own).
        """
        self._check()
        if len(groups) == 1 and level is not Durability.DELIVERED:
            self._gather(groups[0], level, (submission,))
            return
        self._submit()
        busy = self._intake.submit(groups, level, submission.done)
        if busy is not None:
            submission.busy(busy)

    def _begin(self) -> None:
        self.now = self._clock.monotonic()
        self.stamp = self._stamps.now()

    def _await(self) -> None:
        self._awaited = True
        asyncio.get_running_loop().call_soon(self.end)

    def _settle(self) -> None:
        self._check()
        self._submit()

    def _check(self) -> None:
        """Check the bodies that were left: those of one route in one go if all is well, else each by itself."""
        if not self._bodies:
            return
        everything, self._bodies = self._bodies, {}
        for (route, level), bodies in everything.items():
            if len(bodies) < FEW or not self._together(route, level, bodies):
                for body, submission in bodies:
                    submission.check(body)

    def _together(self, route: Route, level: Durability, bodies: list[tuple[bytes, "Submission"]]) -> bool:
        """Check bodies in one go; return whether that is all: each holds one good event, of one batch key."""
        if self._apart:
            self._apart -= 1
            return False
        checked = route.check_each([body for body, _ in bodies], received_at=self.stamp)
        if checked is None or len(checked.groups) != 1:
            self._apart = APART
            return False
        submissions = [submission for _, submission in bodies]
        for submission in submissions:
            submission.accepted = 1
            submission.connection.listener.received.value += 1
        submissions[0].connection.listener.warn(checked.warnings)
        self._gather(checked.groups[0], level, submissions)
        return True

    def _gather(self, group: Group, level: Durability, submissions: Sequence["Submission"]) -> None:
        at = (group.destination, group.batch_key)
        gathered = self._gathered.get(at)
        if gathered is None or gathered.level is not level or gathered.size + group.size > MAX_SIZE:
            if gathered is not None:
                self._submit()
            if not self._awaited:
                self._await()
            gathered = self._gathered[at] = _Gathered(group, level, self.now)
        else:
            gathered.add(group)
        gathered.submissions += submissions

    def _submit(self) -> None:
        """Submit what was gathered, each key in one; where that is refused, each request by itself."""
        if not self._gathered:
            return
        everything, self._gathered = self._gathered, {}
        for gathered in everything.values():
            if self._intake.submit([gathered.group], gathered.level, partial(self._done, gathered)) is None:
                continue
            for group, submission in gathered.apart():
                busy = self._intake.submit([group], gathered.level, submission.done)
                if busy is not None:
                    submission.busy(busy)

    def _done(self, gathered: "_Gathered", result: Stored | Failed) -> None:
        """Answer all; one that raises (a bug) must not cost the others their answers."""
        if isinstance(result, Stored):
            self._duration.observe(self._clock.monotonic() - gathered.began, len(gathered.submissions))
        left = iter(gathered.submissions)
        try:
            for submission in left:
                if isinstance(result, Stored):
                    submission.stored(result.level)
                else:
                    submission.done(result)
        finally:
            gathered.submissions = list(left)
            if gathered.submissions:
                asyncio.get_running_loop().call_soon(self._done, gathered, result)


class _Gathered:
    """Requests for one destination, batch key and level, as one group."""

    __slots__ = ("began", "group", "level", "submissions")

    def __init__(self, group: Group, level: Durability, began: float) -> None:
        traits = None if group.traits is None else [*group.traits]
        self.group = Group(group.destination, group.batch_key, [*group.events], group.size, traits)
        self.level = level
        self.began = began
        self.submissions: list[Submission] = []

    @property
    def size(self) -> int:
        """Return the sum of the lengths of the events."""
        return self.group.size

    def add(self, group: Group) -> None:
        """Take more events in."""
        mine = self.group
        mine.events += group.events
        mine.size += group.size
        if mine.traits is not None and group.traits is not None:
            mine.traits += group.traits

    def apart(self) -> Iterator[tuple[Group, "Submission"]]:
        """Return each request's own group again."""
        whole, at = self.group, 0
        for submission in self.submissions:
            stop = at + submission.accepted
            events = whole.events[at:stop]
            traits: list[Trait] | None = None if whole.traits is None else whole.traits[at:stop]
            yield Group(whole.destination, whole.batch_key, events, sum(map(len, events)), traits), submission
            at = stop
