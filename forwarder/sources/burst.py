"""A burst: the plainest requests of one turn of the loop (or a few), as two lists instead of an object a request.

Hot path (`make bench`). Plainest means: a head that was read before, a small body, all of it in one read, on a
connection that owes no other answer. Nearly all that real clients send is that. A burst is checked in one go and
answered in one go; where that cannot be, its requests become submissions of their own. Where its events go into several
groups (several apps), it is answered when all of them are stored; whose event went where is asked only when one is not.
"""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from forwarder.core.seams import Durability, Group
from forwarder.sources.answers import PLAIN
from forwarder.sources.exchange import AWAITED, Submission
from forwarder.vendors.base import BadRequest

if TYPE_CHECKING:
    from forwarder.sources.connection import Connection
    from forwarder.sources.familiar import Known
    from forwarder.sources.http import HttpListener
    from forwarder.sources.plan import Accept

Key = tuple[str, bytes]
"""Destination and batch key."""


class Burst:
    """Requests that mean the same; each is to hold one event. `bodies[i]` came over `connections[i]`."""

    __slots__ = ("_by_key", "_heads", "accept", "bodies", "connections", "listener", "parts", "reached", "started")

    def __init__(self, listener: "HttpListener", accept: "Accept", started: float) -> None:
        self.listener = listener
        self.accept = accept
        self.started = started
        """When the first of its requests was read; monotonic seconds."""
        self._heads: list[Known] = []
        self.connections: list[Connection] = []
        self.bodies: list[bytes] = []
        self.parts = 0
        """Of several groups: those that have not ended yet."""
        self.reached = Durability.DELIVERED
        """The least that one of them has reached."""
        self._by_key: dict[Key | None, list[tuple[Connection, bytes]]] | None = None
        """Its requests, once one of several groups was let go."""

    @property
    def requests(self) -> int:
        """Return the number of requests, which is that of the events."""
        return len(self.bodies)

    def admit(self, known: "Known") -> None:
        """Let requests with this head in, until `shut`."""
        self._heads.append(known)
        known.burst = self

    def shut(self) -> None:
        """Let no more requests in."""
        for known in self._heads:
            known.burst = None

    def check_apart(self) -> None:
        """Check and submit each request by itself; one that raises (a bug) must not cost the others theirs."""
        left = zip(self.apart(), self.bodies, strict=True)
        try:
            for submission, body in left:
                submission.check(body)
        finally:
            for submission, body in left:
                self.listener.loop.call_soon(submission.check, body)

    def apart(self) -> Iterator[Submission]:
        """Return its requests as submissions, in order."""
        for connection, body in zip(self.connections, self.bodies, strict=True):
            yield self._submission(connection, len(body))

    def stored(self, level: Durability) -> None:
        """Answer all that their events are stored; one that raises (a bug) must not cost the others their answers."""
        door = self.listener.door
        size, self.bodies = sum(map(len, self.bodies)), []
        door.inflight.release(size)
        answer = door.answers.accepted(self.accept.route.success_status, 1, level)
        left = iter(self.connections)
        try:
            for connection in left:
                if not connection.answer(answer):
                    self._submission(connection, 0).stored(level)
        finally:
            self.connections = [*left]
            if self.connections:
                self.listener.loop.call_soon(self.stored, level)

    def divide(self, groups: Sequence[Group]) -> "list[Part]":
        """Return who waits for each of these groups, which hold its events."""
        self.parts = len(groups)
        return [Part(self, (group.destination, group.batch_key), len(group.events)) for group in groups]

    def release(self, key: Key) -> list[Submission]:
        """Let go of the requests whose events went under this key; return them as submissions, in order."""
        if self._by_key is None:
            by_key: dict[Key | None, list[tuple[Connection, bytes]]] = {}
            for connection, body in zip(self.connections, self.bodies, strict=True):
                by_key.setdefault(self._key(body), []).append((connection, body))
            self._by_key = by_key
        return [self._submission(connection, len(body)) for connection, body in self._by_key.pop(key, ())]

    def _key(self, body: bytes) -> Key | None:
        checked = self.accept.route.check(body, received_at=b"")
        group = None if isinstance(checked, BadRequest) else checked.groups[0]
        return None if group is None else (group.destination, group.batch_key)

    def ended(self, level: Durability) -> None:
        """Note that one of its parts is stored, or has let go; answer when that was the last one."""
        self.parts -= 1
        self.reached = min(self.reached, level)
        if self.parts:
            return
        if self._by_key is not None:
            left = [pair for pairs in self._by_key.values() for pair in pairs]
            self.connections, self.bodies = [connection for connection, _ in left], [body for _, body in left]
        self.stored(self.reached)

    def _submission(self, connection: "Connection", size: int) -> Submission:
        submission = Submission(connection, self.accept, PLAIN, size)
        submission.accepted = 1
        submission.started = self.started
        if connection.owed and connection.owed[0] is AWAITED:
            connection.owed[0] = submission
        return submission


class Part:
    """The requests of a burst whose events are in one group of several."""

    __slots__ = ("burst", "key", "requests", "started")

    def __init__(self, burst: Burst, key: Key, requests: int) -> None:
        self.burst = burst
        self.key = key
        self.requests = requests
        self.started = burst.started

    def apart(self) -> list[Submission]:
        """Return its requests as submissions, in order; the burst no longer answers them."""
        submissions = self.burst.release(self.key)
        self.burst.ended(self.burst.reached)
        return submissions

    def stored(self, level: Durability) -> None:
        """Note that its events are stored."""
        self.burst.ended(level)
