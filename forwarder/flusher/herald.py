"""The lane's log: each kind of line at most once in a few seconds, however often its cause comes."""

import structlog

from forwarder.core.lane.effect import Report
from forwarder.core.seams import Clock

GAP_S = 5.0


class Herald:
    """Logs reports of one destination; what is held back is counted on the next line of its kind."""

    def __init__(self, destination: str, clock: Clock) -> None:
        self._log = structlog.get_logger().bind(destination=destination)
        self._clock = clock
        self._last: dict[str, float] = {}
        self._held: dict[str, int] = {}

    def tell(self, report: Report) -> None:
        """Log one report, or count it."""
        now = self._clock.monotonic()
        last = self._last.get(report.event)
        if last is not None and now - last < GAP_S:
            self._held[report.event] = self._held.get(report.event, 0) + 1
            return
        self._last[report.event] = now
        held = self._held.pop(report.event, 0)
        facts = {**report.facts, "suppressed": held} if held else report.facts
        getattr(self._log, report.level)(report.event, **facts)
