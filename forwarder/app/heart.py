"""The heart: what the daemon does by the clock. It beats slowly, so that an idle daemon stays asleep."""

import asyncio
from collections.abc import Callable

import structlog

from forwarder.app.systemd import Notifier
from forwarder.app.view import View
from forwarder.core.report import Reporter
from forwarder.spool.directory import SpoolDirectory

BEAT_S = 2.0

log = structlog.get_logger()


class Heart:
    """Measures the disk, looks at secrets, samples rates, tells systemd how it is; feeds the watchdog by progress."""

    def __init__(
        self,
        *,
        view: View,
        reporter: Reporter,
        directory: SpoolDirectory,
        notifier: Notifier,
        secrets_changed: Callable[[], None],
    ) -> None:
        self._view = view
        self._reporter = reporter
        self._directory = directory
        self._notifier = notifier
        self._secrets_changed = secrets_changed
        self._wedged: str | None = None

    async def run(self) -> None:
        """Beat until cancelled."""
        while True:
            await asyncio.sleep(min(BEAT_S, self._notifier.watchdog_s or BEAT_S))
            await self._directory.measure()
            self._reporter.sample()
            self._secrets_changed()
            self._notifier.send(f"STATUS={self.words()}")
            self._feed()

    def words(self) -> str:
        """Return one line for people."""
        problem = self._view.not_accepting()
        parts = [f"not accepting: {problem}" if problem else "accepting"]
        lanes = {lane.destination: lane for lane in self._view.lanes()}
        for spool in self._view.spools():
            lane = lanes.get(spool.destination)
            parts.append(f"{spool.destination}: {spool.queued_events} queued, {lane.state if lane else 'no lane'}")
        return "; ".join(parts)

    def _feed(self) -> None:
        """Feed the watchdog while loop, commits and lanes make progress; a vendor's outage is not a lack of it."""
        wedged = self._view.wedged()
        if wedged != self._wedged:
            self._wedged = wedged
            if wedged is not None:
                log.error("no_progress", reason=wedged)
        if wedged is None and self._notifier.watchdog_s is not None:
            self._notifier.send("WATCHDOG=1")
