"""The gauges that are known elsewhere (spools, lanes, disk): read from the daemon's view at scrape time."""

from collections.abc import Iterator, Mapping, Sequence

from prometheus_client.core import GaugeMetricFamily, Metric

from forwarder.core.seams import Clock, DaemonView, LaneStatus, SpoolStats

LANE_STATES = ("flowing", "backing_off", "probing", "parked", "stopped")


class Gauges:
    """Hand an instance to `Metrics.add_source`."""

    def __init__(self, view: DaemonView, clock: Clock) -> None:
        self._view = view
        self._clock = clock

    def __call__(self) -> Iterator[Metric]:
        """Yield every gauge of the daemon's state."""
        view = self._view
        yield _one("forwarder_build_info", "1, with the version.", 1, {"version": view.version})
        yield _one("forwarder_start_time_seconds", "Start, since the epoch.", view.started_at)
        yield _one("forwarder_accepting", "1 if events are accepted.", int(view.not_accepting() is None))
        disk = view.disk()
        yield _one("forwarder_disk_free_bytes", "Free on the spool's volume.", disk.free_bytes)
        yield _one("forwarder_disk_used_bytes", "All of the spool directory.", disk.used_bytes)
        yield _one("forwarder_disk_limit_bytes", "spool.max_total.", disk.limit_bytes)
        yield from self._spools(view.spools())
        yield from _lanes(view.lanes())
        yield _each(
            "forwarder_dead_letters",
            "Dead letters present.",
            {letters.destination: letters.present for letters in view.dead_letters()},
        )

    def _spools(self, spools: Sequence[SpoolStats]) -> Iterator[Metric]:
        now = self._clock.wall()
        yield _each("forwarder_spool_events", "Events queued.", {s.destination: s.queued_events for s in spools})
        yield _each("forwarder_spool_bytes", "Bytes on disk.", {s.destination: s.bytes for s in spools})
        yield _each("forwarder_spool_limit_bytes", "max_size.", {s.destination: s.limit_bytes for s in spools})
        yield _each("forwarder_spool_segments", "Segment files.", {s.destination: s.segments for s in spools})
        yield _each(
            "forwarder_spool_oldest_event_age_seconds",
            "Age of the oldest queued event; 0 when there is none.",
            {s.destination: max(now - (s.oldest_accepted_at or now), 0.0) for s in spools},
        )
        yield _each(
            "forwarder_spool_trouble",
            "1 while its disk fails.",
            {s.destination: int(s.trouble is not None) for s in spools},
        )
        yield _each("forwarder_ledger_imbalance_events", "Must be 0.", {s.destination: s.imbalance for s in spools})
        ledger = GaugeMetricFamily(
            "forwarder_ledger_events", "All-time totals of the spool.", labels=("destination", "outcome")
        )
        for stats in spools:
            for outcome, total in stats.ledger.items():
                ledger.add_metric((stats.destination, outcome), total)
        yield ledger


def _lanes(lanes: Sequence[LaneStatus]) -> Iterator[Metric]:
    state = GaugeMetricFamily("forwarder_lane_state", "1 for the present state.", labels=("destination", "state"))
    for lane in lanes:
        for name in LANE_STATES:
            state.add_metric((lane.destination, name), int(lane.state == name))
    yield state
    yield _each("forwarder_parked_keys", "Parked batch keys.", {x.destination: len(x.parked_keys) for x in lanes})
    yield _each("forwarder_in_flight_requests", "Requests under way.", {x.destination: x.in_flight for x in lanes})
    yield _each("forwarder_set_aside", "Suspects retrying alone.", {x.destination: x.set_aside for x in lanes})


def _one(name: str, text: str, value: float, labels: Mapping[str, str] | None = None) -> Metric:
    labels = labels or {}
    family = GaugeMetricFamily(name, text, labels=tuple(labels))
    family.add_metric(tuple(labels.values()), value)
    return family


def _each(name: str, text: str, values: Mapping[str, float]) -> Metric:
    family = GaugeMetricFamily(name, text, labels=("destination",))
    for destination, value in values.items():
        family.add_metric((destination,), value)
    return family
