"""The loop of one flusher: it leases when there is room, and rests until an arrival, a result or time calls it."""

import asyncio

from forwarder.core.lane.batch import Cut
from forwarder.core.lane.delivery import Delivery
from forwarder.core.lane.lane import State
from forwarder.core.lane.waves import Waves
from forwarder.core.seams import Clock, Spool
from forwarder.errors import DiskTrouble
from forwarder.flusher.alarm import Alarm
from forwarder.flusher.effects import Effects
from forwarder.flusher.herald import Herald
from forwarder.flusher.requests import Requests
from forwarder.flusher.sweep import Sweep

TURN_S = 5.0
"""The loop turns at least this often, so that its progress can be watched."""
LEAST_PAUSE_S = 0.001
"""A wait that is already over must not become a busy loop."""
GATHER_S = 0.01
"""From an arrival to the turn that leases it: under load what many commits brought is leased at once. A turn a commit
cost a sixth of the processor at 32 connections (benchmarks/door.py)."""


class Turns:
    """Owner of the rhythm: what is leased when, and when all is over."""

    def __init__(
        self,
        *,
        delivery: Delivery,
        spool: Spool,
        effects: Effects,
        requests: Requests,
        herald: Herald,
        clock: Clock,
        wake: asyncio.Event,
    ) -> None:
        self._delivery = delivery
        self._spool = spool
        self._effects = effects
        self._requests = requests
        self._herald = herald
        self._clock = clock
        self._sweep = Sweep(delivery=delivery, spool=spool, effects=effects, clock=clock)
        self._wake = wake
        self._alarm: Alarm | None = None
        self._gathering: asyncio.TimerHandle | None = None
        self._waves = Waves()
        self._following = False
        """What has ended waits for `_follow`."""
        self._failed: Exception | None = None
        """What `_follow` raised, nothing but a bug: `run` raises it, so that the lane starts anew."""
        self._deadline: float | None = None
        self._finishing = False
        self._maybe_more = True
        self.last_progress = clock.monotonic()

    async def run(self) -> None:
        """Turn until drained."""
        self._alarm = Alarm(asyncio.get_running_loop(), self._wake.set)
        self._spool.on_arrival(self._arrived)
        self._spool.rewind()  # a flusher that crashed has released what it had leased
        try:
            while not self._drained():
                self._wake.clear()
                if self._failed is not None:
                    raise self._failed
                if await self._turn():
                    await asyncio.sleep(0)  # lets requests and listeners in; nothing is waited for
                elif not self._drained():
                    self._rest(self._alarm)
                    await self._wake.wait()
        finally:
            self._alarm.stop()
            self._alarm = None

    def drain(self, deadline: float, *, finish: bool = False) -> None:
        """End when all is delivered (or, to `finish`, when what is under way has ended), at `deadline` at the latest.

        The deadline is monotonic.
        """
        self._deadline = deadline
        self._finishing = self._requests.closed = finish
        self._delivery.draining = True
        self._wake.set()

    def ended(self) -> None:
        """Take note that a request has ended; what follows is done once for all that end in the same turn.

        If nothing waits for it, that is the turn which the last arrivals have called for already.
        """
        if not self._following and (self._gathering is None or self._delivery.eager):
            self._following = True
            loop = asyncio.get_running_loop()
            if flood := self._spool.flood:
                loop.call_later(max(0.0, self._waves.due(flood) - self._clock.monotonic()), self._follow)
            else:
                loop.call_soon(self._follow)

    def _follow(self) -> None:
        """Begin what may begin now; let the loop turn if it has something to do, else see when it will have."""
        self._following = False
        if self._alarm is None:
            return
        try:
            self._proceed()
        except Exception as error:  # noqa: BLE001 - raised by `run`
            self._failed = error
            self._wake.set()
            return
        leasable = self._delivery.restless or (self._maybe_more and self._gathering is None)
        if self._deadline is not None or (leasable and self._wanted()):
            self._wake.set()
        else:
            self._rest(self._alarm)

    # --- one turn

    async def _turn(self) -> bool:
        """Lease, begin, tidy up; return whether another turn should follow at once."""
        self._herald.tell_late()
        self._effects.ack_again()
        if self._deadline is None and self._sweep.due(self._clock.monotonic()):
            await self._sweep.run()
            self._maybe_more = True
        more = await self._lease()
        self._requests.cut = Cut.FULL if more else Cut.DUE
        if not self._following:
            self._proceed()
        return more

    def _proceed(self) -> None:
        self._requests.settle()
        self.last_progress = self._clock.monotonic()
        self._waves.began(self._requests.begin(), self.last_progress)
        self._delivery.tidy(now=self.last_progress, wall=self._clock.wall())
        self._effects.perform()

    async def _lease(self) -> bool:
        """Lease one step if there is room; return whether another one should follow at once."""
        size = self._wanted()
        if not size:
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
            self._effects.trouble("spool_not_readable", trouble)
            self._maybe_more = True
            return False
        if not spans:
            return self._maybe_more
        self._maybe_more = True
        self._delivery.add(spans, now=self._clock.monotonic(), wall=self._clock.wall())
        self._effects.perform()
        return self._delivery.wants() > 0

    def _wanted(self) -> int:
        """Return how many bytes may be leased now."""
        if self._finishing or self._effects.stuck(self._clock.monotonic()):
            return 0
        return self._delivery.wants()

    # --- rest

    def _rest(self, alarm: Alarm) -> None:
        """Let the loop sleep until time alone makes something to do."""
        now = self._clock.monotonic()
        until = now + TURN_S
        if not self._following:  # else `_follow` sees to what is due
            until = min(until, self._delivery.wake_at(now))
        if self._deadline is not None:
            until = min(until, self._deadline)
        alarm.set_in(max(until - now, LEAST_PAUSE_S))

    def _arrived(self) -> None:
        self._maybe_more = True
        if self._gathering is None:
            self._gathering = asyncio.get_running_loop().call_later(GATHER_S, self._gathered)

    def _gathered(self) -> None:
        self._gathering = None
        self._wake.set()

    def _drained(self) -> bool:
        """Return whether there is nothing left to do, or nothing that can be done in time."""
        if self._deadline is None:
            return False
        if self._clock.monotonic() >= self._deadline:
            return True
        if self._delivery.in_flight or self._effects.undertaker.waiting:
            return False
        if self._finishing:
            return True
        delivery, lane = self._delivery, self._delivery.lane
        if lane.state is State.FLOWING:
            return delivery.idle and not self._maybe_more
        return lane.state is not State.BACKING_OFF or lane.next_at is None or lane.next_at >= self._deadline
