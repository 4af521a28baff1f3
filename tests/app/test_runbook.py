"""Alerts, dashboard and runbook speak of what exists: every metric is exported, every alert has its section."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from forwarder.admin import Gauges
from forwarder.metrics import Metrics
from tests.support.fake_view import FakeDaemon

ROOT = Path(__file__).parents[2]
RULES = (ROOT / "config/prometheus-alerts.yaml").read_text()
RUNBOOK = (ROOT / "docs/RUNBOOK.md").read_text()
ALERTS = re.findall(r"- alert: (\w+)", RULES)
DASHBOARD: dict[str, Any] = json.loads((ROOT / "config/grafana-dashboard.json").read_text())
NAME = re.compile(r"\bforwarder_[a-z_]+")
SELECTED = re.compile(r"(forwarder_[a-z_]+)\{([^}]*)\}")
REQUIRED = {
    "ForwarderNotAccepting",
    "ForwarderSpoolFilling",
    "ForwarderLaneParked",
    "ForwarderEventsTooOld",
    "ForwarderDeadLettersGrowing",
    "ForwarderLedgerImbalance",
    "ForwarderUdpKernelDrops",
    "ForwarderConfigReloadFailed",
}
EVERYWHERE = {"instance", "job", "le"}


def exported() -> dict[str, set[str]]:
    """Return the labels of every metric that a daemon exports, by the names that queries use."""
    daemon, metrics = FakeDaemon(), Metrics()
    families = [value.family() for value in vars(metrics).values() if hasattr(value, "family")]
    labels = {value.name: set(value.labels) for value in vars(metrics).values() if hasattr(value, "family")}
    found: dict[str, set[str]] = {}
    for family in (*families, *Gauges(daemon, daemon.clock)()):
        known = labels.get(family.name) or {name for sample in family.samples for name in sample.labels}
        endings = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count")}.get(family.type, ("",))
        found |= {family.name + ending: known for ending in endings}
    return found


def expressions() -> Iterator[str]:
    yield from re.findall(r"expr: (?!>-)(.+)", RULES)
    yield from re.findall(r"expr: >-\n((?:          .+\n)+)", RULES)
    yield from (target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"])


def test_every_alert_that_is_promised_exists() -> None:
    assert set(ALERTS) >= REQUIRED
    assert len(ALERTS) == len(set(ALERTS))


@pytest.mark.parametrize("alert", ALERTS)
def test_every_alert_has_a_section_of_the_runbook_that_it_links_to(alert: str) -> None:
    assert f'docs/RUNBOOK.md#{alert.lower()}"' in RULES
    section = RUNBOOK.partition(f"\n## {alert}\n")[2].partition("\n## ")[0]
    assert len(section.split()) >= 25, "a section says what it means and what to do"


def test_every_metric_in_alerts_and_dashboard_is_exported() -> None:
    used = {name for expression in expressions() for name in NAME.findall(expression)}
    assert len(used) > 20
    assert used <= exported().keys()


def test_every_label_in_a_selector_exists_on_its_metric() -> None:
    known = exported()
    for expression in expressions():
        for name, selector in SELECTED.findall(expression):
            labels = set(re.findall(r"(\w+)\s*(?:=~|!=|!~|=)", selector))
            assert labels <= known[name] | EVERYWHERE, f"{name}{{{selector}}}"


def test_every_metric_of_the_table_is_on_the_dashboard_or_in_an_alert_or_is_known_to_be_for_digging() -> None:
    digging = {
        "forwarder_ambiguous_requests_total",
        "forwarder_batch_splits_total",
        "forwarder_build_info",
        "forwarder_disk_limit_bytes",
        "forwarder_disk_used_bytes",
        "forwarder_event_warnings_total",
        "forwarder_key_mismatch_total",
        "forwarder_late_events_total",
        "forwarder_received_events_total",
        "forwarder_replayed_events_total",
        "forwarder_spool_segments",
        "forwarder_spool_trouble",
        "forwarder_start_time_seconds",
    }
    used = {name for expression in expressions() for name in NAME.findall(expression)}
    unseen = {name for name in exported() if not name.endswith(("_sum", "_count"))} - used
    assert unseen == digging


def test_runbook_links_lead_to_sections_that_exist() -> None:
    sections = {re.sub(r"[^\w-]", "", title.lower().replace(" ", "-")) for title in re.findall(r"\n#+ (.+)", RUNBOOK)}
    assert set(re.findall(r"\]\(#([\w-]+)\)", RUNBOOK)) <= sections
