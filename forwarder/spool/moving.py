"""Moving events and dead letters from one destination's queue to another's, exactly once though it may be cut off.

Each step is announced in a durable checkpoint of the source: which records, and the sequence from which on the sink
holds them. Then they are appended, durable, and only then they end in the source. A run that finds an announcement
looks at what stands in the sink from that sequence on; whatever is the same, record by record, has been moved. (A
daemon that ran in between may have delivered and trimmed that: then at most one step is moved twice.)
"""

import asyncio
from collections.abc import Iterator, Sequence
from itertools import groupby

import msgspec

from forwarder.core.seams import DeadLetter, Durability, Failed, Group, Outcome, Stored, Trait
from forwarder.core.spool.frame import Frame, Span
from forwarder.errors import ForwarderError
from forwarder.spool.dead_letters import DiskDeadLetters
from forwarder.spool.spool import DiskSpool

STEP = 1024 * 1024
"""Bytes moved at once."""
LETTERS = 500
"""Dead letters moved at once."""
_KEY = "moving"
_SAME_S = 0.002
"""A letter's time of acceptance is written in milliseconds."""


class Side(msgspec.Struct, frozen=True):
    """A destination's open files."""

    spool: DiskSpool
    letters: DiskDeadLetters


class _Step(msgspec.Struct, frozen=True, kw_only=True):
    """An announcement: sequences `[first, end)` of the source, as events or as letters."""

    to: str
    at: int
    """The sink's sequence of the first one."""
    records: list[tuple[int, int]]
    letters: list[int]


class _Nothing:
    def __bool__(self) -> bool:
        return False

    def key(self, _: bytes) -> bool:
        return False

    def order(self, _: tuple[int, ...]) -> bool:
        return False


_Record = tuple[bytes, bytes, float]
"""Batch key, event, accepted at."""


