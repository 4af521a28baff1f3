"""The dead letters of one destination: the loop's side. Files: dead_letter_files. Format: dead_letter_line."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Self, TypeVar

import structlog

from forwarder.config.model import DeadLetterLimits
from forwarder.core.seams import Clock, DeadLetter, DeadLetterStatus
from forwarder.errors import DiskTrouble
from forwarder.spool.dead_letter_file import Announcement, Removal
from forwarder.spool.dead_letter_files import ROLL_SIZE, DeadLetterFiles
from forwarder.spool.person import Person

__all__ = ["Announcement", "DiskDeadLetters"]

KEEP_S = 3600.0
"""Letters are looked through for old ones this often."""
CLOCK_TOLERANCE_S = 3600.0
"""Nothing expires while wall and monotonic clock disagree by more than this."""

log = structlog.get_logger()
_T = TypeVar("_T")


class DiskDeadLetters:
    """Implements DeadLetters, and what `status`, replay and purge need. `async with` opens it.

    One thread of its own does all file work in order, so a slow disk holds up neither the loop nor the commits, and a
    cancelled call is still finished before the next one starts.
    """

    def __init__(
        self, directory: Path, destination: str, limits: DeadLetterLimits, clock: Clock, *, roll_size: int = ROLL_SIZE
    ) -> None:
        self.destination = destination
        self._limits = limits
        self._clock = clock
        self._clock_offset = clock.wall() - clock.monotonic()
        self._files = DeadLetterFiles(directory, max_size=limits.max_size, roll_size=roll_size)
        self._thread = ThreadPoolExecutor(1, f"dead-letters-{destination}")
        self.moving = asyncio.Lock()
        """Held while events go from the spool to the letters or back, and while a person is erased from both."""
        self._status = self._measured()

    async def __aenter__(self) -> Self:
        await self._call(self._files.open)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._call(self._files.close)
        self._thread.shutdown()

    def count(self) -> int:
        """Return how many letters are present."""
        return self._status.present

    def status(self) -> DeadLetterStatus:
        """Return what `status` shows."""
        return self._status

    def limit(self, limits: DeadLetterLimits) -> None:
        """Apply changed limits (reload); they count from the next letter on."""
        self._limits = limits
        self._files.limit(limits.max_size)

    async def sequences(self) -> list[int]:
        """Return the sequences of all letters, ascending: recovery compares them with the spool's acks."""
        return await self._call(self._files.sequences)

    async def add(self, letters: Sequence[DeadLetter]) -> None:
        """Write and sync; a sequence that is present already is not written again. Raises DiskTrouble."""
        purged = await self._call(lambda: self._files.add(letters))
        if purged:
            log.error(
                "dead_letters_purged", destination=self.destination, count=purged, setting="spool.dead_letters.max_size"
            )
        await self.expire()

    async def read(self, sequences: Sequence[int]) -> list[DeadLetter]:
        """Return these letters, as far as they are present; ask for as many as fit into memory."""
        return await self._call(lambda: self._files.read(sequences))

    async def take(self, sequences: Sequence[int], how: Removal) -> int:
        """Remove these letters and count them as `how` says; return how many were present.

        For a replay: `announce`, append to the spool, and only when that is durable `take(…, "replayed")`. A crash in
        between leaves the letters and the announcement in place: see app/replay.
        """
        return await self._call(lambda: self._files.take(sequences, how))

    async def erase(self, person: Person, *, dry_run: bool) -> int:
        """Remove the letters that name a person (they count as purged); return how many. Raises DiskTrouble."""
        return await self._call(lambda: self._files.erase(person, dry_run=dry_run))

    async def announce(self, replay: Announcement | None) -> None:
        """Make the announcement of a replay durable; None: it is over. Raises DiskTrouble."""
        await self._call(lambda: self._files.announce(replay))

    async def announced(self) -> Announcement | None:
        """Return the announcement of a replay that was cut off by a crash."""
        return await self._call(self._files.announced)

    async def expire(self) -> int:
        """Drop what is older than `max_age`; return how many. Does nothing while the clocks disagree."""
        now = self._clock.wall()
        if abs(now - self._clock.monotonic() - self._clock_offset) > CLOCK_TOLERANCE_S:
            return 0
        purged = await self._call(lambda: self._files.expire(now - self._limits.max_age))
        if purged:
            log.warning(
                "dead_letters_purged", destination=self.destination, count=purged, setting="spool.dead_letters.max_age"
            )
        return purged

    async def keep(self, pause: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        """Drop what is too old, now and every hour, for ever; a disk that refuses is asked again after the next."""
        while True:
            try:
                await self.expire()
            except DiskTrouble as trouble:
                log.warning("dead_letters_not_purged", destination=self.destination, reason=str(trouble))
            await pause(KEEP_S)

    async def _call(self, work: Callable[[], _T]) -> _T:
        def job() -> _T:
            try:
                return work()
            finally:
                self._status = self._measured()

        return await asyncio.shield(asyncio.get_running_loop().run_in_executor(self._thread, job))

    def _measured(self) -> DeadLetterStatus:
        return DeadLetterStatus(
            destination=self.destination,
            present=self._files.count,
            replayed=self._files.totals.replayed,
            purged=self._files.totals.purged,
            bytes=self._files.size,
            oldest_died_at=self._files.oldest,
        )
