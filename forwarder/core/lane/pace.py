"""The rate limit: token buckets for events and requests a second."""


class Bucket:
    """One token bucket: `rate` a second, a second's worth (and at least one) at once; None is unlimited."""

    def __init__(self, rate: float | None, now: float) -> None:
        self.rate = rate
        self._tokens = max(rate, 1.0) if rate else 0.0
        self._at = now

    def ready_at(self, now: float) -> float:
        """Return when something may be taken; `now` or earlier if at once."""
        if self.rate is None:
            return now
        self._tokens = min(max(self.rate, 1.0), self._tokens + (now - self._at) * self.rate)
        self._at = now
        # An epsilon, so that the float error of a wait does not ask for another wait of nanoseconds.
        return now if self._tokens >= 1.0 - 1e-6 else now + (1.0 - self._tokens) / self.rate

    def take(self, count: int) -> None:
        """Take `count` tokens; the bucket may go into debt, so that a batch larger than a second's worth still goes."""
        if self.rate is not None:
            self._tokens -= count


class Pacer:
    """Events and requests a second together."""

    def __init__(self, *, events: float | None, requests: float | None, now: float) -> None:
        self._events = Bucket(events, now)
        self._requests = Bucket(requests, now)
        self.limited = events is not None or requests is not None

    def ready_at(self, now: float) -> float:
        """Return when the next request may begin."""
        return max(self._events.ready_at(now), self._requests.ready_at(now)) if self.limited else now

    def take(self, events: int) -> None:
        """Count one request with so many events."""
        self._events.take(events)
        self._requests.take(1)
