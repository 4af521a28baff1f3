"""When to try again: exponential backoff with full jitter, and what Retry-After says."""

from datetime import UTC
from email.utils import parsedate_to_datetime

import msgspec

RETRY_AFTER_LIMIT_S = 3600.0
"""A vendor that asks for more is asked again after an hour: its clock or its header may be wrong, ours is the data."""
FLOOR = 0.1
"""The least part of `initial` that is waited: full jitter may draw zero, and that would be no backoff."""


class RetryPolicy(msgspec.Struct, frozen=True):
    """Backoff from `initial` to `max` seconds."""

    initial: float = 1.0
    max: float = 300.0

    def delay(self, attempt: int, jitter: float) -> float:
        """Return seconds to wait after the `attempt`th failure in a row (1, 2, …); `jitter` is in [0, 1)."""
        ceiling = min(self.max, self.initial * 2.0 ** min(max(attempt, 1) - 1, 60))
        return max(self.initial * FLOOR, ceiling * jitter)


def retry_after(value: str | None, *, wall: float) -> float | None:
    """Return the seconds that a Retry-After header asks for, within [0, RETRY_AFTER_LIMIT_S]; None if it says nothing.

    `wall` is the time that an HTTP date is measured against: the answer's own Date where it has one, else our clock.
    """
    if value is None:
        return None
    text = value.strip()
    if text.isascii() and text.isdigit():
        # Nine digits are thirty years; int() of an unbounded string would be quadratic.
        return min(float(text[:9]) if len(text) <= 9 else RETRY_AFTER_LIMIT_S, RETRY_AFTER_LIMIT_S)  # noqa: PLR2004
    moment = http_date(text)
    if moment is None:
        return None
    return min(max(moment - wall, 0.0), RETRY_AFTER_LIMIT_S)


def http_date(text: str) -> float | None:
    """Return an HTTP date in seconds since the epoch, or None if it is none."""
    try:
        moment = parsedate_to_datetime(text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None
