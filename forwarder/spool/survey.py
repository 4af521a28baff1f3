"""What lies in a spool directory, read without changing anything: for recovery, and for tools on a live spool."""

import contextlib
import re
from collections.abc import Callable
from pathlib import Path

import msgspec

from forwarder.core import checkpoint, journal, recovery, segment, walk
from forwarder.core.checkpoint import BadCheckpoint, Checkpoint
from forwarder.core.journal import Ack
from forwarder.core.recovery import Facts, File, Recovery
from forwarder.core.segment import HEADER_SIZE, BadHeader, Header
from forwarder.core.walk import Scan
from forwarder.spool.active import path_of
from forwarder.spool.fs import Fs

CHECKPOINT = "checkpoint"
_SEGMENT = re.compile(r"(\d{12})\.segment")
_JOURNAL = re.compile(r"acks\.(\d{12})")
_PAGE = 4096
_READ = 1024 * 1024


class Survey(msgspec.Struct, frozen=True, kw_only=True):
    """A spool directory at one moment, and what recovery makes of it."""

    recovery: Recovery
    journals: list[int]
    unfinished: list[str]
    """Names of replacements that never took place."""
    others: list[str]
    """Names that are not ours; left alone."""
    bad_checkpoint: bool


def survey(fs: Fs, directory: Path) -> Survey:
    """Read the directory; raises OSError only when it cannot be listed."""
    names = sorted(fs.names(directory))
    numbers = [int(match[1]) for name in names if (match := _SEGMENT.fullmatch(name))]
    generations = [int(match[1]) for name in names if (match := _JOURNAL.fullmatch(name))]
    facts = Facts(
        files=[_file(fs, directory, number) for number in numbers],
        checkpoint=_checkpoint(fs, directory) if CHECKPOINT in names else None,
        acks=[ack for generation in generations for ack in _acks(fs, journal_path(directory, generation))],
        journal=max(generations, default=0),
    )
    headers = {file.number: (file.header, file.size) for file in facts.files}
    scans = {number: _scan(fs, directory, *headers[number]) for number in recovery.to_scan(facts)}
    ours = {path_of(directory, number).name for number in numbers}
    ours |= {journal_path(directory, generation).name for generation in generations} | {CHECKPOINT}
    unfinished = [name for name in names if name == f"{CHECKPOINT}.new"]
    return Survey(
        recovery=recovery.recover(facts, scans),
        journals=generations,
        unfinished=unfinished,
        others=[name for name in names if name not in ours and name not in unfinished],
        bad_checkpoint=isinstance(facts.checkpoint, BadCheckpoint),
    )


def journal_path(directory: Path, generation: int) -> Path:
    """Return the path of an ack journal."""
    return directory / f"acks.{generation:012d}"


def tolerant(fs: Fs, descriptor: int) -> Callable[[int, int], bytes]:
    """Return a reader that gives zeros for the pages that the disk cannot read."""

    def read(offset: int, size: int) -> bytes:
        try:
            return fs.read(descriptor, offset, size)
        except OSError:
            return b"".join(page(at, min(_PAGE, offset + size - at)) for at in range(offset, offset + size, _PAGE))

    def page(offset: int, size: int) -> bytes:
        try:
            return fs.read(descriptor, offset, size)
        except OSError:
            return bytes(size)

    return read


def _file(fs: Fs, directory: Path, number: int) -> File:
    path = path_of(directory, number)
    try:
        size = fs.size(path)
        descriptor = fs.open(path)
        with contextlib.closing(_Descriptor(fs, descriptor)):
            data = fs.read(descriptor, 0, HEADER_SIZE)
            header = segment.decode(data)
            if isinstance(header, BadHeader) and header.kind == "torn" and not _blank(fs, descriptor, size):
                header = BadHeader("corrupt", "header is blank, the rest is not")
    except OSError as exc:
        # perhaps it can be read next time: leave it, and keep off the sequences that it may hold
        return File(number, 0, BadHeader("unsupported", f"cannot be read: {exc.strerror or exc}"))
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
        return walk.scan(lambda _offset, length: bytes(length), header, 0)
    with contextlib.closing(_Descriptor(fs, descriptor)):
        return walk.scan(tolerant(fs, descriptor), header, size)


def _checkpoint(fs: Fs, directory: Path) -> Checkpoint | BadCheckpoint:
    try:
        return checkpoint.decode(read_file(fs, directory / CHECKPOINT))
    except OSError as exc:
        return BadCheckpoint("corrupt", f"cannot be read: {exc.strerror or exc}")


def _acks(fs: Fs, path: Path) -> list[Ack]:
    try:
        found = journal.decode(read_file(fs, path))
    except OSError:
        return []
    return list(found.acks) if found else []


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
