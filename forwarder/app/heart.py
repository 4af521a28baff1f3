"""The heart: what the daemon does by the clock. It beats slowly, so that an idle daemon stays asleep."""

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from forwarder.app.systemd import Notifier
from forwarder.core import report
from forwarder.core.report import Reporter
from forwarder.core.seams import Clock

BEAT_S = 3.0
STUCK_S = 60.0
LEAST_LIMIT_S = 15.0
"""A lane turns every 5 s when nothing happens: less than a few turns is no sign of anything."""
QUIET_BEATS = 5
"""While nothing moves the disk is measured at every so many beats: each time wakes a thread, and it wakes the loop."""

log = structlog.get_logger()


class Heart:
    """Measures the disk, looks at secrets, samples rates, tells systemd how it is; feeds the watchdog by progress.

    `wedged` says what has made no progress for the given seconds. The limit is half of systemd's WatchdogSec, so that
    a wedge ends the process one and a half intervals after it began, at most 60 s. `moved` returns a value that is
    another one when events have come or gone, or are refused.
    """

    def __init__(
        self,
        *,
        wedged: Callable[[float], str | None],
        measure: Callable[[], Awaitable[None]],
        moved: Callable[[], object],
        reporter: Reporter,
        sample: Callable[[], None],
        notifier: Notifier,
        clock: Clock,
        secrets_changed: Callable[[], None],
    ) -> None:
        self._wedged = wedged
        self._measure = measure
        self._moved = moved
        self._reporter = reporter
        self._sample = sample
        self._notifier = notifier
        self._clock = clock
        self._secrets_changed = secrets_changed
        self._beat_s = min(BEAT_S, notifier.watchdog_s or BEAT_S)
        self._limit_s = max(LEAST_LIMIT_S, min(STUCK_S, notifier.watchdog_s or STUCK_S))
        self._asked_at: float | None = None
        """When the measurement began that is under way."""
        self._beats = 0
        """Since the last measurement."""
        self._seen = moved()
        self._told: str | None = None

    async def run(self) -> None:
        """Beat until cancelled. The disk is measured beside: one that does not answer must not stop the beat."""
        async with asyncio.TaskGroup() as tasks:
            while True:
                await asyncio.sleep(self._beat_s)
                if self.beat():
                    tasks.create_task(self.look(), name="measure")

    def beat(self) -> bool:
        """Do everything that is due; return whether it is time for a look at the disk."""
        self._reporter.sample()
        self._sample()
        self._secrets_changed()
        if self._notifier.heard:
            self._notifier.send(f"STATUS={self.words()}")
        self._feed()
        return self._due()

    async def look(self) -> None:
        """Measure the disk."""
        self._asked_at = self._clock.monotonic()
        await self._measure()
        self._asked_at = None

    def words(self) -> str:
        """Return one line for people: `systemctl status` shows it."""
        found = self._reporter.report()
        parts = [f"not accepting: {found.not_accepting}" if found.not_accepting else "accepting"]
        for destination in found.destinations:
            oldest = destination.oldest_age_s
            age = "" if oldest is None else f", oldest {report.duration(oldest)}"
            parts.append(f"{destination.name}: {destination.spool.queued_events} queued{age}, {destination.words}")
        return "; ".join(parts)

    def _due(self) -> bool:
        before, self._seen = self._seen, self._moved()
        self._beats += 1
        if self._asked_at is not None or (self._seen == before and self._beats < QUIET_BEATS):
            return False
        self._beats = 0
        return True

    def _feed(self) -> None:
        """Feed the watchdog while loop, commits, lanes and disk make progress; a vendor's outage is no lack of it."""
        wedged = self._wedged(self._limit_s) or self._silent_disk()
        if wedged != self._told:
            if wedged is not None and self._told is None:
                log.error("no_progress", reason=wedged)
            elif wedged is None:
                log.warning("progress_again", reason=self._told)
            self._told = wedged
        if wedged is None and self._notifier.watchdog_s is not None:
            self._notifier.send("WATCHDOG=1")

    def _silent_disk(self) -> str | None:
        silent_s = 0.0 if self._asked_at is None else self._clock.monotonic() - self._asked_at
        return f"the disk has not answered for {silent_s:.0f} s" if silent_s > self._limit_s else None
