import pytest
from hypothesis import given
from hypothesis import strategies as st

from forwarder.core.lane import retry
from forwarder.core.lane.retry import RetryPolicy

WALL = 1_780_000_000.0  # Thu, 28 May 2026 20:26:40 GMT


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        ("120", 120.0),
        (" 7 ", 7.0),
        ("0", 0.0),
        ("99999", 3600.0),
        ("9" * 500, 3600.0),
        ("Thu, 28 May 2026 20:28:40 GMT", 120.0),
        ("Thursday, 28-May-26 20:28:40 GMT", 120.0),
        ("Thu May 28 20:28:40 2026", 120.0),
        ("Thu, 28 May 2026 20:00:00 GMT", 0.0),
        ("Thu, 28 May 2099 20:00:00 GMT", 3600.0),
        ("-5", None),
        ("1.5", None),
        ("soon", None),
        ("", None),
        ("Thu, 99 May 2026 99:99:99 GMT", None),
        ("٣", None),
    ],
)
def test_retry_after_is_read_as_seconds_or_date_within_bounds(value: str | None, expected: float | None) -> None:
    assert retry.retry_after(value, wall=WALL) == expected


@given(st.text(max_size=60))
def test_no_retry_after_header_can_raise_or_leave_the_bounds(value: str) -> None:
    seconds = retry.retry_after(value, wall=WALL)
    assert seconds is None or 0 <= seconds <= 3600


@given(st.integers(-3, 10_000), st.floats(0, 1, exclude_max=True))
def test_backoff_stays_between_a_tenth_of_initial_and_max(attempt: int, jitter: float) -> None:
    policy = RetryPolicy(initial=1.0, max=300.0)
    delay = policy.delay(attempt, jitter)
    assert 0.1 <= delay <= min(300.0, 2.0 ** min(max(attempt - 1, 0), 20))


def test_the_ceiling_doubles_with_each_failure() -> None:
    policy = RetryPolicy(initial=1.0, max=300.0)
    ceilings = [policy.delay(attempt, 0.5) * 2 for attempt in range(1, 12)]
    assert ceilings == [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]
