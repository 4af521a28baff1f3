"""`forwarder plan` reckons with the configuration in force, and errs on the safe side."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from forwarder.cli import cli
from forwarder.cli.plan import Load, reckon
from forwarder.config.kinds import defaults
from forwarder.config.model import Destination, RateLimit, SpoolConfig
from forwarder.core.seams import Durability, Group
from forwarder.errors import ConfigurationError
from forwarder.metrics import Metrics
from forwarder.spool.spool import DiskSpool, SpoolSettings
from tests.support.hand_clock import HandClock

GIB = 1024**3


def destination(kind: str = "telemetrydeck", **settings: object) -> Destination:
    return Destination(**{"name": kind, "kind": kind, **defaults(kind, SpoolConfig()), **settings})


def load(**facts: float) -> Load:
    usual = {"rate": 100.0, "event_bytes": 600, "outage_s": 3600.0, "latency_s": 0.2}
    return Load(**{**usual, **facts})  # type: ignore[arg-type]


def test_an_outage_that_fits_loses_nothing() -> None:
    plan = reckon(destination(), load(), 2 * GIB)
    assert plan.queued_events == 360_000
    assert plan.fits
    assert plan.lost_events == 0
    assert plan.notes == []


def test_an_outage_that_does_not_fit_says_when_it_is_full_what_is_lost_and_what_to_set() -> None:
    plan = reckon(destination(), load(outage_s=6 * 3600.0), 2 * GIB)
    assert not plan.fits
    assert plan.full_after_s == pytest.approx(GIB / (plan.disk_bytes / plan.queued_events) / 100)
    assert plan.lost_events == plan.queued_events - GIB // (plan.disk_bytes // plan.queued_events)
    assert plan.needed_bytes > plan.disk_bytes
    assert "destinations.telemetrydeck.max_size" in plan.notes[0]
    assert reckon(destination(max_size=plan.needed_bytes), load(outage_s=6 * 3600.0), 16 * GIB).fits


def test_the_queue_drains_at_what_the_vendor_takes_less_what_still_comes_in() -> None:
    plan = reckon(destination(), load(), 2 * GIB)
    assert plan.delivered_per_second == 4 / 0.2 * 100  # concurrency / latency * events a request
    assert plan.drain_s == pytest.approx(360_000 / (2000 - 100))
    assert reckon(destination("encharge"), load(rate=10), 2 * GIB).delivered_per_second == 8 / 0.2


def test_a_rate_limit_below_what_comes_in_never_drains_and_says_so() -> None:
    plan = reckon(destination(rate_limit=RateLimit(events=50.0)), load(), 2 * GIB)
    assert plan.drain_s is None
    assert "never catches up" in plan.notes[0]


def test_what_it_advises_against_never_catching_up_is_what_has_an_effect_on_that_kind() -> None:
    (batched,) = reckon(destination(), load(rate=3000, outage_s=60), 2 * GIB).notes
    assert batched.endswith("raise destinations.telemetrydeck.concurrency or flush.max_events")
    (single,) = reckon(destination("encharge"), load(outage_s=60), 2 * GIB).notes
    assert single.endswith("raise destinations.encharge.concurrency")
    limited = destination("encharge", rate_limit=RateLimit(requests=20.0))
    (note,) = reckon(limited, load(rate=30, outage_s=60), 2 * GIB).notes
    assert note.endswith("raise destinations.encharge.rate_limit")


def test_a_rate_limit_that_is_not_the_only_bound_is_named_beside_what_else_has_to_be_raised() -> None:
    slow = destination("encharge", rate_limit=RateLimit(requests=20.0))
    (note,) = reckon(slow, load(rate=100, outage_s=60), 2 * GIB).notes
    assert note.endswith("raise destinations.encharge.concurrency and rate_limit")
    both = destination(rate_limit=RateLimit(events=50.0))
    (note,) = reckon(both, load(rate=3000, outage_s=60), 2 * GIB).notes
    assert note.endswith("raise destinations.telemetrydeck.concurrency or flush.max_events, and rate_limit")


def test_large_events_make_smaller_batches() -> None:
    plan = reckon(destination(), load(event_bytes=100 * 1024), 2 * GIB)
    assert plan.delivered_per_second == 4 / 0.2 * 5


def test_an_outage_beyond_the_age_limits_says_so() -> None:
    notes = " ".join(reckon(destination(), load(rate=0.1, outage_s=8 * 86400.0), 2 * GIB).notes)
    assert "max_age = 7d" in notes
    assert "24 h" in notes


async def test_the_disk_that_a_real_spool_takes_is_less_than_the_plan_says(tmp_path: Path) -> None:
    clock = HandClock()
    spool = DiskSpool(
        directory=tmp_path / "spool",
        quarantine=tmp_path / "quarantine",
        destination="telemetrydeck",
        settings=SpoolSettings(),
        clock=clock,
        metrics=Metrics(),
    )
    event = b"{" + b"x" * 598 + b"}"
    async with spool:
        for _ in range(2000):
            group = Group(destination="telemetrydeck", batch_key=b"k", events=[event], size=len(event))
            assert spool.reserve(group.size, 1) is None
            spool.append(group, Durability.MEMORY, lambda _: None)
    used = sum(path.stat().st_size for path in (tmp_path / "spool").iterdir())
    plan = reckon(destination(), load(rate=2000.0, outage_s=1.0), 2 * GIB)
    assert 0.5 * plan.disk_bytes < used < plan.disk_bytes + 256 * 1024


def test_it_prints_one_block_a_destination_and_json_for_machines(tmp_path: Path) -> None:
    config = tmp_path / "forwarder.toml"
    config.write_text(
        '[destinations.telemetrydeck]\nkind = "telemetrydeck"\nmax_size = "64MiB"\n'
        '[destinations.encharge]\nkind = "encharge"\nwrite_key = { env = "NO_SUCH_KEY" }\n'
    )
    asked = ["plan", "--config", str(config), "--rate", "500", "--outage", "6h"]
    said = CliRunner().invoke(cli, asked).output
    assert "telemetrydeck (telemetrydeck): 500 events/s, away for 6 h" in said
    assert "does not fit: full after 2 min" in said
    assert "encharge (encharge)" in said
    rows = json.loads(CliRunner().invoke(cli, [*asked, "--json"]).output)
    assert [row["destination"] for row in rows] == ["telemetrydeck", "encharge"]
    assert rows[0]["limit_bytes"] == 64 * 1024**2


def test_a_duration_that_is_none_is_refused_with_an_example() -> None:
    result = CliRunner().invoke(cli, ["plan", "--kind", "encharge", "--rate", "1", "--outage", "soon"])
    assert result.exit_code == 2
    assert "expected something like 250ms, 90s or 6h" in result.output


def test_without_a_configuration_it_reckons_with_the_defaults_of_both_kinds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(cli, ["plan", "--rate", "500", "--outage", "6h"])
    assert result.exit_code == 0, result.output
    assert "telemetrydeck (telemetrydeck): 500 events/s, away for 6 h" in result.stdout
    assert "encharge (encharge): 500 events/s, away for 6 h" in result.stdout
    assert "no configuration was found" in result.stderr


def test_a_configuration_that_is_named_must_exist(tmp_path: Path) -> None:
    asked = ["plan", "--config", str(tmp_path / "none.toml"), "--rate", "500", "--outage", "6h"]
    assert isinstance(CliRunner().invoke(cli, asked).exception, ConfigurationError)
