"""What lies in a spool directory, read without changing anything: for recovery, and for tools on a live spool."""

import contextlib
import re
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path

import msgspec

from forwarder.core.spool import checkpoint, journal, recovery, salvage, segment, walk
from forwarder.core.spool.checkpoint import BadCheckpoint, Checkpoint
from forwarder.core.spool.journal import Ack
from forwarder.core.spool.ledger import FIRST
from forwarder.core.spool.recovery import Facts, File, Recovery
from forwarder.core.spool.segment import HEADER_SIZE, BadHeader, Header
from forwarder.core.spool.walk import Scan
from forwarder.spool.active import path_of
from forwarder.spool.fs import Fs

CHECKPOINT = "checkpoint"
REPLACEMENT = ".new"
"""What the name of a file ends in that is to take another one's place."""
_SEGMENT = re.compile(r"(\d{12})\.segment")
_JOURNAL = re.compile(r"acks\.(\d{12})")
_UNFINISHED = re.compile(rf"(checkpoint|\d{{12}}\.segment){re.escape(REPLACEMENT)}")
_PAGE = 4096
_READ = 1024 * 1024
_TRIES = 20
"""Looks at a live spool until two in a row find the same files."""


class Survey(msgspec.Struct, frozen=True, kw_only=True):
    """A spool directory at one moment, and what recovery makes of it."""

    recovery: Recovery
    journals: list[int]
    unfinished: list[str]
    """Names of replacements that never took place."""
    others: list[str]
    """Names that are not ours; left alone."""
    bad_checkpoint: bool
    bad_journals: list[int]
    """Generations whose files are damaged; those of a newer format are left alone."""


def survey(fs: Fs, directory: Path, *, given: int = FIRST) -> Survey:
    """Read the directory; raises OSError only when it cannot be listed. `given`: see Facts."""
    names = sorted(fs.names(directory))
    numbers = [int(match[1]) for name in names if (match := _SEGMENT.fullmatch(name))]
    journals = [_journal(fs, directory, int(m[1])) for name in names if (m := _JOURNAL.fullmatch(name))]
    facts = Facts(
        files=[_file(fs, directory, number) for number in numbers],
        checkpoint=_checkpoint(fs, directory) if CHECKPOINT in names else None,
        acks=[ack for found in journals for ack in found.acks],
        journal=max((found.generation for found in journals), default=0),
        journal_troubles=[found.trouble for found in journals if found.trouble],
        given=given,
    )
    headers = {file.number: (file.header, file.size) for file in facts.files}
    scans = {number: _scan(fs, directory, *headers[number]) for number in recovery.to_scan(facts)}
    ours = {path_of(directory, number).name for number in numbers}
    ours |= {journal_path(directory, found.generation).name for found in journals} | {CHECKPOINT}
    unfinished = [name for name in names if _UNFINISHED.fullmatch(name)]
    return Survey(
        recovery=recovery.recover(facts, scans),
        journals=[found.generation for found in journals if not found.newer],
        unfinished=unfinished,
        others=[name for name in names if name not in ours and name not in unfinished],
        bad_checkpoint=isinstance(facts.checkpoint, BadCheckpoint),
        bad_journals=[found.generation for found in journals if found.bad],
    )


def steady_survey(fs: Fs, directory: Path) -> Survey:
    """Survey a spool that may be live: look again until checkpoint, journals and segments belong together."""
    found = survey(fs, directory)
    for _ in range(_TRIES):
        before = _state(fs, directory)
        found = survey(fs, directory)
        if _state(fs, directory) == before:
            break
    return found


def _state(fs: Fs, directory: Path) -> tuple[list[str], bytes]:
    """Return what changes whenever the state is saved or files come and go (not when the newest ones grow)."""
    try:
        saved = read_file(fs, directory / CHECKPOINT)
    except OSError:
        saved = b""
    return sorted(name for name in fs.names(directory) if not name.endswith(REPLACEMENT)), saved


def journal_path(directory: Path, generation: int) -> Path:
    """Return the path of an ack journal."""
    return directory / f"acks.{generation:012d}"


