"""The requests under way: each runner makes one after another while the lane has something for it to send.

Hot path (benchmarks/delivery.py): a runner settles a result, performs its effects and has the next request on the wire
before anything else runs.
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
        self.cut = Cut.DUE
        """How small a batch may be just now."""
        self.closed = False
        """Nothing new begins."""

    def open(self, tasks: asyncio.TaskGroup, settled: Callable[[], None]) -> None:
        """Let runners live in `tasks`; `settled` is called after each request."""
        self._tasks, self._settled = tasks, settled

    def begin(self) -> None:
        """Begin every request that may begin now."""
        while (request := self._next()) is not None:
            runner = self._tasks.create_task(self._run(request))
            self._runners.add(runner)
            runner.add_done_callback(self._runners.discard)

    def cut_off(self) -> None:
        """End at once; what was under way may arrive twice (P8)."""
        self.closed = True
        for runner in self._runners:
            runner.cancel()
        self._delivery.abandon()

    def read_key(self) -> None:
        """Read the write key again; without one the lane parks."""
        cause = self._envelope.read_key()
        if cause is not None and self._delivery.lane.parked is None:
            self._delivery.park(cause, now=self._clock.monotonic(), jitter=self._jitter())
            self._effects.perform()

    def _next(self) -> Request | None:
        now = self._clock.monotonic()
        if self.closed or (self._envelope.headers is None and not self._found_key(now)):
            return None
        send = self._delivery.next(now=now, wall=self._clock.wall(), cut=self.cut)
        self._effects.perform()  # what has expired meanwhile
        headers = self._envelope.headers
        return None if send is None or headers is None else (send, headers)

    def _found_key(self, now: float) -> bool:
        """Look for a missing write key when a probe is due."""
        if self._delivery.lane.due(now):
            self.read_key()
            if self._envelope.headers is None:
                self._delivery.lane.postpone(now, self._jitter())
        return self._envelope.headers is not None

    async def _run(self, request: Request | None) -> None:
        while request is not None:
            await self._make(*request)
            self._settled()
            request = self._next()

    async def _make(self, send: Send, headers: Mapping[str, str]) -> None:
        batch = send.batch
        spans = self._spool.unerased(batch.spans)
        started = self._clock.monotonic()
        if spans:
            body = self._vendor.body(spans, batch.key)
            result = await self._client.post(self._envelope.url(batch.key), headers, body)
        else:
            result = _NOTHING_LEFT
        now = self._clock.monotonic()
        judged = self._delivery.settle(send, result, now=now, jitter=self._jitter())
        self._note(send, result, judged, now - started)
        self._effects.perform()

    def _note(self, send: Send, result: Result, judged: Judged, duration_s: float) -> None:
        status = str(result.status) if isinstance(result, Answer) else result.kind
        self._books.request(status, duration_s)
        if judged.verdict is not Verdict.DELIVERED:
            self._books.error(judged.reason)
        self._log.debug("request", status=status, events=send.batch.count, bytes=send.batch.size, role=send.role.value)
