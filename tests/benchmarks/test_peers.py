"""What the table says beside the figures: peers that are not measured, settings that are not the default."""

from pathlib import Path

import pytest

from benchmarks import delivery, memory, peers


def test_nsqd_has_a_row_without_a_number_whether_it_is_installed_or_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    missing = peers.nsqd()
    (tmp_path / "nsqd").touch(mode=0o700)
    installed = peers.nsqd()
    assert missing.case == installed.case == "nsqd"
    assert missing.measured.startswith("not measured: nsqd is missing")
    assert installed.measured.startswith("not measured, though it is installed")


def test_every_comparison_has_the_forwarders_own_rate_before_it() -> None:
    rates = {"forwarder": [30.0], "sqlite": [3.0]}
    rows = peers.compared("single", rates)
    assert [(row.case, row.measured) for row in rows] == [
        ("single: forwarder", "30 events/s"),
        ("single: aiohttp + sqlite FULL", "3 events/s"),
        ("single: forwarder against it", "10.0 ×"),
    ]


def test_the_settings_that_the_backlogs_need_are_those_that_are_told(tmp_path: Path) -> None:
    config = delivery.config(1, str(tmp_path))
    assert all(limit in config for limit in delivery.LIMITS)
    assert all(limit in delivery.changed() for limit in delivery.LIMITS)
    assert str(delivery.CONCURRENCY) in delivery.changed()
    assert all(limit in memory.changed() for limit in memory.LIMITS)
