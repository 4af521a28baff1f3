"""The flusher of one destination: leases from its spool, makes the requests that the core decides, does the rest."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

import msgspec
import structlog

from forwarder.config.model import Destination
from forwarder.core.lane.batch import Cut
from forwarder.core.lane.delivery import Delivery
from forwarder.core.lane.effect import Ambiguous, Bury, Delivered, Effect, Expired, Release, Remember, Report, Split
from forwarder.core.lane.holds import HoldNothing
from forwarder.core.lane.lane import State
from forwarder.core.lane.outcome import Answer, Judged, Result
from forwarder.core.lane.settle import Send
from forwarder.core.seams import Clock, DeadLetters, LaneStatus, Outcome, Spool
from forwarder.core.spool.frame import Span
from forwarder.errors import DiskTrouble
from forwarder.flusher import settings
from forwarder.flusher.books import Books
from forwarder.flusher.client import Poster
from forwarder.flusher.herald import Herald
from forwarder.flusher.undertaker import Undertaker
from forwarder.metrics import Metrics
from forwarder.vendors.base import Vendor

TURN_S = 5.0
"""The loop turns at least this often, so that its progress can be watched."""
LEAST_PAUSE_S = 0.001
"""A wait that is already over must not become a busy loop."""
GATHER_S = 0.005
"""From an arrival to the turn that leases it: under load what many commits brought is leased at once. A turn a commit
cost a sixth of the processor at 32 connections (benchmarks/door.py)."""
SPOOL_SWEEP_S = 60.0
SWEEP_STEP = 256 * 1024
TROUBLE_PAUSE_S = 5.0


_NOTHING_LEFT = Answer(200)
"""Stands for the answer to a batch all of which was erased before it was sent: it is done with."""


class Flusher:
    """Owns one lane. `run` loops until `drain` ends it; the client is closed when `run` returns."""

    def __init__(
        self,
        *,
        destination: Destination,
        spool: Spool,
        dead_letters: DeadLetters,
        vendor: Vendor,
        secret: Callable[[], str | None],
        client: Poster,
        clock: Clock,
        jitter: Callable[[], float],
        metrics: Metrics,
        dry_run: bool = False,
    ) -> None:
        self._destination = destination
        self._spool = spool
        self._vendor = vendor
        self._secret = secret
        self._client = client
        self._clock = clock
        self._jitter = jitter
        self._dry_run = dry_run
        self._log = structlog.get_logger().bind(destination=destination.name)
        self._herald = Herald(destination.name, clock)
        self._books = Books(destination, metrics, clock)
        self._undertaker = Undertaker(dead_letters, clock=clock, herald=self._herald, buried=self._buried)
        rules = settings.rules(destination, vendor)
        self._delivery = Delivery(rules, single=vendor.single, now=clock.monotonic(), wall=clock.wall())
        self._headers: Mapping[str, str] | None = None
        self._urls: dict[bytes, str] = {}
        self._sends: dict[asyncio.Task[None], Send] = {}
        self._unacked: list[tuple[Sequence[Span], Outcome]] = []
        self._wake = asyncio.Event()
        self._gathering: asyncio.TimerHandle | None = None
        self._ended = asyncio.Event()
        self._deadline: float | None = None
        self._finishing = False
        self._maybe_more = True
        self._lease_at = 0.0
        self._spool_sweep_at = clock.monotonic() + SPOOL_SWEEP_S
        self._last_progress = clock.monotonic()

    # --- what the daemon calls

    async def run(self) -> None:
        """Deliver until drained."""
        try:
            if self._dry_run:
                await self._idle()
            else:
                await self._work()
        finally:
            self._ended.set()
            await self._client.close()

    async def drain(self, deadline: float) -> None:
        """Deliver what can be delivered before `deadline` (monotonic), release the rest, end `run`; then return."""
        self._deadline = deadline
        self._delivery.draining = True
        self._wake.set()
        await self._ended.wait()

    async def finish(self, deadline: float) -> None:
        """Begin nothing new, let what is under way end before `deadline` (monotonic), release the rest, end `run`."""
        self._finishing = True
        await self.drain(deadline)

    def resume(self) -> None:
        """Probe now."""
        self._load_headers()
        self._delivery.resume(self._clock.monotonic())
        self._wake.set()

    def secret_changed(self) -> None:
        """Read the write key again and probe."""
        self.resume()

    def reconfigure(self, destination: Destination) -> None:
        """Apply a new configuration of the same destination; leases and requests in flight stay."""
        now, wall = self._clock.monotonic(), self._clock.wall()
        self._destination = destination
        self._urls.clear()
        self._client.reconfigure(destination)
        self._books.destination = destination
        self._delivery.retune(settings.rules(destination, self._vendor), now=now, wall=wall)
        self.resume()

    def status(self) -> LaneStatus:
        """Return what status shows."""
        now, wall = self._clock.monotonic(), self._clock.wall()
        delivery, lane, books = self._delivery, self._delivery.lane, self._books
        return LaneStatus(
            destination=self._destination.name,
            state=lane.state.value,
            since=wall - (now - lane.since),
            reason=self._reason(now),
            next_try_at=wall + (lane.next_at - now) if lane.next_at is not None else None,
            in_flight=delivery.in_flight,
            concurrency=min(lane.allowed, lane.concurrency) if lane.state is State.FLOWING else 0,
            parked_keys=delivery.parked_keys,
            set_aside=delivery.set_aside,
            delivered_per_second=books.per_second(now),
            last_error=books.last_error,
            last_error_at=books.last_error_at,
            last_delivered_at=books.last_delivered_at,
            last_progress=now if self._dry_run else self._last_progress,
            late_events=books.late_events,
            order_waits=delivery.order_waits,
        )

    # --- the loop

    async def _idle(self) -> None:
        self._delivery.lane.stop("dry run: events are accepted and delivered nowhere", self._clock.monotonic())
        self._log.warning("dry_run", reason="events are accepted and delivered nowhere")
        while self._deadline is None:
            self._wake.clear()
            await self._wake.wait()

    async def _work(self) -> None:
        self._spool.on_arrival(self._arrived)
        self._delivery.restore(self._spool.recall(), first_sequence=self._spool.stats().first_sequence)
        self._load_headers()
        async with asyncio.TaskGroup() as tasks:
            name = self._destination.name
            undertaker = tasks.create_task(self._undertaker.run(), name=f"undertaker {name}")
            try:
                await self._loop(tasks)
            finally:
                undertaker.cancel()
                self._end()

    async def _loop(self, tasks: asyncio.TaskGroup) -> None:
        while True:
            self._wake.clear()
            now = self._last_progress = self._clock.monotonic()
            if self._drained(now):
                return
            self._ack_again()
            more = await self._lease(now)
            self._begin(tasks, Cut.FULL if more else Cut.DUE)
            self._delivery.tidy(now=self._clock.monotonic(), wall=self._clock.wall())
            self._perform()
            if more:
                await asyncio.sleep(0)  # lets requests and listeners in; nothing is waited for
            elif not self._drained(now):
                await self._sweep_spool(now)
                await self._pause()

    async def _lease(self, now: float) -> bool:
        """Lease one step if there is room; return whether another one should follow at once."""
        size = self._delivery.wants()
        if not size or self._undertaker.full or self._unacked or now < self._lease_at or self._finishing:
            return False
        if self._delivery.before_lease():
            self._spool.rewind()
            self._maybe_more = True
        if not self._maybe_more:
            return False
        self._maybe_more = False  # before the await: an arrival meanwhile must not be forgotten
        try:
            spans = await self._spool.lease(size, self._delivery.holds)
        except DiskTrouble as trouble:
            self._trouble("spool_not_readable", trouble)
            self._maybe_more = True
            return False
        if not spans:
            return self._maybe_more
        self._maybe_more = True
        self._delivery.add(spans, now=self._clock.monotonic(), wall=self._clock.wall())
        self._perform()
        return self._delivery.wants() > 0

    def _begin(self, tasks: asyncio.TaskGroup, cut: Cut) -> None:
        now, wall = self._clock.monotonic(), self._clock.wall()
        headers = self._headers or self._missing_headers(now)
        if headers is None or self._finishing:
            return
        while (send := self._delivery.next(now=now, wall=wall, cut=cut)) is not None:
            task = tasks.create_task(self._send(send, headers))
            self._sends[task] = send
            task.add_done_callback(self._sent)

    async def _send(self, send: Send, headers: Mapping[str, str]) -> None:
        batch = send.batch
        spans = self._spool.unerased(batch.spans)
        started = self._clock.monotonic()
        result = await self._post(batch.key, spans, headers) if spans else _NOTHING_LEFT
        now = self._clock.monotonic()
        judged = self._delivery.settle(send, result, now=now, jitter=self._jitter())
        self._note(send, result, judged, now - started)
        self._perform()

    async def _post(self, key: bytes, spans: Sequence[Span], headers: Mapping[str, str]) -> Result:
        return await self._client.post(self._url(key), headers, self._vendor.body(spans, key))

    def _sent(self, task: asyncio.Task[None]) -> None:
        send = self._sends.pop(task)
        if task.cancelled():
            self._delivery.abandon(send)
        self._wake.set()

    def _note(self, send: Send, result: Result, judged: Judged, duration: float) -> None:
        status = str(result.status) if isinstance(result, Answer) else result.kind
        self._books.request(status, duration)
        if judged.verdict.value != "delivered":
            self._books.error(judged.reason)
        self._log.debug("request", status=status, events=send.batch.count, bytes=send.batch.size, role=send.role.value)

    async def _pause(self) -> None:
        now = self._clock.monotonic()
        until = min(self._delivery.wake_at(now), now + TURN_S)
        if self._deadline is not None:
            until = min(until, self._deadline)
        with suppress(TimeoutError):
            async with asyncio.timeout(max(until - now, LEAST_PAUSE_S)):
                await self._wake.wait()

    def _arrived(self) -> None:
        self._maybe_more = True
        if self._gathering is None:
            self._gathering = asyncio.get_running_loop().call_later(GATHER_S, self._gathered)

    def _gathered(self) -> None:
        self._gathering = None
        self._wake.set()

    # --- the end

    def _drained(self, now: float) -> bool:
        """Return whether there is nothing left to do, or nothing that can be done in time."""
        if self._deadline is None:
            return False
        if now >= self._deadline:
            return True
        if self._sends or self._undertaker.waiting:
            return False
        if self._finishing:
            return True
        delivery, lane = self._delivery, self._delivery.lane
        if lane.state is State.FLOWING:
            return delivery.idle and not self._maybe_more
        return lane.state is not State.BACKING_OFF or lane.next_at is None or lane.next_at >= self._deadline

    def _end(self) -> None:
        """Give all leases back; requests still in flight are cut off, so they may arrive twice (P8)."""
        for task, send in list(self._sends.items()):
            task.remove_done_callback(self._sent)
            task.cancel()
            self._delivery.abandon(send)
        self._sends.clear()
        self._delivery.give_back()
        self._perform()
        left = self._undertaker.left()
        if left:
            self._spool.release(left)
        self._delivery.lane.stop("drained", self._clock.monotonic())

    # --- effects

    def _perform(self) -> None:
        for effect in self._delivery.effects():
            self._perform_one(effect)

    def _perform_one(self, effect: Effect) -> None:
        match effect:
            case Delivered(spans=spans):
                self._ack(spans, Outcome.DELIVERED)
                self._books.delivered_spans(spans)
            case Bury():
                spans = self._spool.unerased(effect.spans)
                if spans:
                    self._undertaker.bury(msgspec.structs.replace(effect, spans=spans))
            case Release(spans=spans):
                self._spool.release(spans)
            case Expired(spans=spans):
                self._ack(spans, Outcome.EXPIRED)
                events = sum(span.count for span in spans)
                self._herald.tell(Report("warning", "events_expired", {"events": events}))
            case Remember(name=name, value=value):
                self._spool.remember(name, value)
            case Report():
                self._herald.tell(effect)
            case Split():
                self._books.split()
            case Ambiguous():
                self._books.ambiguous()

    def _ack(self, spans: Sequence[Span], outcome: Outcome) -> None:
        try:
            self._spool.ack(spans, outcome)
        except DiskTrouble as trouble:
            # The records are resolved, only not written down: no more are leased until they are.
            self._trouble("ack_not_written", trouble)
            self._unacked.append((spans, outcome))

    def _ack_again(self) -> None:
        if self._unacked and self._clock.monotonic() >= self._lease_at:
            waiting, self._unacked = self._unacked, []
            for spans, outcome in waiting:
                self._ack(spans, outcome)

    def _buried(self, spans: Sequence[Span], reason: str) -> None:
        self._ack(spans, Outcome.DIED)
        self._books.died(spans, reason)
        self._wake.set()

    def _trouble(self, event: str, trouble: DiskTrouble) -> None:
        self._lease_at = self._clock.monotonic() + TROUBLE_PAUSE_S
        self._herald.tell(Report("error", event, {"reason": trouble.reason, "path": trouble.path}))

    async def _sweep_spool(self, now: float) -> None:
        """Expire what waits in the spool behind held keys or persons: a lease would pass it over for ever."""
        if now < self._spool_sweep_at or not self._delivery.holds or self._deadline is not None:
            return
        self._spool_sweep_at = now + SPOOL_SWEEP_S
        oldest = self._spool.stats().oldest_accepted_at
        if oldest is None or self._clock.wall() - oldest <= self._delivery.ages.least:
            return
        self._spool.rewind()
        while True:
            spans = await self._spool.lease(SWEEP_STEP, HoldNothing())
            alive = self._delivery.expire_in_spool(spans, now=self._clock.monotonic(), wall=self._clock.wall())
            self._perform()
            if alive or not spans or self._undertaker.full:
                break
        if alive:
            self._spool.release(alive)
        self._spool.rewind()
        self._maybe_more = True

    # --- addresses and secrets

    def _url(self, key: bytes) -> str:
        url = self._urls.get(key)
        if url is None:
            if len(self._urls) > 1000:  # noqa: PLR2004  a cache only: forgotten whole when apps are many
                self._urls.clear()
            url = self._urls[key] = self._vendor.url(self._destination, key)
        return url

    def _load_headers(self) -> None:
        key = self._secret()
        needed = self._destination.kind == "encharge" or self._destination.write_key is not None
        self._headers = None if key is None and needed else self._vendor.headers(key)
        if self._headers is None and self._delivery.lane.parked is None:
            name = self._destination.name
            cause = f"no write key: destinations.{name}.write_key cannot be read; events are kept until it can"
            self._delivery.park(cause, now=self._clock.monotonic(), jitter=self._jitter())
            self._perform()

    def _missing_headers(self, now: float) -> Mapping[str, str] | None:
        """Look for a missing write key when a probe is due."""
        if self._delivery.lane.due(now):
            self._load_headers()
            if self._headers is None:
                self._delivery.lane.postpone(now, self._jitter())
        return self._headers

    def _reason(self, now: float) -> str:
        if self._undertaker.full:
            return "dead letters cannot be written: check the disk"
        return self._delivery.lane.words(now)
