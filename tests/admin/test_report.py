from datetime import UTC, datetime
from typing import Any

import pytest

from forwarder.core.report import Reporter, advice, duration, moment, words
from tests.support.fake_view import NOW, FakeDaemon, lane, letters, spool

TEN_O_CLOCK = datetime(2026, 5, 28, 10, 2, 40, tzinfo=UTC).timestamp()


def reporter(daemon: FakeDaemon) -> Reporter:
    return Reporter(daemon, daemon.clock)


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0, "0 s"),
        (59.4, "59 s"),
        (59.6, "1 min"),
        (185, "3 min 5 s"),
        (3600, "1 h"),
        (7260, "2 h 1 min"),
        (187_200, "2 d 4 h"),
    ],
)
def test_a_duration_is_told_in_its_two_largest_units(seconds: float, expected: str) -> None:
    assert duration(seconds) == expected


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ({"state": "flowing"}, "flowing"),
        (
            {"state": "backing_off", "reason": "after 503", "next_try_at": NOW + 42},
            "backing off after 503, next try in 42 s",
        ),
        (
            {"state": "backing_off", "reason": "after 503, next try in 42 s", "next_try_at": NOW + 42},
            "backing off after 503, next try in 42 s",
        ),
        (
            {"state": "parked", "reason": "401, check write key", "since": TEN_O_CLOCK},
            "parked since 10:02: 401, check write key",
        ),
        (
            {"state": "parked", "reason": "401, check write key", "since": TEN_O_CLOCK - 86400},
            "parked since 2026-05-27 10:02: 401, check write key",
        ),
        ({"state": "probing", "next_try_at": NOW - 5}, "probing next try in 0 s"),
    ],
)
def test_a_lane_is_told_in_words(facts: dict[str, Any], expected: str) -> None:
    assert words(lane(**facts), NOW, UTC) == expected


def test_a_time_of_day_carries_its_date_when_that_is_not_today() -> None:
    assert moment(TEN_O_CLOCK, TEN_O_CLOCK + 13 * 3600, UTC) == "10:02"
    assert moment(TEN_O_CLOCK, TEN_O_CLOCK + 14 * 3600, UTC) == "2026-05-28 10:02"


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ({"state": "flowing"}, ""),
        ({"state": "backing_off", "reason": "after 503, next try in 42 s"}, "nothing: events are kept"),
        ({"state": "probing", "reason": "after 503; one request is trying it"}, "nothing: events are kept"),
        (
            {"state": "backing_off", "reason": "after failed name lookup: x does not resolve, next try in 42 s"},
            "network, DNS, proxy and destinations.telemetrydeck.url",
        ),
        ({"state": "parked", "reason": "401, check write key"}, "then: forwarder resume telemetrydeck"),
        ({"state": "probing", "reason": "401, check write key; one request"}, "then: forwarder resume telemetrydeck"),
    ],
)
def test_what_can_be_done_follows_from_the_state(facts: dict[str, Any], expected: str) -> None:
    found = advice(lane(**facts))
    assert expected in found if expected else not found


def test_a_spool_without_a_destination_says_so() -> None:
    daemon = FakeDaemon()
    daemon.lane_list = []
    (found,) = reporter(daemon).report().destinations
    assert found.lane is None
    assert "no such destination is configured" in found.words


def test_rates_need_two_samples_and_then_tell_when_the_spool_is_full() -> None:
    daemon = FakeDaemon()
    facts: dict[str, Any] = {"next_sequence": 1000, "queued_events": 100, "bytes": 10_000, "limit_bytes": 30_000}
    daemon.spool_list = [spool(**facts)]
    reports = reporter(daemon)
    reports.sample()
    assert reports.report().destinations[0].accepted_per_second is None
    daemon.clock.advance(10)
    daemon.spool_list = [spool(**facts | {"next_sequence": 1300, "queued_events": 200, "bytes": 20_000})]
    (found,) = reports.report().destinations
    assert found.accepted_per_second == 30
    assert found.seconds_to_full == pytest.approx(10_000 / (10 * 100))
    assert found.seconds_to_empty is None


def test_a_shrinking_queue_tells_when_it_is_empty() -> None:
    daemon = FakeDaemon()
    daemon.spool_list = [spool(queued_events=300)]
    reports = reporter(daemon)
    reports.sample()
    daemon.clock.advance(10)
    daemon.spool_list = [spool(queued_events=200)]
    (found,) = reports.report().destinations
    assert found.seconds_to_empty == 20
    assert found.seconds_to_full is None


def test_samples_older_than_a_minute_are_forgotten() -> None:
    daemon = FakeDaemon()
    reports = reporter(daemon)
    for _ in range(1000):
        reports.sample()
        daemon.clock.advance(1)
    assert len(reports._samples) <= 13


def test_the_second_equation_of_the_ledger_is_checked() -> None:
    daemon = FakeDaemon()
    assert reporter(daemon).report().destinations[0].dead_letter_imbalance == 0
    daemon.letters_list = [letters(present=6)]
    assert reporter(daemon).report().destinations[0].dead_letter_imbalance == 1
