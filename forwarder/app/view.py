"""What may be seen of the daemon: implements `seams.DaemonView` over the running parts."""

from collections.abc import Callable, Mapping, Sequence

import msgspec

from forwarder import __version__
from forwarder.app.destination import LiveDestination
from forwarder.app.doors import Doors
from forwarder.core.seams import Clock, DeadLetter, DeadLetterStatus, DiskStatus, LaneStatus, ListenerStatus, SpoolStats
from forwarder.metrics import Counters, Metrics
from forwarder.spool import dead_letter_line
from forwarder.spool.directory import SpoolDirectory
from forwarder.spool.samples import RefusedSamples

STUCK_S = 60.0


class View:
    """Reads the parts; owns nothing. `turn` is the monotonic time of the event loop's last housekeeping."""

    version = __version__

    def __init__(
        self,
        *,
        destinations: Mapping[str, LiveDestination],
        doors: Doors,
        directory: SpoolDirectory,
        metrics: Metrics,
        samples: RefusedSamples,
        clock: Clock,
        notes: Callable[[], Sequence[str]],
    ) -> None:
        self._destinations = destinations
        self._doors = doors
        self._directory = directory
        self._metrics = metrics
        self._samples = samples
        self._clock = clock
        self._notes = notes
        self.started_at = clock.wall()
        self.draining = False

    def not_accepting(self) -> str | None:
        """Return why events cannot be accepted locally, or None; never about vendors."""
        if self.draining:
            return "the daemon is stopping"
        if not any(listener.accepting for listener in self._doors.status()):
            return "no listener is bound"
        for spool in self.spools():
            if spool.refusing:
                return _trouble(spool)
        busy = self._directory.room(0)
        return busy.message if busy else None

    def degraded(self) -> str | None:
        """Return what is wrong with a disk though events are accepted, or None."""
        return next((_trouble(spool) for spool in self.spools() if spool.trouble and not spool.refusing), None)

    def stuck(self, limit_s: float = STUCK_S) -> str | None:
        """Return what has made no progress for `limit_s`, or None; that it answers at all shows that the loop turns."""
        now = self._clock.monotonic()
        for spool in self.spools():
            if now - spool.last_progress > limit_s:
                return f"the writer thread of {spool.destination} has been busy for {now - spool.last_progress:.0f} s"
        return None

    def wedged(self, limit_s: float = STUCK_S) -> str | None:
        """Return `stuck`, or which lane's loop has not turned for `limit_s`: what the watchdog is fed by."""
        now = self._clock.monotonic()
        for lane in self.lanes():
            if lane.state != "stopped" and now - lane.last_progress > limit_s:
                return f"the lane of {lane.destination} has not turned for {now - lane.last_progress:.0f} s"
        return self.stuck(limit_s)

    def moved(self) -> object:
        """Return a value that is another one when events have come or gone, and always while they are refused."""
        if self.not_accepting() is not None:
            return self._clock.monotonic()
        return [(spool.next_sequence, spool.queued_events, spool.bytes) for spool in self.spools()]

    def listeners(self) -> Sequence[ListenerStatus]:
        """Return every bound listener, and what became of the events that came to it."""
        return [self._with_counts(listener) for listener in self._doors.status()]

    def _with_counts(self, listener: ListenerStatus) -> ListenerStatus:
        latest = self._samples.latest(listener.label)
        return msgspec.structs.replace(
            listener,
            received=int(self._metrics.received.at(listener.label).value),
            refused=_by_reason(self._metrics.refused, listener.label),
            shed=_by_reason(self._metrics.shed, listener.label),
            last_refusal=latest.error if latest else "",
            last_refused_at=dead_letter_line.seconds(latest.last_at) if latest else None,
        )

    def spools(self) -> Sequence[SpoolStats]:
        """Return every open spool."""
        return [live.spool.stats() for live in self._destinations.values()]

    def lanes(self) -> Sequence[LaneStatus]:
        """Return every lane."""
        return [live.flusher.status() for live in self._destinations.values()]

    def dead_letters(self) -> Sequence[DeadLetterStatus]:
        """Return the dead letters of every destination."""
        return [live.dead_letters.status() for live in self._destinations.values()]

    async def latest_letters(self, most: int) -> dict[str, list[DeadLetter]]:
        """Return so many of the newest dead letters of every destination, oldest first."""
        found = {}
        for name, live in list(self._destinations.items()):
            sequences = await live.dead_letters.sequences()
            found[name] = await live.dead_letters.read(sequences[-most:])
        return found

    def disk(self) -> DiskStatus:
        """Return the state of the volume."""
        return self._directory.status()

    def notes(self) -> Sequence[str]:
        """Return standing remarks of all parts."""
        spools = [note for live in self._destinations.values() for note in live.spool.notes()]
        orphans = [
            f'spool/{name} has no destination in the configuration: kept; adopt it by naming a destination "{name}"'
            for name in self._directory.orphans(self._destinations)
        ]
        return [*self._notes(), *self._doors.notes, *spools, *orphans]


def _trouble(spool: SpoolStats) -> str:
    return f"{spool.destination}: {spool.trouble} (since {dead_letter_line.stamp(spool.trouble_since or 0.0)})"


def _by_reason(counters: Counters, label: str) -> dict[str, int]:
    return {reason: int(cell.value) for (listener, reason), cell in counters.cells.items() if listener == label}
