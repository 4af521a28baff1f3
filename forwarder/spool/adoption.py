"""Adoption: the queue of a destination that was renamed goes to its new name. Needs the directory's lock.

A run that was cut off anywhere can be repeated. A queue that was never used takes the other's place under a marker;
into one in use the events and dead letters are moved step by step (moving.py).
"""

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

import msgspec

from forwarder.config.model import DeadLetterLimits
from forwarder.core.seams import Clock
from forwarder.metrics import Metrics
from forwarder.spool import dead_letter_line
from forwarder.spool.dead_letters import DiskDeadLetters
from forwarder.spool.directory import SpoolDirectory
from forwarder.spool.fs import RealFs
from forwarder.spool.moving import Moving, Side
from forwarder.spool.settings import SpoolSettings
from forwarder.spool.spool import DiskSpool
from forwarder.spool.survey import CHECKPOINT, survey

_MARKER = "adopted-by"
"""In the directory of a spool that is being renamed: its new name."""
_NO_LIMIT = 1 << 62


class Adopted(msgspec.Struct, frozen=True, kw_only=True):
    """What was adopted, and where something could not be read and stayed."""

    events: int
    letters: int
    left: list[str]


async def adopt(directory: SpoolDirectory, old: str, new: str, *, max_size: int, clock: Clock) -> Adopted:
    """Give everything of `old` to `new`. Raises ForwarderError when there is no room: what was moved is safe."""
    if _renaming(directory, old, new) or _unused(directory, new):
        return await asyncio.to_thread(_rename_all, directory, old, new)
    async with AsyncExitStack() as stack:
        source = await _open(stack, directory, old, _NO_LIMIT, clock)
        sink = await _open(stack, directory, new, max_size, clock)
        moving = Moving(source, sink)
        events = await moving.events()
        letters = await moving.letters()
    left = await asyncio.to_thread(_remove, directory, old)
    return Adopted(events=events, letters=letters, left=left)


# ---- a queue that was never used


def _renaming(directory: SpoolDirectory, old: str, new: str) -> bool:
    marker = directory.spool(old) / _MARKER
    return marker.exists() and marker.read_bytes() == new.encode()


def _unused(directory: SpoolDirectory, name: str) -> bool:
    """Return whether this spool never held an event and no letter."""
    if any(dead_letter_line.paths(directory.dead(name))):
        return False
    return not directory.spool(name).exists() or survey(RealFs(), directory.spool(name)).recovery.next_sequence == 1


def _rename_all(directory: SpoolDirectory, old: str, new: str) -> Adopted:
    queued, letters = _queued(directory.spool(old)), _letters(directory.dead(old))
    RealFs().replace(directory.spool(old) / _MARKER, new.encode())
    for part in (directory.dead, lambda name: directory.quarantine / name, directory.spool):  # the queue last
        _rename(part(old), part(new))
    RealFs().remove(directory.spool(new) / _MARKER)
    return Adopted(events=queued, letters=letters, left=[])


def _rename(source: Path, target: Path) -> None:
    if not source.exists():
        return
    if target.exists():
        for path in target.iterdir():  # of a destination that never held anything
            path.unlink()
        target.rmdir()
    RealFs().move(source, target)


# ---- a queue in use


async def _open(stack: AsyncExitStack, directory: SpoolDirectory, name: str, max_size: int, clock: Clock) -> Side:
    limits = DeadLetterLimits(max_size=_NO_LIMIT, max_age=_NO_LIMIT)
    letters = await stack.enter_async_context(DiskDeadLetters(directory.dead(name), name, limits, clock))
    spool = DiskSpool(
        directory=directory.spool(name),
        quarantine=directory.quarantine / name,
        destination=name,
        settings=SpoolSettings(max_size=max_size),
        clock=clock,
        metrics=Metrics(),
        room=lambda size: directory.room(size, name),
    )
    await spool.open(given=max(await letters.sequences(), default=0) + 1)
    stack.push_async_callback(spool.close, clock.monotonic() + 3600)
    return Side(spool=spool, letters=letters)


def _remove(directory: SpoolDirectory, old: str) -> list[str]:
    """Delete what is empty now; return the directories in which something stays that could not be read."""
    spool, dead, quarantine = directory.spool(old), directory.dead(old), directory.quarantine / old
    left = [path for path in (spool,) if _queued(path)]
    left += [path for path in (dead,) if any(dead_letter_line.paths(path))]
    left += [path for path in (quarantine,) if path.is_dir() and any(path.iterdir())]
    # the letters first: without a spool of that name there would be nobody to run this again for
    for path in (found for found in (dead, spool) if found not in left and found.is_dir()):
        # the checkpoint last: it says that everything in the segments has ended
        for file in sorted(path.iterdir(), key=lambda file: (file.name == CHECKPOINT, file.name)):
            file.unlink()
        path.rmdir()
        RealFs().sync_directory(path.parent)
    return [str(path) for path in left]


def _queued(path: Path) -> int:
    recovery = survey(RealFs(), path).recovery
    return sum(recovery.ledger.open(extent.base, extent.end) for extent in (*recovery.extents, *recovery.foreign))


def _letters(directory: Path) -> int:
    paths = dead_letter_line.paths(directory)
    return sum(1 for path in paths for line in path.read_bytes().splitlines() if dead_letter_line.head(line))
