"""Every metric of the daemon, named in one table: base units, bounded labels (docs/METRICS.md).

On the hot path a metric is a plain attribute (`cell.value += 1`); prometheus-client only renders at scrape time.
Cells are touched on the event loop only.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from typing import Literal

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

LATENCY_BOUNDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
DELIVERY_BOUNDS = (0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0, 21600.0, 86400.0)


class Cell:
    """One counter or gauge: add to `value`."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value: float = 0


class Histogram:
    """One histogram: cumulative buckets are made at scrape time."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float, times: int = 1) -> None:
        """Count `value` (in the metric's unit) `times` times."""
        self.counts[bisect_left(self.bounds, value)] += times
        self.sum += value * times

    def buckets(self) -> list[tuple[str, float]]:
        """Return (upper bound, cumulative count) pairs as the exposition wants them."""
        rows: list[tuple[str, float]] = []
        total = 0
        for bound, count in zip((*map(str, self.bounds), "+Inf"), self.counts, strict=True):
            total += count
            rows.append((bound, total))
        return rows


class Counters:
    """A family of counters or settable gauges; `at(labels)` creates a cell once and always returns the same one."""

    def __init__(self, name: str, text: str, *labels: str, kind: Literal["counter", "gauge"] = "counter") -> None:
        self.name = name
        self.text = text
        self.labels = labels
        self.kind = kind
        self.cells: dict[tuple[str, ...], Cell] = {}

    def at(self, *values: str) -> Cell:
        """Return the cell for these label values."""
        cell = self.cells.get(values)
        if cell is None:
            cell = self.cells[values] = Cell()
        return cell

    def family(self) -> Metric:
        """Return what prometheus-client renders."""
        make = CounterMetricFamily if self.kind == "counter" else GaugeMetricFamily
        family: Metric = make(self.name, self.text, labels=self.labels)
        for values, cell in self.cells.items():
            family.add_metric(values, cell.value)  # type: ignore[attr-defined]
        return family


class Histograms:
    """A family of histograms."""

    def __init__(self, name: str, text: str, *labels: str, bounds: tuple[float, ...] = LATENCY_BOUNDS) -> None:
        self.name = name
        self.text = text
        self.labels = labels
        self.bounds = bounds
        self.cells: dict[tuple[str, ...], Histogram] = {}

    def at(self, *values: str) -> Histogram:
        """Return the histogram for these label values."""
        cell = self.cells.get(values)
        if cell is None:
            cell = self.cells[values] = Histogram(self.bounds)
        return cell

    def family(self) -> Metric:
        """Return what prometheus-client renders."""
        family = HistogramMetricFamily(self.name, self.text, labels=self.labels)
        for values, cell in self.cells.items():
            family.add_metric(values, buckets=cell.buckets(), sum_value=cell.sum)
        return family


GaugeRows = Callable[[], Iterable[Metric]]
"""Called at scrape time for what is known elsewhere (spool and lane state)."""


class Metrics:
    """All families. One instance a daemon, handed to whoever counts."""

    def __init__(self) -> None:
        # door
        self.received = Counters("forwarder_received_events", "Events that reached a listener.", "listener")
        self.refused = Counters("forwarder_refused_events", "Events not accepted, sender told.", "listener", "reason")
        self.shed = Counters("forwarder_shed_events", "Events not accepted, sender not told.", "listener", "reason")
        self.warnings = Counters("forwarder_event_warnings", "Accepted events that break a documented should.", "rule")
        self.key_mismatch = Counters("forwarder_key_mismatch", "Requests whose write key is not the configured one.")
        self.udp_kernel_drops = Counters("forwarder_udp_kernel_drops", "Datagrams the kernel dropped.", "listener")
        self.accept_duration = Histograms("forwarder_accept_duration_seconds", "Request complete to answer.")
        # spool
        self.accepted = Counters("forwarder_accepted_events", "Events committed.", "destination")
        self.replayed = Counters("forwarder_replayed_events", "Dead letters put back.", "destination")
        self.dropped = Counters("forwarder_dropped_events", "Accepted, then dropped.", "destination", "reason")
        self.commit_duration = Histograms("forwarder_commit_duration_seconds", "One group commit.", "destination")
        # delivery
        self.delivered = Counters("forwarder_delivered_events", "Events the vendor took.", "destination")
        self.died = Counters("forwarder_died_events", "Events that became dead letters.", "destination", "reason")
        self.requests = Counters("forwarder_requests", "Requests by status or error.", "destination", "status")
        self.request_duration = Histograms("forwarder_request_duration_seconds", "One request.", "destination")
        self.delivery_latency = Histograms(
            "forwarder_delivery_latency_seconds", "Accept to vendor 2xx.", "destination", bounds=DELIVERY_BOUNDS
        )
        self.ambiguous = Counters("forwarder_ambiguous_requests", "Sent, but no answer.", "destination")
        self.splits = Counters("forwarder_batch_splits", "Refused batches split in two.", "destination")
        self.late = Counters("forwarder_late_events", "Delivered over 24 h after acceptance.", "destination")
        # process
        self.reload_success = Counters("forwarder_config_reload_success", "1 if the last load worked.", kind="gauge")
        self._sources: list[GaugeRows] = []

    def add_source(self, rows: GaugeRows) -> None:
        """Let `rows` add families at scrape time."""
        self._sources.append(rows)

    def collect(self) -> Iterator[Metric]:
        """Yield all families (prometheus-client's collector protocol)."""
        for family in vars(self).values():
            if isinstance(family, Counters | Histograms):
                yield family.family()
        for rows in self._sources:
            yield from rows()

    def exposition(self) -> bytes:
        """Return the text for /metrics."""
        registry = CollectorRegistry(auto_describe=False)
        registry.register(self)
        return generate_latest(registry)
