"""The settings of one lane, as the pure core needs them."""

import msgspec

from forwarder.core.lane.outcome import Answers
from forwarder.core.lane.retry import RetryPolicy


class OrderLimits(msgspec.Struct, frozen=True, kw_only=True):
    """How far an ordered lane looks ahead, and how many persons it sets aside; sizes in bytes."""

    records: int = 10_000
    bytes: int = 16 * 1024 * 1024
    per_person: int = 64
    persons: int = 1000
    links: int = 100_000


class Rules(msgspec.Struct, frozen=True, kw_only=True):
    """Settings of one destination; durations in seconds, sizes in bytes."""

    answers: Answers
    batched: bool
    """Many records a request; else one record a request, in order per person."""
    policy: RetryPolicy = RetryPolicy()
    concurrency: int = 4
    interval: float = 10.0
    max_events: int = 100
    max_bytes: int = 512 * 1024
    max_attempts: int = 10
    max_ambiguous: int = 3
    """Sends of one event whose answer was lost (unbatched lanes only); 1 where `on_ambiguous` is `dead_letter`."""
    storm_min: int = 20
    max_age: float = 7 * 86400.0
    profile_max_age: float = 7 * 86400.0
    drop_expired: bool = False
    events_per_second: float | None = None
    requests_per_second: float | None = None
    order: OrderLimits = OrderLimits()
