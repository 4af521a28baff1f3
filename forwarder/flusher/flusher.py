"""The flusher of one destination: leases from its spool, makes the requests that the core decides, does the rest."""

import asyncio
from collections.abc import Callable

import structlog

from forwarder.config.model import Destination
from forwarder.core.lane.delivery import Delivery
from forwarder.core.lane.lane import State
from forwarder.core.seams import Clock, DeadLetters, LaneStatus, Spool
from forwarder.flusher import settings
from forwarder.flusher.books import Books
from forwarder.flusher.client import Poster
from forwarder.flusher.effects import Effects
from forwarder.flusher.envelope import Envelope
from forwarder.flusher.herald import Herald
from forwarder.flusher.requests import Requests
from forwarder.flusher.turns import Turns
from forwarder.metrics import Metrics
from forwarder.vendors.base import Vendor

DRY_RUN = "events are accepted and delivered nowhere"
FLOODED = "slowly: in a flood the door goes first"
"""What follows "flowing" in status."""

log = structlog.get_logger()


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
        self._spool = spool
        self._vendor = vendor
        self._client = client
        self._clock = clock
        self._dry_run = dry_run
        self._wake = asyncio.Event()
        self._ending = asyncio.Event()
        self._ended = asyncio.Event()
        self._herald = Herald(destination.name, clock)
        self._books = Books(destination, metrics, clock)
        self._envelope = Envelope(destination, vendor=vendor, secret=secret)
        rules = settings.rules(destination, vendor)
        self._delivery = Delivery(rules, single=vendor.single, now=clock.monotonic(), wall=clock.wall())
        self._effects = Effects(
            delivery=self._delivery,
            spool=spool,
            dead_letters=dead_letters,
            books=self._books,
            herald=self._herald,
            clock=clock,
            wake=self._wake,
        )
        self._requests = Requests(
            delivery=self._delivery,
            spool=spool,
            vendor=vendor,
            envelope=self._envelope,
            client=client,
            effects=self._effects,
            books=self._books,
            clock=clock,
            jitter=jitter,
        )
        self._turns = Turns(
            delivery=self._delivery,
            spool=spool,
            effects=self._effects,
            requests=self._requests,
            herald=self._herald,
            clock=clock,
            wake=self._wake,
        )

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

    async def drain(self, deadline: float, *, finish: bool = False) -> None:
        """Deliver what can be delivered before `deadline` (monotonic), release the rest, end `run`; then return."""
        self._ending.set()
        self._turns.drain(deadline, finish=finish)
        await self._ended.wait()

    async def finish(self, deadline: float) -> None:
        """Begin nothing new, let what is under way end before `deadline` (monotonic), release the rest, end `run`."""
        await self.drain(deadline, finish=True)

    def resume(self) -> None:
        """Probe now."""
        self._requests.read_key()
        self._delivery.resume(self._clock.monotonic())
        self._wake.set()

    def secret_changed(self) -> None:
        """Read the write key again and probe."""
        self.resume()

    def reconfigure(self, destination: Destination) -> None:
        """Apply a new configuration of the same destination; leases and requests in flight stay."""
        now, wall = self._clock.monotonic(), self._clock.wall()
        self._envelope.move(destination)
        self._client.reconfigure(destination)
        self._books.destination = destination
        self._delivery.retune(settings.rules(destination, self._vendor), now=now, wall=wall)
        self.resume()

    def status(self) -> LaneStatus:
        """Return what status shows."""
        now, wall = self._clock.monotonic(), self._clock.wall()
        delivery, lane, books = self._delivery, self._delivery.lane, self._books
        return LaneStatus(
            destination=self._spool.destination,
            state=lane.state.value,
            since=wall - (now - lane.standing_since),
            reason=self._effects.trouble_in_words or lane.words(now) or (FLOODED if self._spool.flood else ""),
            next_try_at=wall + (lane.next_at - now) if lane.next_at is not None else None,
            in_flight=delivery.in_flight,
            concurrency=min(lane.allowed, lane.concurrency) if lane.state is State.FLOWING else 0,
            parked_keys=delivery.parked_keys,
            set_aside=delivery.set_aside,
            delivered_per_second=books.per_second(now),
            last_error=books.last_error,
            last_error_at=books.last_error_at,
            last_delivered_at=books.last_delivered_at,
            last_progress=now if self._dry_run else self._turns.last_progress,
            late_events=books.late_events,
            order_waits=delivery.order_waits,
        )

    async def _idle(self) -> None:
        self._delivery.lane.stop(f"dry run: {DRY_RUN}", self._clock.monotonic())
        log.warning("dry_run", destination=self._spool.destination, reason=DRY_RUN)
        await self._ending.wait()

    async def _work(self) -> None:
        self._delivery.restore(self._spool.recall(), first_sequence=self._spool.stats().first_sequence)
        self._requests.read_key()
        async with asyncio.TaskGroup() as tasks:
            self._requests.open(tasks, self._turns.ended)
            undertaker = tasks.create_task(self._effects.undertaker.run(), name=f"undertaker {self._spool.destination}")
            try:
                await self._turns.run()
            finally:
                undertaker.cancel()
                self._end()

    def _end(self) -> None:
        """Give all leases back; requests still in flight are cut off, so they may arrive twice (P8)."""
        try:
            self._requests.cut_off()
        finally:
            self._delivery.give_back()
            self._effects.perform()
        left = self._effects.undertaker.left()
        if left:
            self._spool.release(left)
        self._delivery.lane.stop("drained", self._clock.monotonic())
        self._effects.perform()
        self._effects.close()
        self._herald.tell_late(all_=True)
