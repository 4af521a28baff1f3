"""The books of one lane: its metrics, and what status shows of the last minute."""

from collections.abc import Sequence

from forwarder.config.model import Destination
from forwarder.core.seams import Clock
from forwarder.core.spool.frame import Span
from forwarder.flusher.tally import Tally
from forwarder.metrics import Cell, Metrics

LATE_S = 86400.0
"""TelemetryDeck takes an older event as being exactly this old (docs/DELIVERY.md, "Age")."""


class Books(Tally):
    """Counts what the flusher does."""

    def __init__(self, destination: Destination, metrics: Metrics, clock: Clock) -> None:
        super().__init__(clock.monotonic())
        name = destination.name
        self.late_events = 0
        self.destination = destination
        self._clock = clock
        self._metrics = metrics
        self._requests: dict[int | str, Cell] = {}
        self._delivered = metrics.delivered.at(name)
        self._late = metrics.late.at(name)
        self._splits = metrics.splits.at(name)
        self._ambiguous = metrics.ambiguous.at(name)
        self._duration = metrics.request_duration.at(name)
        self._latency = metrics.delivery_latency.at(name)

    def request(self, status: int | str, duration: float) -> None:
        """Count one request by status or kind of failure."""
        cell = self._requests.get(status)
        if cell is None:
            cell = self._requests[status] = self._metrics.requests.at(self.destination.name, str(status))
        cell.value += 1
        self._duration.observe(duration)

    def delivered_spans(self, spans: Sequence[Span]) -> None:
        """Count delivered records and how long they took from acceptance."""
        wall = self._clock.wall()
        total = 0
        for span in spans:
            count = span.count
            age = max(wall - span.frame.accepted_at, 0.0)
            total += count
            self._latency.observe(age, count)
            if age > LATE_S and self.destination.kind == "telemetrydeck":
                self._late.value += count
                self.late_events += count
        self._delivered.value += total
        self.delivered(total, now=self._clock.monotonic(), wall=wall)

    def died(self, spans: Sequence[Span], reason: str) -> None:
        """Count dead letters."""
        self._metrics.died.at(self.destination.name, reason).value += sum(span.count for span in spans)

    def error(self, reason: str) -> None:
        """Keep the last error."""
        self.failed(reason, wall=self._clock.wall())

    def split(self) -> None:
        """Count a split batch."""
        self._splits.value += 1

    def ambiguous(self) -> None:
        """Count a request without an answer."""
        self._ambiguous.value += 1
