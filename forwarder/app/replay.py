"""Dead letters and the spool kept in step: replay, and what a crash between the two left half done.

A replay is announced beside the letters, appended, durable, and only then taken out of the letters. A start that finds
an announcement looks for the announced events in the spool: those that are there are taken out, the others stay.
"""

import asyncio
from collections.abc import Sequence

import structlog

from forwarder.core.seams import Clock, DeadLetter, Durability, Failed, Group, Outcome, Stored, Trait
from forwarder.core.spool.frame import Frame
from forwarder.errors import ForwarderError
from forwarder.spool.dead_letters import Announcement, DiskDeadLetters
from forwarder.spool.spool import DiskSpool
from forwarder.vendors.base import Vendor

STEP = 1000
"""Letters held in memory at once."""
LARGE = 4 * 1024 * 1024
"""Bytes after which a group is closed, so that a replay needs no large room at once."""
SAME_S = 0.002
"""A letter's time of acceptance is written in milliseconds."""
EXACT_S = 1e-6
"""The stamp of a replay is kept as it is; floats of this size have a quarter of a microsecond."""

log = structlog.get_logger()


class Replay:
    """Puts dead letters of one destination back, one replay or purge at a time."""

    def __init__(self, *, spool: DiskSpool, dead_letters: DiskDeadLetters, vendor: Vendor, clock: Clock) -> None:
        self._spool = spool
        self._dead_letters = dead_letters
        self._vendor = vendor
        self._clock = clock
        self._one_at_a_time = asyncio.Lock()

    async def run(self, sequences: Sequence[int], *, keep_age: bool) -> int:
        """Put these letters back, a thousand at a time; return how many. Raises ForwarderError when there is no room.

        Whatever was put back before an error is taken out of the letters, so that it can be run again.
        """
        async with self._one_at_a_time:
            await self._finish_replay()  # of one that the disk cut off
            steps = [sequences[start : start + STEP] for start in range(0, len(sequences), STEP)]
            return sum([await self._step(step, keep_age=keep_age) for step in steps])

    async def purge(self, sequences: Sequence[int]) -> int:
        """Delete letters for good; return how many."""
        async with self._one_at_a_time:
            return await self._dead_letters.take(sequences, "purged")

    async def mend(self) -> None:
        """Bring letters and spool in step after a crash. To be called before anything is leased or appended."""
        await self._finish_replay()
        await self._finish_burials()

    # --- replay

    async def _step(self, sequences: Sequence[int], *, keep_age: bool) -> int:
        async with self._dead_letters.moving:
            return await self._put_back(sequences, keep_age=keep_age)

    async def _put_back(self, sequences: Sequence[int], *, keep_age: bool) -> int:
        letters = sorted(await self._dead_letters.read(sequences), key=lambda letter: letter.sequence)
        if not letters:
            return 0
        stamp = None if keep_age else self._clock.wall()
        await self._dead_letters.announce(
            Announcement(
                from_sequence=self._spool.next_sequence,
                accepted_at=stamp,
                sequences=[letter.sequence for letter in letters],
            )
        )
        durable: list[int] = []
        try:
            for group, members in self._groups(letters, stamp):
                await self._append(group)
                durable += members
        finally:
            taken = await self._dead_letters.take(durable, "replayed")
            await self._dead_letters.announce(None)
        return taken

    async def _append(self, group: Group) -> None:
        busy = self._spool.reserve(group.size, len(group.events))
        if busy is not None:
            raise ForwarderError(busy.message)
        answer: asyncio.Future[Stored | Failed] = asyncio.get_running_loop().create_future()
        self._spool.append(group, Durability.FSYNC, answer.set_result)
        result = await answer
        if isinstance(result, Failed):
            raise ForwarderError(result.message)

    def _groups(self, letters: Sequence[DeadLetter], stamp: float | None) -> list[tuple[Group, list[int]]]:
        """Return neighbours with one batch key and age as one group, so that a person's events stay in order."""
        groups: list[tuple[Group, list[int]]] = []
        for letter in letters:
            accepted_at = letter.accepted_at if stamp is None else stamp
            last = groups[-1][0] if groups else None
            trait = self._vendor.trait(letter.event)
            shared = (letter.batch_key, accepted_at, trait is None)
            if last is None or shared != (last.batch_key, last.accepted_at, last.traits is None) or last.size > LARGE:
                traits: list[Trait] | None = None if trait is None else []
                last = Group(self._spool.destination, letter.batch_key, [], 0, traits, accepted_at)
                groups.append((last, []))
            last.events.append(letter.event)
            last.size += len(letter.event)
            if trait is not None and last.traits is not None:
                last.traits.append(trait)
            groups[-1][1].append(letter.sequence)
        return groups

    # --- after a crash

    async def _finish_replay(self) -> None:
        """Take out the letters whose events a replay had put back when it was cut off."""
        announced = await self._dead_letters.announced()
        if announced is None:
            return
        letters = await self._dead_letters.read(announced.sequences)
        frames = [frame async for frame in self._spool.frames(announced.from_sequence)] if letters else []
        done = _found(letters, frames, announced.accepted_at)
        taken = await self._dead_letters.take(done, "replayed")
        await self._dead_letters.announce(None)
        log.warning(
            "replay_was_cut_off", destination=self._spool.destination, put_back=taken, left=len(letters) - taken
        )

    async def _finish_burials(self) -> None:
        """Ack as died what became a dead letter just before a crash: it must not be sent again."""
        sequences = [at for at in await self._dead_letters.sequences() if self._spool.waits(at)]
        died = 0
        for start in range(0, len(sequences), STEP):
            found = await self._dead_letters.read(sequences[start : start + STEP])
            letters = {letter.sequence: letter for letter in found}
            if not letters:
                continue
            async for frame in self._spool.frames(min(letters)):
                died += sum(self._spool.settle(at, Outcome.DIED) for at in _same(frame, letters))
                if frame.sequence + frame.count > max(letters):
                    break
        if sequences:
            facts = {"events": died, "strange": len(sequences) - died}
            log.warning("dead_letters_acked_at_start", destination=self._spool.destination, **facts)


def _same(frame: Frame, letters: dict[int, DeadLetter]) -> list[int]:
    """Return the sequences of this frame that are dead letters of this very spool, not of one that was deleted."""
    inside = [at for at in range(frame.sequence, frame.sequence + frame.count) if at in letters]
    return [at for at in inside if abs(letters[at].accepted_at - frame.accepted(at)) <= SAME_S]


def _found(letters: Sequence[DeadLetter], frames: Sequence[Frame], stamp: float | None) -> list[int]:
    """Return the sequences of the letters whose event stands in one of the frames, each record counting once."""
    there: dict[tuple[bytes, bytes], list[float]] = {}
    for frame in frames:
        for sequence, single in enumerate(_records(frame), frame.sequence):
            there.setdefault((frame.batch_key, single), []).append(frame.accepted(sequence))
    found: list[int] = []
    for letter in letters:
        times = there.get((letter.batch_key, letter.event), [])
        wanted, tolerance = (letter.accepted_at, SAME_S) if stamp is None else (stamp, EXACT_S)
        match = next((time for time in times if abs(time - wanted) <= tolerance), None)
        if match is not None:
            times.remove(match)
            found.append(letter.sequence)
    return found


def _records(frame: Frame) -> list[bytes]:
    starts = frame.starts
    return [bytes(frame.payload[starts[at] : starts[at + 1] - 1]) for at in range(frame.count)]
