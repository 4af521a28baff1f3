from collections.abc import Iterator

import pytest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.parser import text_string_to_metric_families

from forwarder.metrics import Histogram, Metrics


def samples(metrics: Metrics) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    families = text_string_to_metric_families(metrics.exposition().decode())
    return {(s.name, tuple(sorted(s.labels.items()))): s.value for family in families for s in family.samples}


def test_a_counter_is_exposed_with_its_labels_and_total_in_its_name() -> None:
    metrics = Metrics()
    metrics.refused.at("http", "not_json").value += 2
    metrics.refused.at("http", "not_json").value += 1
    assert samples(metrics)["forwarder_refused_events_total", (("listener", "http"), ("reason", "not_json"))] == 3


def test_a_settable_gauge_keeps_its_name() -> None:
    metrics = Metrics()
    metrics.reload_success.at().value = 1
    assert samples(metrics)["forwarder_config_reload_success", ()] == 1


def test_an_observation_counts_in_every_bucket_that_holds_it() -> None:
    histogram = Histogram((1.0, 2.0, 4.0))
    for value in (0.5, 1.0, 3.0, 9.0):
        histogram.observe(value)
    histogram.observe(2.0, times=10)
    assert histogram.buckets() == [("1.0", 2), ("2.0", 12), ("4.0", 13), ("+Inf", 14)]
    assert histogram.sum == pytest.approx(33.5)


def test_a_histogram_is_exposed_with_count_and_sum() -> None:
    metrics = Metrics()
    metrics.delivery_latency.at("encharge").observe(0.3)
    found = samples(metrics)
    assert found["forwarder_delivery_latency_seconds_count", (("destination", "encharge"),)] == 1
    assert found["forwarder_delivery_latency_seconds_sum", (("destination", "encharge"),)] == pytest.approx(0.3)
    assert found["forwarder_delivery_latency_seconds_bucket", (("destination", "encharge"), ("le", "0.1"))] == 0
    assert found["forwarder_delivery_latency_seconds_bucket", (("destination", "encharge"), ("le", "0.5"))] == 1


def test_sources_are_read_at_every_scrape() -> None:
    metrics = Metrics()
    depth = [1.0]

    def rows() -> Iterator[Metric]:
        family = GaugeMetricFamily("forwarder_depth", "Depth.")
        family.add_metric((), depth[0])
        yield family

    metrics.add_source(rows)
    assert samples(metrics)["forwarder_depth", ()] == 1
    depth[0] = 5
    assert samples(metrics)["forwarder_depth", ()] == 5


def test_two_daemons_in_one_process_count_apart() -> None:
    first, second = Metrics(), Metrics()
    first.accepted.at("encharge").value += 1
    assert ("forwarder_accepted_events_total", (("destination", "encharge"),)) not in samples(second)


@pytest.mark.parametrize("value", ['quo"te', "back\\slash", "new\nline"])
def test_a_label_value_cannot_break_the_exposition(value: str) -> None:
    metrics = Metrics()
    metrics.requests.at("encharge", value).value += 1
    assert samples(metrics)["forwarder_requests_total", (("destination", "encharge"), ("status", value))] == 1