class Moving:
    """Moves everything from one side to the other."""

    def __init__(self, source: Side, sink: Side) -> None:
        self._source = source
        self._sink = sink

    async def events(self) -> int:
        """Move the queue; return how many events."""
        await self._died()
        moved = await self._finish()
        while spans := await self._source.spool.lease(STEP, _Nothing()):
            await self._announce(records=[(span.first, span.end) for span in spans])
            for group in (group for span in spans for group in _groups(span, self._sink.spool.destination)):
                await self._append(group)
            self._source.spool.ack(spans, Outcome.ERASED)
            moved += sum(span.count for span in spans)
        await self._save()
        return moved

    async def letters(self) -> int:
        """Move the dead letters: each is one more event of the sink, which has died; return how many."""
        moved = 0
        while sequences := (await self._source.letters.sequences())[:LETTERS]:
            letters = await self._source.letters.read(sequences)
            if not letters:
                break  # only lines that cannot be read
            await self._announce(letters=[letter.sequence for letter in letters])
            at = self._sink.spool.next_sequence
            for letter in letters:
                key, event = letter.batch_key, letter.event
                destination = self._sink.spool.destination
                await self._append(Group(destination, key, [event], len(event), None, letter.accepted_at))
            await self._bury(letters, at)
            moved += len(letters)
        await self._save()
        return moved

    async def _bury(self, letters: Sequence[DeadLetter], at: int) -> None:
        """Let records of the sink from `at` on be dead letters there, and no longer in the source."""
        anew = [msgspec.structs.replace(letter, sequence=at + place) for place, letter in enumerate(letters)]
        await self._sink.letters.add(anew)
        for letter in anew:
            self._sink.spool.settle(letter.sequence, Outcome.DIED)
        await self._source.letters.take([letter.sequence for letter in letters], "replayed")

    async def _append(self, group: Group) -> None:
        sink = self._sink.spool
        busy = sink.reserve(group.size, len(group.events))
        if busy is not None:
            raise ForwarderError(f"{busy.message}; what was moved is safe, run this again when there is room")
        answer: asyncio.Future[Stored | Failed] = asyncio.get_running_loop().create_future()
        sink.append(group, Durability.FSYNC, answer.set_result)
        result = await answer
        if isinstance(result, Failed):
            raise ForwarderError(result.message)

    async def _died(self) -> None:
        """End what had become a dead letter just before a crash."""
        source = self._source
        waiting = [at for at in await source.letters.sequences() if source.spool.waits(at)]
        records = await _records(source.spool, waiting)
        for letter in await source.letters.read(waiting):
            if _same((letter.batch_key, letter.event, letter.accepted_at), records.get(letter.sequence)):
                source.spool.settle(letter.sequence, Outcome.DIED)

    # ---- announcements

    async def _announce(self, *, records: Sequence[tuple[int, int]] = (), letters: Sequence[int] = ()) -> None:
        sink = self._sink.spool
        step = _Step(to=sink.destination, at=sink.next_sequence, records=list(records), letters=list(letters))
        self._source.spool.remember(_KEY, msgspec.to_builtins(step))
        await self._save()

    async def _save(self) -> None:
        for spool in (self._sink.spool, self._source.spool):
            await spool.checkpoint()
            trouble = spool.stats().trouble
            if trouble is not None:
                raise ForwarderError(f"{spool.destination}: {trouble}; run this again once the disk is well")

    async def _finish(self) -> int:
        """Finish the step that a run before was cut off in; return how many events it had moved unnoticed."""
        found = self._source.spool.recall().get(_KEY)
        if found is None:
            return 0
        step = msgspec.convert(found, _Step)
        if step.to != self._sink.spool.destination:
            return 0
        if step.letters:
            await self._finish_letters(step)
        return await self._finish_events(step)

    async def _finish_events(self, step: _Step) -> int:
        wanted = [at for first, end in step.records for at in range(first, end)]
        here = await _records(self._source.spool, wanted)
        there = await _records(self._sink.spool, range(step.at, step.at + len(wanted)))
        moved = 0
        for place, sequence in enumerate(wanted):
            if not _same(here.get(sequence), there.get(step.at + place)):
                break
            moved += self._source.spool.settle(sequence, Outcome.ERASED)
        return moved

    async def _finish_letters(self, step: _Step) -> None:
        letters = {letter.sequence: letter for letter in await self._source.letters.read(step.letters)}
        there = await _records(self._sink.spool, range(step.at, step.at + len(step.letters)))
        for place, sequence in enumerate(step.letters):
            letter = letters.get(sequence)
            at = step.at + place
            if letter and _same((letter.batch_key, letter.event, letter.accepted_at), there.get(at)):
                await self._bury([letter], at)


def _groups(span: Span, destination: str) -> Iterator[Group]:
    """Yield the records of a span, a group for each time of acceptance."""
    frame = span.frame
    for accepted_at, run in groupby(span.singles(), key=lambda one: frame.accepted(one.first)):
        singles = list(run)
        events = [bytes(one.data) for one in singles]
        traits = [Trait(one.aged(), one.order()) for one in singles] if frame.traits else None
        yield Group(destination, frame.batch_key, events, sum(map(len, events)), traits, accepted_at)


async def _records(spool: DiskSpool, wanted: Sequence[int]) -> dict[int, _Record]:
    """Return those of the wanted records that are on disk."""
    found: dict[int, _Record] = {}
    if not wanted:
        return found
    sequences = frozenset(wanted)
    async for frame in spool.frames(min(wanted)):
        found |= {at: record for at, record in _of(frame) if at in sequences}
        if frame.sequence > max(wanted):
            break
    return found


def _of(frame: Frame) -> Iterator[tuple[int, _Record]]:
    for one in Span(frame, 0, frame.count).singles():
        yield one.first, (frame.batch_key, bytes(one.data), frame.accepted(one.first))


def _same(one: _Record | None, other: _Record | None) -> bool:
    return one is not None and other is not None and one[:2] == other[:2] and abs(one[2] - other[2]) <= _SAME_S
