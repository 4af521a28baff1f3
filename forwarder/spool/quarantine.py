"""Quarantine: damaged files are kept for a human, for `quarantine_max_age` after they were set aside. Blocking."""

import contextlib
from pathlib import Path

import structlog

from forwarder.core.seams import Clock

PERIOD_S = 3600.0
CLOCK_TOLERANCE_S = 3600.0
"""Nothing expires while wall and monotonic clock disagree by more than this."""

log = structlog.get_logger()


class QuarantineAge:
    """Deletes what has been in quarantine for too long, once an hour."""

    def __init__(self, clock: Clock, max_age_s: float) -> None:
        self.max_age_s = max_age_s
        self._clock = clock
        self._offset = clock.wall() - clock.monotonic()
        self._next_at = clock.monotonic()

    def expire(self, directory: Path) -> int:
        """Delete files that are too old, if it is time to; return how many."""
        now, wall = self._clock.monotonic(), self._clock.wall()
        if now < self._next_at or abs(wall - now - self._offset) > CLOCK_TOLERANCE_S:
            return 0
        self._next_at = now + PERIOD_S
        gone = [path for path in directory.rglob("*") if _delete_if_before(path, wall - self.max_age_s)]
        if gone:
            names = [str(path.relative_to(directory)) for path in gone[:20]]
            log.warning("quarantine_expired", files=len(gone), names=names, setting="spool.quarantine_max_age")
        return len(gone)


def _delete_if_before(path: Path, horizon: float) -> bool:
    # a rename sets the time of the last status change: that is when it was set aside
    with contextlib.suppress(OSError):
        if path.is_file() and path.stat().st_ctime < horizon:
            path.unlink()
            return True
    return False
