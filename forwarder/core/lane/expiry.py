"""Which records are too old to send, and when the clocks cannot be trusted to say so."""

from collections.abc import Iterable

from forwarder.core.spool.frame import Span

DISAGREEMENT_S = 3600.0
STEADY_S = 86400.0
"""A wall clock that has kept its new offset for a day is believed (it was set right, or the machine slept)."""


class ClockGuard:
    """Halts expiry while wall and monotonic clocks disagree by an hour, or the clock is behind the newest record."""

    def __init__(self, *, now: float, wall: float) -> None:
        self._offset = wall - now
        self._strange: float | None = None
        self._strange_since = now
        self.newest = 0.0

    def seen(self, accepted_at: float) -> None:
        """Take note of a record's time of acceptance."""
        self.newest = max(self.newest, accepted_at)

    def trusted(self, *, now: float, wall: float) -> bool:
        """Return whether ages may be believed now."""
        offset = wall - now
        if abs(offset - self._offset) <= DISAGREEMENT_S:
            self._strange = None
            return wall >= self.newest
        if self._strange is None or abs(offset - self._strange) > DISAGREEMENT_S:
            self._strange, self._strange_since = offset, now
        if now - self._strange_since >= STEADY_S:
            self._offset, self._strange = offset, None
        return False


class Ages:
    """The age limits in seconds: `max_age`, and `profile_max_age` for records of age class 1."""

    def __init__(self, *, max_age: float, profile_max_age: float) -> None:
        self.limits = (max_age, profile_max_age)
        self.least = min(self.limits)
        self.most = max(self.limits)

    def split(self, spans: Iterable[Span], wall: float) -> tuple[list[Span], list[Span]]:
        """Return (alive, expired); whole frames are decided at once wherever their age allows it."""
        alive: list[Span] = []
        expired: list[Span] = []
        for span in spans:
            age = wall - span.frame.accepted_at
            if not span.frame.traits:
                (expired if age > self.limits[0] else alive).append(span)
            elif age <= self.least:
                alive.append(span)
            elif age > self.most:
                expired.append(span)
            else:
                for single in span.singles():
                    (expired if age > self.limits[1 if single.aged() else 0] else alive).append(single)
        return alive, expired

    def any_expired(self, spans: Iterable[Span], wall: float) -> bool:
        """Return whether `split` could find any; the cheap test before a send."""
        horizon = wall - self.least
        return min([span.frame.accepted_at for span in spans], default=wall) < horizon
