"""Eviction: the oldest segments give way to new events, by policy (`when_full = "evict_oldest"`). Owned by the loop."""

import asyncio
from collections.abc import Callable

import structlog

from forwarder.core.spool.ledger import Ledger
from forwarder.spool.leasing import Leases
from forwarder.spool.segments import Segments

log = structlog.get_logger()

_EPISODE_S = 60.0
"""An episode ends when nothing was evicted for so long; it has one line at its start and one at its end."""


class Eviction:
    """Ends whole segments, oldest first, passing over those with leased records; counts what comes back."""

    def __init__(
        self, *, destination: str, segments: Segments, ledger: Ledger, leases: Leases, end: Callable[[int, int], int]
    ) -> None:
        self._destination = destination
        self._segments = segments
        self._ledger = ledger
        self._leases = leases
        self._end = end
        self._events = 0
        self._timer: asyncio.TimerHandle | None = None

    def freeing(self) -> int:
        """Return the bytes of segments that the next checkpoint deletes."""
        return sum(extent.size for extent in self._segments.drained(self._ledger))

    def evict(self, enough: Callable[[int], bool]) -> bool:
        """Evict segment by segment until `enough(bytes coming back)`; return whether anything was evicted."""
        evicted = 0
        for extent in list(self._segments.sealed):
            if enough(self.freeing()):
                break
            if not self._leases.leased(extent.base, extent.end):
                evicted += self._end(extent.base, extent.end)
        if evicted:
            self._count(evicted)
        return evicted > 0

    def _count(self, events: int) -> None:
        if self._timer is None:
            log.error("spool_evicting", destination=self._destination, events=events)
        else:
            self._timer.cancel()
        self._events += events
        self._timer = asyncio.get_running_loop().call_later(_EPISODE_S, self.close)

    def close(self) -> None:
        """End the episode, with its total."""
        if self._timer is None:
            return
        self._timer.cancel()
        self._timer = None
        log.error("spool_evicted", destination=self._destination, events=self._events)
        self._events = 0
