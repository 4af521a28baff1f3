"""The last hour in memory, for the plots of the status page: a ring per destination, gone with the process."""

from collections import deque
from collections.abc import Mapping, Sequence

import msgspec

from forwarder.core.seams import Clock, DaemonView, SpoolStats
from forwarder.metrics import Metrics

GAP_S = 10.0
POINTS = 360
"""An hour."""


class Point(msgspec.Struct, frozen=True, array_like=True):
    """One interval of one destination, in the order in which the page reads the array."""

    at: float
    """Seconds since the epoch at its end."""
    accepted: float
    """Events a second."""
    delivered: float
    queued: int
    latency_s: float | None
    """Mean time from acceptance to the vendor's 2xx; None when nothing was delivered."""


class _Totals(msgspec.Struct, frozen=True):
    next_sequence: int
    delivered: int
    latency_sum: float
    latency_count: int


class History:
    """Whoever has a timer calls `sample`; it takes a point every ten seconds at most."""

    def __init__(self, view: DaemonView, metrics: Metrics, clock: Clock) -> None:
        self._view = view
        self._metrics = metrics
        self._clock = clock
        self._points: dict[str, deque[Point]] = {}
        self._totals: dict[str, _Totals] = {}
        self._sampled_at: float | None = None

    def sample(self) -> None:
        """Take a point of every destination, if it is time; forget destinations that are gone."""
        now = self._clock.monotonic()
        elapsed = None if self._sampled_at is None else now - self._sampled_at
        if elapsed is not None and elapsed < GAP_S:
            return
        self._sampled_at = now
        totals = {}
        for stats in self._view.spools():
            name = stats.destination
            totals[name] = self._count(stats)
            if elapsed is not None and name in self._totals:
                point = _point(self._clock.wall(), elapsed, self._totals[name], totals[name], stats.queued_events)
                self._points.setdefault(name, deque(maxlen=POINTS)).append(point)
        self._totals = totals
        for name in self._points.keys() - totals.keys():
            del self._points[name]

    def series(self) -> Mapping[str, Sequence[Point]]:
        """Return the points of every destination, oldest first."""
        return {name: list(points) for name, points in self._points.items()}

    def _count(self, stats: SpoolStats) -> _Totals:
        latency = self._metrics.delivery_latency.at(stats.destination)
        return _Totals(
            next_sequence=stats.next_sequence,
            delivered=stats.ledger.get("delivered", 0),
            latency_sum=latency.sum,
            latency_count=sum(latency.counts),
        )


def _point(at: float, elapsed: float, before: _Totals, now: _Totals, queued: int) -> Point:
    count = now.latency_count - before.latency_count
    return Point(
        at=at,
        accepted=(now.next_sequence - before.next_sequence) / elapsed,
        delivered=(now.delivered - before.delivered) / elapsed,
        queued=queued,
        latency_s=(now.latency_sum - before.latency_sum) / count if count else None,
    )