def tolerant(fs: Fs, descriptor: int, blind: set[int]) -> Callable[[int, int], bytes]:
    """Return a reader that gives zeros for the pages that the disk cannot read; their offsets go into `blind`."""

    def read(offset: int, size: int) -> bytes:
        try:
            return fs.read(descriptor, offset, size)
        except OSError:
            cuts = [offset, *range(offset - offset % _PAGE + _PAGE, offset + size, _PAGE), offset + size]
            return b"".join(page(start, stop - start) for start, stop in pairwise(cuts))

    def page(offset: int, size: int) -> bytes:
        try:
            return fs.read(descriptor, offset, size)
        except OSError:
            blind.add(offset - offset % _PAGE)
            return bytes(size)

    return read


def _file(fs: Fs, directory: Path, number: int) -> File:
    path = path_of(directory, number)
    size = 0
    try:
        size = fs.size(path)
        descriptor = fs.open(path)
        with contextlib.closing(_Descriptor(fs, descriptor)):
            data = fs.read(descriptor, 0, HEADER_SIZE)
            header = segment.decode(data)
            if isinstance(header, BadHeader) and header.kind == "torn" and not _blank(fs, descriptor, size):
                header = BadHeader("corrupt", "header is blank, the rest is not")
            if isinstance(header, BadHeader) and header.kind == "corrupt":
                found = salvage.header(partial(fs.read, descriptor), number, size)
                if found is not None:
                    return File(number, size, found, salvaged=True)
    except OSError as exc:
        # perhaps it can be read next time: leave it, and keep off the sequences that it may hold
        return File(number, size, BadHeader("unsupported", f"cannot be read: {exc.strerror or exc}"))
    if isinstance(header, Header) and header.number != number:
        header = BadHeader("corrupt", f"header says segment {header.number}")
    return File(number, size, header)


def _blank(fs: Fs, descriptor: int, size: int) -> bool:
    return not any(any(fs.read(descriptor, at, _READ)) for at in range(HEADER_SIZE, size, _READ))


def _scan(fs: Fs, directory: Path, header: Header | BadHeader, size: int) -> Scan:
    if isinstance(header, BadHeader):
        raise TypeError(header)
    try:
        descriptor = fs.open(path_of(directory, header.number))
    except OSError:
        return walk.scan(lambda _offset, length: bytes(length), header, 0)._replace(blind=max(0, size - HEADER_SIZE))
    blind: set[int] = set()
    with contextlib.closing(_Descriptor(fs, descriptor)):
        found = walk.scan(tolerant(fs, descriptor, blind), header, size)
    return found._replace(blind=sum(_PAGE for offset in blind if offset + _PAGE > found.valid_end.offset))


def _checkpoint(fs: Fs, directory: Path) -> Checkpoint | BadCheckpoint:
    try:
        return checkpoint.decode(read_file(fs, directory / CHECKPOINT))
    except OSError as exc:
        return BadCheckpoint("corrupt", f"cannot be read: {exc.strerror or exc}")


class _Journal(msgspec.Struct, frozen=True, kw_only=True):
    generation: int
    acks: Sequence[Ack] = ()
    trouble: str = ""
    bad: bool = False
    newer: bool = False


def _journal(fs: Fs, directory: Path, generation: int) -> _Journal:
    path = journal_path(directory, generation)
    try:
        data = read_file(fs, path)
    except OSError as exc:
        return _Journal(generation=generation, trouble=f"{path.name} cannot be read: {exc.strerror or exc}")
    found = journal.decode(data)
    if found is None:
        reason = journal.trouble(data)
        if reason is None:
            return _Journal(generation=generation)
        newer = reason != "header"
        return _Journal(generation=generation, trouble=f"{path.name}: {reason}", bad=not newer, newer=newer)
    # the last one may be cut: the write under way when the process died
    strange = found.bad - (1 if len(data) % journal.RECORD_SIZE else 0)
    trouble = f"{path.name}: {strange} records do not verify; what they acked is delivered again" if strange else ""
    return _Journal(generation=generation, acks=found.acks, trouble=trouble, bad=bool(strange))


def read_file(fs: Fs, path: Path) -> bytes:
    """Return a whole (small) file."""
    descriptor = fs.open(path)
    with contextlib.closing(_Descriptor(fs, descriptor)):
        return fs.read(descriptor, 0, fs.size(path))


class _Descriptor:
    def __init__(self, fs: Fs, descriptor: int) -> None:
        self._fs = fs
        self._descriptor = descriptor

    def close(self) -> None:
        self._fs.close(self._descriptor)
