"""The lane's log: each kind of line at most once in a few seconds, however often its cause comes."""

import structlog

from forwarder.core.lane.effect import Report
from forwarder.core.seams import Clock

GAP_S = 5.0


class Herald:
    """Logs reports of one destination. Of those that come too soon the last of each kind is told later, with a count.

    So an outage that begins seconds after another one is in the log, too, and the last line tells how things stand.
    """

    def __init__(self, destination: str, clock: Clock) -> None:
        self._log = structlog.get_logger().bind(destination=destination)
        self._clock = clock
        self._last: dict[str, float] = {}
        self._late: dict[str, Report] = {}
        self._held: dict[str, int] = {}

    def tell(self, report: Report) -> None:
        """Log one report now, or when its kind may be told again."""
        now = self._clock.monotonic()
        if report.event in self._late or now - self._last.get(report.event, now - GAP_S) < GAP_S:
            self._held[report.event] = self._held.get(report.event, -1) + 1
            self._late.pop(report.event, None)  # behind what came meanwhile
            self._late[report.event] = report
        else:
            self._say(report, now)

    def tell_late(self, *, all_: bool = False) -> None:
        """Log what was held back long enough (or all of it), in the order in which it came."""
        if not self._late:
            return
        now = self._clock.monotonic()
        for event, report in list(self._late.items()):
            if not all_ and now - self._last[event] < GAP_S:
                return  # nothing overtakes: "recovered" must not stand before the failure that it ends
            del self._late[event]
            self._say(report, now)

    def _say(self, report: Report, now: float) -> None:
        self._last[report.event] = now
        held = self._held.pop(report.event, 0)
        facts = {**report.facts, "suppressed": held} if held else report.facts
        getattr(self._log, report.level)(report.event, **facts)
