"""Eviction: the oldest segments give way to new events, by policy (`when_full = "evict_oldest"`). Owned by the loop."""

from collections.abc import Callable

import structlog

from forwarder.core.spool.ledger import Ledger
from forwarder.spool.episode import Episode
from forwarder.spool.leasing import Leases
from forwarder.spool.segments import Segments

log = structlog.get_logger()


class Eviction:
    """Ends whole segments, oldest first, passing over those with leased records; counts what comes back."""

    def __init__(
        self, *, destination: str, segments: Segments, ledger: Ledger, leases: Leases, end: Callable[[int, int], int]
    ) -> None:
        self._segments = segments
        self._ledger = ledger
        self._leases = leases
        self._end = end
        self._episode = Episode(
            begins=lambda events: log.error("spool_evicting", destination=destination, events=events),
            ends=lambda events: log.error("spool_evicted", destination=destination, events=events),
        )

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
            self._episode.count(evicted)
        return evicted > 0

    def close(self) -> None:
        """End the episode, with its total."""
        self._episode.close()
