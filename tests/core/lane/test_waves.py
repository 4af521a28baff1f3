"""In a flood a lane sends a share of what comes in, at a pace with a floor and a ceiling."""

import pytest

from forwarder.core.lane.waves import LEAST_S, MOST_S, SHARE, Waves

FLOOD = 100e6
FIVE_MS = round(SHARE * FLOOD * 0.005)
"""Bytes that a lane may send in five milliseconds."""


@pytest.mark.parametrize(
    ("size", "wait"),
    [(FIVE_MS, 0.005), (300, LEAST_S), (10 * FIVE_MS, MOST_S)],
    ids=["a share of the flood", "an event alone", "large requests"],
)
def test_the_next_wave_waits_until_the_flood_has_brought_enough(size: int, wait: float) -> None:
    waves = Waves()
    waves.began(size, 7.0)
    assert waves.due(FLOOD) == pytest.approx(7.0 + wait)


@pytest.mark.parametrize(("late", "counted"), [(0.001, 0.0), (0.003, 0.003), (-0.001, -0.001)])
def test_a_timer_that_is_a_little_late_does_not_slow_the_lane_down(late: float, counted: float) -> None:
    waves = Waves()
    waves.began(FIVE_MS, 7.0)
    due = waves.due(FLOOD)
    waves.began(FIVE_MS, due + late)
    assert waves.due(FLOOD) == pytest.approx(due + counted + 0.005)


def test_requests_that_begin_before_the_next_wave_is_asked_for_belong_to_the_last_one() -> None:
    waves = Waves()
    waves.began(FIVE_MS, 7.0)
    waves.began(FIVE_MS // 4, 7.001)
    assert waves.due(FLOOD) == pytest.approx(7.00625)
    waves.began(FIVE_MS, 8.0)
    assert waves.due(FLOOD) == pytest.approx(8.005)


def test_a_turn_that_begins_nothing_is_no_wave() -> None:
    waves = Waves()
    waves.began(FIVE_MS, 7.0)
    waves.began(0, 8.0)
    assert waves.due(FLOOD) == pytest.approx(7.005)
