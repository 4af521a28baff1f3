"""The requests under way: each runner makes one after another, and rests while the lane has nothing for it to send.

Hot path (benchmarks/delivery.py): the results that one turn of the loop brings are settled together, and what has ended
is in the ack journal, by one write for all, before the next request is on the wire: so a kill sends no more than the
requests in flight twice (P8).
"""

import asyncio
from collections.abc import Callable, Mapping

import structlog

from forwarder.core.lane.batch import Cut
from forwarder.core.lane.delivery import Delivery
from forwarder.core.lane.outcome import Answer, Judged, Result, Verdict
from forwarder.core.lane.settle import Send
from forwarder.core.seams import Clock, Spool
from forwarder.flusher.books import Books
from forwarder.flusher.client import Poster
from forwarder.flusher.effects import Effects
from forwarder.flusher.envelope import Envelope
from forwarder.vendors.base import Vendor

_NOTHING_LEFT = Answer(200)
"""Stands for the answer to a batch all of which was erased before it was sent: it is done with."""

Request = tuple[Send, Mapping[str, str]]
"""What to send, and the headers that were in force when that was decided."""

Ended = tuple[Send, Result, float]
"""What was sent, what came of it, and after how many seconds."""


class Requests:
    """Makes the requests of one lane. Their number is the lane's to decide."""

    def __init__(
        self,
        *,
        delivery: Delivery,
        spool: Spool,
        vendor: Vendor,
        envelope: Envelope,
        client: Poster,
        effects: Effects,
        books: Books,
        clock: Clock,
        jitter: Callable[[], float],
    ) -> None:
        self._delivery = delivery
        self._spool = spool
        self._vendor = vendor
        self._envelope = envelope
        self._client = client
        self._effects = effects
        self._books = books
        self._clock = clock
        self._jitter = jitter
        self._log = structlog.get_logger().bind(destination=spool.destination)
        self._runners: set[asyncio.Task[None]] = set()
        self._resting: list[asyncio.Future[Request]] = []
        """Runners that wait for their next request."""
        self._ended: list[Ended] = []
        """Requests that have ended and are not settled."""
        self.cut = Cut.DUE
        """How small a batch may be just now."""
        self.closed = False
        """Nothing new begins."""

    def open(self, tasks: asyncio.TaskGroup, ended: Callable[[], None]) -> None:
        """Let runners live in `tasks`; `ended` is called after each request, and asks for `settle` before long."""
        self._tasks, self._tell = tasks, ended

    def settle(self) -> None:
        """Settle the requests that have ended."""
        if not self._ended:
            return
        ended, self._ended = self._ended, []
        left = iter(ended)
        now = self._clock.monotonic()
        try:
            for send, result, duration_s in left:
                judged = self._delivery.settle(send, result, now=now, jitter=self._jitter())
                self._note(send, result, judged, duration_s)
        finally:
            self._ended[:0] = left  # one that raises (a bug) must not cost the others their results
        self._effects.perform()

    def begin(self) -> int:
        """Begin every request that may begin now; return their bytes. What has expired is left among the effects."""
        now = self._clock.monotonic()
        if self.closed or (self._envelope.headers is None and not self._found_key(now)):
            return 0
        size = 0
        headers, wall = self._envelope.headers, self._clock.wall()
        while headers is not None and (send := self._delivery.next(now=now, wall=wall, cut=self.cut)) is not None:
            self._begin((send, headers))
            size += send.batch.size
        return size

    def cut_off(self) -> None:
        """End at once; what was under way may arrive twice (P8)."""
        self.closed = True
        for runner in self._runners:
            runner.cancel()
        self._runners.clear()
        try:
            self.settle()
        finally:
            self._delivery.abandon()

    def read_key(self) -> None:
        """Read the write key again; without one the lane parks."""
        cause = self._envelope.read_key()
        if cause is not None and self._delivery.lane.parked is None:
            self._delivery.park(cause, now=self._clock.monotonic(), jitter=self._jitter())
            self._effects.perform()

    def _found_key(self, now: float) -> bool:
        """Look for a missing write key when a probe is due."""
        if self._delivery.lane.due(now):
            self.read_key()
            if self._envelope.headers is None:
                self._delivery.lane.postpone(now, self._jitter())
        return self._envelope.headers is not None

    def _begin(self, request: Request) -> None:
        while self._resting:
            rest = self._resting.pop()
            if not rest.done():
                rest.set_result(request)
                return
        self._runners.add(self._tasks.create_task(self._run(request)))

    async def _run(self, request: Request) -> None:
        loop = asyncio.get_running_loop()
        while True:
            started = self._clock.monotonic()
            result = await self._make(*request)
            self._ended.append((request[0], result, self._clock.monotonic() - started))
            self._tell()
            rest: asyncio.Future[Request] = loop.create_future()
            self._resting.append(rest)
            request = await rest

    async def _make(self, send: Send, headers: Mapping[str, str]) -> Result:
        key = send.batch.key
        spans = self._spool.unerased(send.batch.spans)
        if not spans:
            return _NOTHING_LEFT
        return await self._client.post(self._envelope.url(key), headers, self._vendor.body(spans, key))

    def _note(self, send: Send, result: Result, judged: Judged, duration_s: float) -> None:
        status = result.status if isinstance(result, Answer) else result.kind
        self._books.request(status, duration_s)
        if judged.verdict is not Verdict.DELIVERED:
            self._books.error(judged.reason)
        self._log.debug("request", status=str(status), events=send.batch.count, bytes=send.batch.size, role=send.role)
