"""The spool directory: its layout, its lock against a second process, and the limits on all of it.

    DIRECTORY/lock                   held while a daemon runs; says who holds it
    DIRECTORY/control.sock           what changes something (forwarder.control)
    DIRECTORY/spool/DESTINATION/     segments, checkpoint, ack journal
    DIRECTORY/dead/DESTINATION/      dead letters
    DIRECTORY/quarantine/            what recovery could not read
    DIRECTORY/refused/               samples of refused events

Directories are 0700, files 0600.
"""

import asyncio
import contextlib
import fcntl
import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

import structlog

from forwarder.core.seams import Busy, Clock, DiskStatus
from forwarder.errors import SpoolLocked, SpoolNotWritable
from forwarder.spool import dead_letter_line, files
from forwarder.spool.quarantine import QuarantineAge
from forwarder.spool.shares import Member, Shares

RETRY_AFTER_S = 10
MIN_FREE_SHARE = 0.05
"""`min_free` never asks for more of a volume than this."""
PARTS = ("spool", "dead", "quarantine", "refused")

log = structlog.get_logger()


class SpoolDirectory:
    """Owner of the lock and of the two limits that concern the directory as a whole.

    `open` blocks and belongs into the start; afterwards `measure` (off the loop, every few seconds) keeps the figures
    fresh. The spools that have joined tell their own size at any moment, so that the limits hold between two
    measurements, too.
    """

    def __init__(
        self,
        root: Path,
        *,
        max_total: int,
        min_free: int,
        version: str,
        clock: Clock,
        quarantine_max_age: float = 30 * 86400.0,
    ) -> None:
        self.root = root
        self.max_total = max_total
        self._min_free = min_free
        self._version = version
        self._clock = clock
        self._quarantine = QuarantineAge(clock, quarantine_max_age)
        self._lock: int | None = None
        self.shares = Shares()
        self._others = 0
        """Bytes of everything but the spools that have joined."""
        self._free = 0
        self._volume = 0
        self._then = 0
        """What the spools had taken when the free space was measured."""

    # -- layout

    def spool(self, destination: str) -> Path:
        """Return the directory of a destination's segments."""
        return self.root / "spool" / destination

    def dead(self, destination: str) -> Path:
        """Return the directory of a destination's dead letters."""
        return self.root / "dead" / destination

    @property
    def quarantine(self) -> Path:
        """Return where unreadable files are set aside."""
        return self.root / "quarantine"

    @property
    def refused(self) -> Path:
        """Return where samples of refused events are."""
        return self.root / "refused"

    @property
    def control_socket(self) -> Path:
        """Return the path of the control socket."""
        return self.root / "control.sock"

    def orphans(self, configured: Iterable[str]) -> list[str]:
        """Return the destinations that have a spool here but no configuration."""
        known = set(configured)
        with contextlib.suppress(FileNotFoundError):
            return sorted(path.name for path in self.root.joinpath("spool").iterdir() if _foreign(path, known))
        return []

    # -- opening

    def open(self) -> None:
        """Create the layout and take the lock. Raises SpoolLocked or SpoolNotWritable."""
        try:
            self.root.mkdir(mode=files.DIRECTORY_MODE, parents=True, exist_ok=True)
            self._lock = self._take_lock()
            for part in PARTS:
                files.private_directory(self.root / part)
            self._take(self._measure(frozenset()), 0)
        except OSError as exc:
            self.close()
            reason = f"{exc.strerror or exc} (as uid {os.geteuid()}); set spool.directory to a writable directory"
            raise SpoolNotWritable(directory=str(self.root), reason=reason) from exc

    def close(self) -> None:
        """Give the lock back."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _take_lock(self) -> int:
        path = self.root / "lock"
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, files.FILE_MODE)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.ftruncate(descriptor, 0)
            since = dead_letter_line.stamp(self._clock.wall())
            files.write_all(descriptor, f"pid {os.getpid()} (forwarder {self._version}, since {since})\n".encode())
        except BlockingIOError as exc:
            holder = os.pread(descriptor, 200, 0).decode("utf-8", "replace").strip()
            os.close(descriptor)
            raise SpoolLocked(directory=str(self.root), holder=holder or "another process") from exc
        except OSError:
            os.close(descriptor)
            raise
        return descriptor

    # -- limits

    def usage(self) -> int:
        """Return the bytes that everything under the directory takes on disk, zero-written space included."""
        return self._others + self.shares.taken

    def free(self) -> int:
        """Return the bytes that are free on the volume."""
        return max(self._free - max(self.shares.taken - self._then, 0), 0)

    @property
    def min_free(self) -> int:
        """Return the free space that is left to others: the setting, or 5 % of the volume if that is less."""
        return min(self._min_free, int(self._volume * MIN_FREE_SHARE))

    def limit(self, *, max_total: int, min_free: int, quarantine_max_age: float | None = None) -> None:
        """Apply changed limits (reload)."""
        if quarantine_max_age is not None:
            self._quarantine.max_age_s = quarantine_max_age
        self.max_total = max_total
        self._min_free = min_free

    def status(self) -> DiskStatus:
        """Return what `status` shows."""
        return DiskStatus(
            directory=str(self.root), free_bytes=self.free(), used_bytes=self.usage(), limit_bytes=self.max_total
        )

    def join(self, destination: str, member: Member) -> None:
        """Let a spool tell its own size, and give way to others."""
        self.shares.members[destination] = member
        self._others = max(0, self._others - member.taken)

    def leave(self, destination: str) -> None:
        """Measure a spool's files from now on: it is closed."""
        member = self.shares.members.pop(destination, None)
        self._others += member.taken if member else 0

    def room(self, size: int, destination: str = "") -> Busy | None:
        """Return which limit forbids `size` more bytes, or None; whoever is over its share gives way first."""
        room = self.max_total - self._others
        lacking = self.usage() + size - self.max_total + self.shares.kept_for_others(destination, size, room)
        if lacking > 0 and not self.shares.give_way(destination, size, lacking, room):
            message = f"the spool directory holds {self.usage()} bytes; spool.max_total allows {self.max_total}"
            return Busy(destination, "spool.max_total", message, RETRY_AFTER_S)
        lacking = size + self.min_free - self.free()
        if lacking > 0 and not self.shares.give_way(destination, size, lacking, room):
            message = f"{self.free()} bytes are free on the volume; spool.min_free keeps {self.min_free}"
            return Busy(destination, "spool.min_free", message, RETRY_AFTER_S)
        return None

    async def measure(self) -> None:
        """Bring usage and free space up to date; a disk that cannot be asked leaves them as they are."""
        joined, then = frozenset(self.shares.members), self.shares.taken
        try:
            measured = await asyncio.to_thread(self._look, joined)
        except OSError as exc:
            log.warning("disk_not_measured", path=str(self.root), error=exc.strerror)
            return
        if joined == frozenset(self.shares.members):
            self._take(measured, then)

    def _look(self, joined: frozenset[str]) -> tuple[int, int, int]:
        """Measure, and let go what was in quarantine for long enough: one visit to a thread, not two."""
        measured = self._measure(joined)
        self._quarantine.expire(self.quarantine)
        return measured

    def _take(self, measured: tuple[int, int, int], then: int) -> None:
        self._others, self._free, self._volume = measured
        self._then = then

    def _measure(self, joined: frozenset[str]) -> tuple[int, int, int]:
        """Return the bytes of all but the joined spools, the free bytes, and the size of the volume."""
        volume = os.statvfs(self.root)
        telling = frozenset(os.fspath(self.spool(name)) for name in joined)
        used = sum(_sizes(self.root, telling))
        return used, volume.f_bavail * volume.f_frsize, volume.f_blocks * volume.f_frsize


def _foreign(path: Path, known: set[str]) -> bool:
    return path.is_dir() and path.name not in known


def _sizes(directory: Path, without: frozenset[str]) -> Iterator[int]:
    """Yield what every file below takes on disk, but for some directories; files that go meanwhile count nothing."""
    with contextlib.suppress(FileNotFoundError), os.scandir(directory) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                if entry.path not in without:
                    yield from _sizes(Path(entry.path), without)
                continue
            with contextlib.suppress(FileNotFoundError):
                found = entry.stat(follow_symlinks=False)
                yield max(found.st_size, found.st_blocks * 512) if stat.S_ISREG(found.st_mode) else 0
