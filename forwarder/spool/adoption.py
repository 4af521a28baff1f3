"""Adoption: the queue of a destination that was renamed goes to its new name. Needs the directory's lock."""

import asyncio
from pathlib import Path

import msgspec

from forwarder.core.seams import Clock, Durability, Failed, Group, Outcome, Stored, Trait
from forwarder.core.spool.frame import Frame, Span
from forwarder.errors import ForwarderError
from forwarder.metrics import Metrics
from forwarder.spool.directory import SpoolDirectory
from forwarder.spool.fs import RealFs
from forwarder.spool.settings import SpoolSettings
from forwarder.spool.spool import DiskSpool
from forwarder.spool.survey import survey

STEP = 1024 * 1024
"""Bytes moved at once: what a crash in between may leave in both queues."""


class Adopted(msgspec.Struct, frozen=True):
    """What was adopted, and whether dead letters stayed behind."""

    events: int
    kept: bool


async def adopt(directory: SpoolDirectory, old: str, new: str, *, max_size: int, clock: Clock) -> Adopted:
    """Give everything of `old` to `new`; a run that was cut off can be repeated. Raises ForwarderError."""
    fs = RealFs()
    target = directory.spool(new)
    if not target.exists() or _unused(directory, new):
        queued = _queued(directory.spool(old))
        for part in (directory.dead, lambda name: directory.quarantine / name, directory.spool):  # the queue last
            _rename(part(old), part(new))
        return Adopted(queued, kept=False)
    async with (
        _spool(directory, old, 1 << 62, clock) as source,
        _spool(directory, new, max_size, clock) as sink,
    ):
        moved = await _move(source, sink)
        await sink.checkpoint()
        await source.checkpoint()
    if _queued(directory.spool(old)) == 0 and not any(directory.spool(old).glob("*.damaged")):
        for path in directory.spool(old).iterdir():
            fs.remove(path)
        directory.spool(old).rmdir()
        fs.sync_directory(directory.spool(old).parent)
    return Adopted(moved, kept=any(directory.dead(old).glob("*.ndjson")))


def _unused(directory: SpoolDirectory, name: str) -> bool:
    """Return whether this spool never held an event and no letter."""
    recovery = survey(RealFs(), directory.spool(name)).recovery
    return recovery.next_sequence == 1 and not any(directory.dead(name).glob("*.ndjson"))


def _queued(path: Path) -> int:
    recovery = survey(RealFs(), path).recovery
    return sum(recovery.ledger.open(extent.base, extent.end) for extent in (*recovery.extents, *recovery.foreign))


def _rename(source: Path, target: Path) -> None:
    if not source.exists():
        return
    if target.exists():
        for path in target.iterdir():  # of a spool that never held anything
            path.unlink()
        target.rmdir()
    RealFs().move(source, target)


def _spool(directory: SpoolDirectory, name: str, max_size: int, clock: Clock) -> DiskSpool:
    return DiskSpool(
        directory=directory.spool(name),
        quarantine=directory.quarantine / name,
        destination=name,
        settings=SpoolSettings(max_size=max_size),
        clock=clock,
        metrics=Metrics(),
        room=lambda size: directory.room(size, name),
    )


class _NothingHeld:
    def __bool__(self) -> bool:
        return False

    def key(self, _: bytes) -> bool:
        return False

    def order(self, _: tuple[int, ...]) -> bool:
        return False


async def _move(source: DiskSpool, sink: DiskSpool) -> int:
    moved = 0
    while spans := await source.lease(STEP, _NothingHeld()):
        for span in spans:
            await _append(sink, _group(span, sink.destination))
        source.ack(spans, Outcome.ERASED)
        moved += sum(span.count for span in spans)
    return moved


def _group(span: Span, destination: str) -> Group:
    frame: Frame = span.frame
    singles = span.singles()
    events = [bytes(one.data) for one in singles]
    traits = [Trait(one.aged(), one.order()) for one in singles] if frame.traits else None
    return Group(destination, frame.batch_key, events, sum(map(len, events)), traits, frame.accepted_at)


async def _append(sink: DiskSpool, group: Group) -> None:
    busy = sink.reserve(group.size, len(group.events))
    if busy is not None:
        raise ForwarderError(f"{busy.message}; what was moved is safe, run this again when there is room")
    answer: asyncio.Future[Stored | Failed] = asyncio.get_running_loop().create_future()
    sink.append(group, Durability.FSYNC, answer.set_result)
    result = await answer
    if isinstance(result, Failed):
        raise ForwarderError(result.message)
