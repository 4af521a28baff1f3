"""What may be seen of the daemon: implements `seams.DaemonView` over the running parts."""

from collections.abc import Callable, Mapping, Sequence

from forwarder import __version__
from forwarder.app.destination import LiveDestination
from forwarder.app.doors import Doors
from forwarder.core.seams import Clock, DeadLetter, DeadLetterStatus, DiskStatus, LaneStatus, ListenerStatus, SpoolStats
from forwarder.spool.dead_letter_line import stamp
from forwarder.spool.directory import SpoolDirectory

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
        clock: Clock,
        notes: Callable[[], Sequence[str]],
    ) -> None:
        self._destinations = destinations
        self._doors = doors
        self._directory = directory
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
            if spool.trouble is not None and spool.trouble_since is not None:
                return f"{spool.destination}: {spool.trouble} (since {stamp(spool.trouble_since)})"
        busy = self._directory.room(0)
        return busy.message if busy else None

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

    def listeners(self) -> Sequence[ListenerStatus]:
        """Return every bound listener."""
        return self._doors.status()

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
