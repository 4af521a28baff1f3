"""Opening a spool directory: recovery's decisions carried out. Blocking; runs on a thread."""

import contextlib
from pathlib import Path

import msgspec
import structlog

from forwarder.core.spool.recovery import Finding, Recovery
from forwarder.core.spool.segment import Extent
from forwarder.errors import SpoolNotWritable
from forwarder.spool.active import path_of
from forwarder.spool.checkpoint_file import JournalFile, Keeper, set_aside
from forwarder.spool.fs import Fs
from forwarder.spool.survey import CHECKPOINT, journal_path, read_file, survey

log = structlog.get_logger()

_MOST_LINES = 20
"""Findings logged one by one; the rest is counted."""


class Opened(msgspec.Struct, frozen=True, kw_only=True):
    """A directory that is ready for the writer."""

    recovery: Recovery
    keeper: Keeper
    journal: JournalFile | None
    spare: JournalFile | None


def open_directory(fs: Fs, directory: Path, quarantine: Path, destination: str, given: int) -> Opened:
    """Recover; raises SpoolNotWritable if the directory cannot be made or listed, and for nothing else."""
    try:
        fs.make_directory(directory)
        found = survey(fs, directory, given=given)
    except OSError as exc:
        raise SpoolNotWritable(directory=str(directory), reason=exc.strerror or str(exc)) from exc
    recovery = found.recovery
    for finding in recovery.findings[:_MOST_LINES]:
        _report(destination, finding)
    if len(recovery.findings) > _MOST_LINES:
        log.warning("spool_findings_not_shown", destination=destination, count=len(recovery.findings) - _MOST_LINES)
    for number in recovery.quarantine:
        _set_aside(fs, path_of(directory, number), quarantine, destination)
    if found.bad_checkpoint:
        _keep_copy(fs, directory / CHECKPOINT, quarantine, destination)
    for generation in found.bad_journals:
        _keep_copy(fs, journal_path(directory, generation), quarantine, destination)
    _tidy(fs, directory, recovery, found.unfinished)
    recovery.extents = [_released(fs, directory, recovery, extent) for extent in recovery.extents]
    keeper = Keeper(fs, directory, quarantine, found.journals, newest=recovery.journal)
    return Opened(recovery=recovery, keeper=keeper, journal=keeper.new_journal(), spare=keeper.new_journal())


def _report(destination: str, finding: Finding) -> None:
    say = log.error if finding.kind in {"unreadable", "corrupt", "unsupported"} else log.warning
    say(
        f"spool_{finding.kind}",
        destination=destination,
        segment=finding.number or None,
        first_sequence=finding.first or None,
        end_sequence=finding.end or None,
        reason=finding.reason,
    )


def _set_aside(fs: Fs, path: Path, quarantine: Path, destination: str) -> None:
    try:
        target = set_aside(fs, path, quarantine)
    except OSError as exc:
        log.warning("spool_quarantine_failed", destination=destination, file=path.name, reason=exc.strerror or str(exc))
        return
    log.warning("spool_file_quarantined", destination=destination, file=path.name, to=str(target))


def _keep_copy(fs: Fs, path: Path, quarantine: Path, destination: str) -> None:
    """Keep a checkpoint or journal that cannot be used: the next checkpoint makes it go."""
    try:
        data = read_file(fs, path)
        fs.make_directory(quarantine)
        taken = set(fs.names(quarantine))
        name = next(n for n in (f"{path.name}.{count}" for count in range(1, len(taken) + 2)) if n not in taken)
        fs.replace(quarantine / name, data)
    except OSError as exc:
        log.warning("spool_quarantine_failed", destination=destination, file=path.name, reason=exc.strerror or str(exc))


def _tidy(fs: Fs, directory: Path, recovery: Recovery, unfinished: list[str]) -> None:
    """Delete what never came to hold anything: segments without a header, replacements that never took place."""
    paths = [path_of(directory, number) for number in recovery.unfinished]
    for path in (*paths, *(directory / name for name in unfinished)):
        with contextlib.suppress(OSError):
            fs.remove(path)


def _released(fs: Fs, directory: Path, recovery: Recovery, extent: Extent) -> Extent:
    """Give back the zeros that a crashed process had written ahead."""
    size = max(extent.offset, recovery.dirty_ends.get(extent.number, extent.size))
    if size >= extent.size:
        return extent
    try:
        fs.truncate(path_of(directory, extent.number), size)
    except OSError:
        return extent
    return msgspec.structs.replace(extent, size=size)
