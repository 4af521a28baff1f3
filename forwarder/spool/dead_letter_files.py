"""The dead-letter files of one destination: append, index, cap and rewrite. Blocking; one thread at a time.

    dead/DESTINATION/000000000001.ndjson   one letter a line; never appended to by a later process
    dead/DESTINATION/replay.json           the replay that is under way, if any
    dead/DESTINATION/totals.json           how many left the files, and the one removal that is under way

A removal is announced in totals.json before the file changes and counted after it, so that after a crash the file
itself tells whether it took place: died = present + replayed + purged survives kill -9 at any point.
"""

import contextlib
import os
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import msgspec
import structlog

from forwarder.core.seams import DeadLetter
from forwarder.errors import DiskTrouble
from forwarder.spool import dead_letter_line, dead_letter_person, files
from forwarder.spool.dead_letter_file import Announcement, LetterFile, Pending, Removal, Totals, lines, mark_of
from forwarder.spool.person import Person

ROLL_SIZE = 8 * 1024 * 1024
ROLL_AGE_S = 86400.0
"""A file takes letters for a day at most, so that what is too old can go a file at a time."""

log = structlog.get_logger()


class DeadLetterFiles:
    """Everything that touches the files; DiskDeadLetters calls it on its own thread."""

    def __init__(self, directory: Path, *, max_size: int, roll_size: int) -> None:
        self._directory = directory
        self._largest_roll = roll_size
        self.limit(max_size)
        self._files: list[LetterFile] = []
        self._descriptor: int | None = None
        self._number = 0
        self.totals = Totals()

    def limit(self, max_size: int) -> None:
        """Set the size limit; it counts from the next letter on."""
        self._max_size = max_size
        self._roll_size = min(self._largest_roll, max(max_size // 4, 1))

    # -- reading

    @property
    def count(self) -> int:
        """Return the letters present."""
        return sum(len(file.sequences) for file in self._files)

    @property
    def size(self) -> int:
        """Return the bytes of all files."""
        return sum(file.size for file in self._files)

    @property
    def oldest(self) -> float | None:
        """Return when the oldest letter died."""
        return min((file.oldest for file in self._files if file.sequences), default=None)

    def sequences(self) -> list[int]:
        """Return the sequences of all letters, ascending."""
        return sorted(sequence for file in self._files for sequence in file.sequences)

    def has(self, sequence: int) -> bool:
        """Return whether this letter is present."""
        return any(file.has(sequence) for file in self._files)

    def read(self, sequences: Sequence[int]) -> list[DeadLetter]:
        """Return the letters with these sequences, as far as they are present."""
        self._look_again()
        wanted = frozenset(sequences)
        found: list[DeadLetter] = []
        for file in self._files:
            if any(map(file.has, wanted)):
                letters = (dead_letter_line.decode(line) for line in lines(file.path))
                found += [letter for letter in letters if letter is not None and letter.sequence in wanted]
        return found

    # -- opening

    def open(self) -> None:
        """Read what is there: settle an announced removal, drop letters that were written twice."""
        with files.trouble("open dead letters", self._directory):
            files.private_directory(self._directory)
            for half_written in self._directory.glob(".*.ndjson.new"):  # left by a process that was killed
                files.delete(half_written)
            found = dead_letter_line.paths(self._directory)
        self._number = max((int(path.stem) for path in found), default=0)
        self.totals = self._load_totals()
        self._settle()
        for path in found:
            self._scan(path)

    def close(self) -> None:
        """Seal the active file."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _load_totals(self) -> Totals:
        path = self._directory / "totals.json"
        try:
            return msgspec.json.decode(path.read_bytes(), type=Totals)
        except FileNotFoundError:
            return Totals()
        except (msgspec.DecodeError, UnicodeDecodeError) as exc:
            log.error("dead_letter_totals_damaged", path=str(path), error=str(exc))  # noqa: TRY400 (no traceback needed)
            with contextlib.suppress(OSError):
                path.replace(path.with_name("totals.json.damaged"))
            return Totals()

    def _settle(self) -> None:
        pending = self.totals.pending
        if pending is None:
            return
        path = self._directory / pending.file
        left = sum(1 for line in lines(path) if dead_letter_line.head(line)) if path.exists() else 0
        happened = left == pending.left
        settled = self.totals.counted(pending.gone if happened else 0, pending.how)
        try:
            self._save(settled)
        except DiskTrouble as exc:
            log.warning("dead_letter_totals_not_saved", path=exc.path, error=exc.reason)
            self.totals = settled  # the announcement stays on disk: the next start comes to the same end

    def _scan(self, path: Path) -> None:
        file = LetterFile(path)
        twice = 0
        try:
            for line in lines(path):
                found = dead_letter_line.head(line)
                if found is None:
                    log.warning("dead_letter_unreadable", path=str(path), offset=file.size)
                elif file.has(found.sequence) or self.has(found.sequence):
                    twice += 1
                else:
                    file.note(found.sequence, dead_letter_line.seconds(found.died_at))
                file.size += len(line)
        except OSError as exc:
            log.error("dead_letter_file_unreadable", path=str(path), error=exc.strerror)  # noqa: TRY400 (the same)
        file.mark = mark_of(path)
        if not file.sequences:
            file.newest = float("inf")  # holds nothing readable: kept for a person to look at, unless space runs out
        self._files.append(file)
        if twice:
            self._drop_twins(file)
            file.mark = mark_of(path)

    def _look_again(self) -> None:
        """Read files again that somebody edited: letters may have changed, or gone (which counts as purged)."""
        edited = [file for file in self._files if mark_of(file.path) != file.mark]
        if not edited:
            return
        before = self.count
        if self._descriptor is not None and self._files[-1] in edited:
            self.close()  # an editor may have put another file in its place: what is written here would be lost
        self._files = [file for file in self._files if file not in edited]
        for file in edited:
            if file.path.exists():
                self._scan(file.path)
        self._files.sort(key=lambda file: file.path)
        gone = before - self.count
        log.warning("dead_letters_edited", files=[file.path.name for file in edited], gone=gone)
        self._save(self.totals.counted(max(gone, 0), "purged"))

    def _drop_twins(self, file: LetterFile) -> None:
        """Leave each sequence once: a crash between write and ack writes a letter again."""
        seen: set[int] = set()

        def stays(sequence: int) -> bool:
            first = sequence not in seen and file.has(sequence)
            seen.add(sequence)
            return first

        try:
            with files.trouble("drop duplicates", file.path), files.replacing(file.path) as descriptor:
                file.size = sum(_copy(file.path, descriptor, stays))
        except DiskTrouble as exc:
            log.warning("dead_letter_duplicates_kept", path=exc.path, error=exc.reason)

    # -- adding

    def add(self, letters: Sequence[DeadLetter]) -> int:
        """Write and sync the letters that are not present yet; return how many letters the size limit cost."""
        self._look_again()
        fresh = {letter.sequence: letter for letter in letters if not self.has(letter.sequence)}
        purged = 0
        for chunk in _chunks(fresh.values(), self._roll_size):
            size = sum(len(line) for _, line in chunk)
            if size > self._max_size:
                self._save(self.totals.counted(len(chunk), "purged"))
                purged += len(chunk)
                continue
            purged += self._make_room(size)
            self._roll(size, chunk[0][0].died_at)
            self._append(chunk)
        return purged

    def _make_room(self, size: int) -> int:
        purged = 0
        while self._files and self.size + size > self._max_size:
            purged += self._drop(self._files[0])
        return purged

    def _roll(self, size: int, now: float) -> None:
        """Seal the active file when `size` bytes more are too many, or a day has passed, and have an active file."""
        if self._descriptor is not None:
            active = self._files[-1]
            if active.size + size <= self._roll_size and now - active.oldest < ROLL_AGE_S:
                return
            self.close()
        self._number += 1  # also when creating fails: a name that was half made is not tried again
        path = self._directory / f"{self._number:012d}.ndjson"
        with files.trouble("create", path):
            self._descriptor = files.create(path)
        self._files.append(LetterFile(path))
        self._files[-1].mark = mark_of(path)

    def _append(self, chunk: "Chunk") -> None:
        active = self._files[-1]
        assert self._descriptor is not None  # noqa: S101 (_roll has just seen to it)
        data = b"".join(line for _, line in chunk)
        try:
            with files.trouble("write", active.path):
                files.write_all(self._descriptor, data)
                os.fsync(self._descriptor)
        except DiskTrouble:
            self._abandon(active)
            raise
        active.size += len(data)
        active.mark = mark_of(active.path)
        for letter, _ in chunk:
            active.note(letter.sequence, letter.died_at)

    def _abandon(self, active: LetterFile) -> None:
        """Cut off what may not be durable and never sync this file again (the kernel may have dropped its pages)."""
        with contextlib.suppress(OSError):
            os.ftruncate(self._descriptor or -1, active.size)
        active.mark = mark_of(active.path)
        self.close()

    # -- removing

    def expire(self, before: float) -> int:
        """Drop the files whose newest letter died before `before`; return how many letters went."""
        self._look_again()
        # All files, not only the oldest: one that holds nothing readable must not keep the others for ever.
        return sum([self._drop(file) for file in list(self._files) if file.newest < before])

    def take(self, sequences: Sequence[int], how: Removal) -> int:
        """Remove these letters, as far as they are present; return how many there were."""
        self._look_again()
        wanted = frozenset(sequences)
        before = self.count
        for file in list(self._files):
            hits = [sequence for sequence in file.sequences if sequence in wanted]
            if hits:
                self._remove(file, frozenset(hits), how)
        return before - self.count

    def erase(self, person: Person, *, dry_run: bool) -> int:
        """Remove the letters that name a person (they count as purged) and unreadable lines; return how many."""
        self._look_again()
        count = 0
        for file in list(self._files):
            named, unreadable = dead_letter_person.naming(file.path, person)
            count += len(named) + unreadable
            if named and not dry_run:
                self._remove(file, named & frozenset(file.sequences), "purged")
            if unreadable and not dry_run and file in self._files:
                with files.trouble("erase lines of", file.path), files.replacing(file.path) as descriptor:
                    file.size = sum(dead_letter_person.copy_without(file.path, descriptor, person))
                file.mark = mark_of(file.path)
        return count

    def announce(self, replay: Announcement | None) -> None:
        """Keep an announcement in replay.json, or (None) delete it."""
        path = self._directory / "replay.json"
        with files.trouble("write", path):
            if replay is not None:
                files.replace(path, msgspec.json.encode(replay))
            elif path.exists():
                files.delete(path)

    def announced(self) -> Announcement | None:
        """Return the announcement that is there."""
        path = self._directory / "replay.json"
        try:
            return msgspec.json.decode(path.read_bytes(), type=Announcement)
        except (OSError, msgspec.DecodeError, UnicodeDecodeError):
            return None

    def _drop(self, file: LetterFile) -> int:
        gone = len(file.sequences)
        self._remove(file, frozenset(file.sequences), "purged")
        return gone

    def _remove(self, file: LetterFile, gone: frozenset[int], how: Removal) -> None:
        """Announce, change the file, count."""
        if file is self._files[-1]:
            self.close()
        left = len(file.sequences) - len(gone)
        self._save(
            Totals(
                replayed=self.totals.replayed,
                purged=self.totals.purged,
                pending=Pending(file=file.path.name, gone=len(gone), left=left, how=how),
            )
        )
        with files.trouble("remove dead letters from", file.path):
            if left:
                self._rewrite(file, gone)
            else:
                files.delete(file.path)
                self._files.remove(file)
        self._save(self.totals.counted(len(gone), how))

    def _rewrite(self, file: LetterFile, gone: frozenset[int]) -> None:
        with files.replacing(file.path) as descriptor:
            size = sum(_copy(file.path, descriptor, lambda sequence: sequence not in gone))
        file.size = size
        file.mark = mark_of(file.path)
        file.sequences = array("Q", (sequence for sequence in file.sequences if sequence not in gone))

    def _save(self, totals: Totals) -> None:
        path = self._directory / "totals.json"
        with files.trouble("write", path):
            files.replace(path, msgspec.json.encode(totals))
        self.totals = totals


Chunk = list[tuple[DeadLetter, bytes]]


def _chunks(letters: Iterable[DeadLetter], limit: int) -> Iterator[Chunk]:
    """Yield letters with their lines, in groups of about `limit` bytes."""
    chunk: Chunk = []
    size = 0
    for letter in letters:
        line = dead_letter_line.encode(letter)
        if chunk and size + len(line) > limit:
            yield chunk
            chunk, size = [], 0
        chunk.append((letter, line))
        size += len(line)
    if chunk:
        yield chunk


def _copy(path: Path, descriptor: int, stays: Callable[[int], bool]) -> Iterator[int]:
    """Copy the lines whose sequence `stays`, and those that cannot be read; yield the bytes written for each."""
    for line in lines(path):
        found = dead_letter_line.head(line)
        if found is None or stays(found.sequence):
            files.write_all(descriptor, line)
            yield len(line)
