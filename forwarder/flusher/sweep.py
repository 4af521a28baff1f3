"""Looking at the ages of what waits in the spool behind held keys or persons: a lease would pass it over for ever."""

from forwarder.core.lane.delivery import Delivery
from forwarder.core.lane.holds import HoldNothing
from forwarder.core.seams import Clock, Spool
from forwarder.flusher.effects import Effects

SWEEP_S = 60.0
STEP = 256 * 1024


class Sweep:
    """Expires, from the oldest on, what is too old; once in SWEEP_S while anything is held."""

    def __init__(self, *, delivery: Delivery, spool: Spool, effects: Effects, clock: Clock) -> None:
        self._delivery = delivery
        self._spool = spool
        self._effects = effects
        self._clock = clock
        self._at = clock.monotonic() + SWEEP_S

    def due(self, now: float) -> bool:
        """Return whether something held may have expired."""
        if now < self._at or not self._delivery.holds:
            return False
        self._at = now + SWEEP_S
        oldest = self._spool.stats().oldest_accepted_at
        return oldest is not None and self._clock.wall() - oldest > self._delivery.ages.least

    async def run(self) -> None:
        """Expire what is too old; the spool is rewound before and after."""
        self._spool.rewind()
        while True:
            spans = await self._spool.lease(STEP, HoldNothing())
            alive = self._delivery.expire_in_spool(spans, now=self._clock.monotonic(), wall=self._clock.wall())
            self._effects.perform()
            if alive or not spans or self._effects.undertaker.full:
                break
        if alive:
            self._spool.release(alive)
        self._spool.rewind()
