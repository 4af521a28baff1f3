"""A burst: the plainest requests of one turn of the loop, as two lists instead of an object a request.

Hot path (`make bench`). Plainest means: a head that was read before, a small body, all of it in one read, on a
connection that owes no other answer. Nearly all that real clients send is that. A burst is checked in one go and
answered in one go; where that cannot be, its requests become submissions of their own.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from forwarder.core.seams import Durability
from forwarder.sources.answers import PLAIN
from forwarder.sources.exchange import AWAITED, Submission

if TYPE_CHECKING:
    from forwarder.sources.connection import Connection
    from forwarder.sources.http import HttpListener
    from forwarder.sources.plan import Accept


class Burst:
    """Requests that mean the same; each is to hold one event. `bodies[i]` came over `connections[i]`."""

    __slots__ = ("accept", "bodies", "connections", "listener")

    def __init__(self, listener: "HttpListener", accept: "Accept") -> None:
        self.listener = listener
        self.accept = accept
        self.connections: list[Connection] = []
        self.bodies: list[bytes] = []

    @property
    def requests(self) -> int:
        """Return the number of requests, which is that of the events."""
        return len(self.bodies)

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

    def _submission(self, connection: "Connection", size: int) -> Submission:
        submission = Submission(connection, self.accept, PLAIN, size)
        submission.accepted = 1
        submission.started = connection.door.turn.now
        if connection.owed and connection.owed[0] is AWAITED:
            connection.owed[0] = submission
        return submission
