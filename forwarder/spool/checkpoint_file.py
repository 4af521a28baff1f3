"""The files beside the segments: checkpoint, ack journals, and the trimming that a durable checkpoint allows."""

import contextlib
from collections.abc import Sequence
from pathlib import Path

import msgspec

from forwarder.core.spool import checkpoint, journal
from forwarder.core.spool.checkpoint import Checkpoint
from forwarder.core.spool.journal import Ack
from forwarder.core.spool.segment import Extent
from forwarder.spool.active import path_of
from forwarder.spool.fs import Fs
from forwarder.spool.survey import CHECKPOINT, journal_path


class JournalFile(msgspec.Struct, frozen=True):
    """An open ack journal."""

    generation: int
    descriptor: int


class AckJournal:
    """Where acks go at once. Owned by the loop; a write is one system call of about a microsecond, never synced."""

    def __init__(self, fs: Fs) -> None:
        self._fs = fs
        self._file: JournalFile | None = None
        self.size = 0
        self.missed = 0
        """Acks that are only in memory until the next checkpoint."""

    def switch(self, file: JournalFile | None) -> JournalFile | None:
        """Go on in `file`; return the old one, to be closed."""
        old, self._file, self.size = self._file, file, journal.RECORD_SIZE
        return old

    def write(self, acks: Sequence[Ack]) -> bool:
        """Append records; return False if the next checkpoint must cover them instead."""
        if self._file is None:
            self.missed += len(acks)
            return False
        generation = self._file.generation
        data = b"".join([journal.encode(first, end, outcome, generation) for first, end, outcome in acks])
        try:
            taken = self._fs.append(self._file.descriptor, data)
        except OSError:
            taken = 0
        self.size += taken
        if taken == len(data):
            return True
        # a cut record would put all later ones out of step
        self._abandon()
        self.missed += len(acks)
        return False

    def _abandon(self) -> None:
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._fs.close(self._file.descriptor)
        self._file = None

    def close(self) -> None:
        """Close the file."""
        self._abandon()


class Saved(msgspec.Struct, frozen=True, kw_only=True):
    """What came of saving a checkpoint."""

    trimmed: list[int]
    spare: JournalFile | None
    error: str | None
    size: int = 0
    """Bytes of the checkpoint."""


class Keeper:
    """Saves checkpoints; everything here runs on the writer thread (or before it starts)."""

    def __init__(self, fs: Fs, directory: Path, quarantine: Path, journals: Sequence[int], *, newest: int) -> None:
        self._fs = fs
        self._directory = directory
        self._quarantine = quarantine
        self._journals = list(journals)
        self._newest = newest

    def new_journal(self) -> JournalFile | None:
        """Create the next generation's file; None if the disk does not take it."""
        self._newest = generation = self._newest + 1
        self._journals.append(generation)
        try:
            descriptor = self._fs.append_to(journal_path(self._directory, generation))
        except OSError:
            return None
        try:
            header = journal.encode_header(generation)
            if self._fs.append(descriptor, header) == len(header):
                return JournalFile(generation, descriptor)
        except OSError:
            pass
        with contextlib.suppress(OSError):
            self._fs.close(descriptor)
        return None

    def save(
        self,
        state: Checkpoint,
        old: JournalFile | None,
        drained: Sequence[Extent],
        spare: JournalFile | None,
    ) -> Saved:
        """Make the checkpoint durable, then delete what it covers: older journals and drained segments."""
        if old is not None:
            with contextlib.suppress(OSError):
                self._fs.close(old.descriptor)
        try:
            data = checkpoint.encode(state)
            self._fs.replace(self._directory / CHECKPOINT, data)
        except OSError as exc:
            return Saved(trimmed=[], spare=spare, error=f"cannot write the checkpoint: {exc.strerror or exc}")
        trimmed = [extent.number for extent in drained if self._drop(extent)]
        self._drop_journals(state.journal)
        return Saved(trimmed=trimmed, spare=spare or self.new_journal(), error=None, size=len(data))

    def _drop(self, extent: Extent) -> bool:
        path = path_of(self._directory, extent.number)
        try:
            if extent.damaged:
                set_aside(self._fs, path, self._quarantine)
            else:
                self._fs.remove(path)
        except FileNotFoundError:
            return True
        except OSError:
            return False
        return True

    def _drop_journals(self, keep_from: int) -> None:
        for generation in [g for g in self._journals if g < keep_from]:
            with contextlib.suppress(OSError):
                self._fs.remove(journal_path(self._directory, generation))
                self._journals.remove(generation)


def set_aside(fs: Fs, path: Path, quarantine: Path) -> Path:
    """Move a file into quarantine under a name that is free there; return its new path."""
    fs.make_directory(quarantine)
    taken = set(fs.names(quarantine))
    names = [path.name, *(f"{path.name}.{count}" for count in range(1, len(taken) + 2))]
    target = quarantine / next(name for name in names if name not in taken)
    fs.move(path, target)
    return target
