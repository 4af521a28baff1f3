"""A spool in memory. It passes tests/support/spool_contract.py, as the disk spool does."""

import asyncio
from array import array
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence

from forwarder.core.seams import (
    Busy,
    Clock,
    DeadLetter,
    Done,
    Durability,
    Group,
    Held,
    Outcome,
    SpoolStats,
    Stored,
    Trait,
)
from forwarder.core.spool import frame as frames
from forwarder.core.spool.frame import Frame, Span
from forwarder.errors import DiskTrouble


def build_frame(
    events: Sequence[bytes],
    *,
    sequence: int = 1,
    key: bytes = b"k",
    accepted_at: float = 0.0,
    traits: Sequence[Trait] | None = None,
) -> Frame:
    rows = frames.encode_traits([(trait.aged, trait.order) for trait in traits]) if traits is not None else b""
    return Frame(
        sequence=sequence,
        accepted_at=accepted_at,
        batch_key=key,
        lengths=array("I", map(len, events)),
        payload=b",".join(events),
        traits=rows,
    )


class FakeSpool:
    """Committed at once; every sequence is queued, leased or ended with an outcome."""

    def __init__(self, clock: Clock, destination: str = "dest") -> None:
        self.destination = destination
        self.clock = clock
        self.frames: list[Frame] = []
        self.outcomes: dict[int, Outcome] = {}
        self.acked_twice: list[int] = []
        self.acks = 0
        self.leased: set[int] = set()
        self.remembered: dict[str, object] = {}
        self.next_sequence = 1
        self.ack_trouble: DiskTrouble | None = None
        self.leases = 0
        self.flood = 0.0
        self._cursor = 1
        self.exhausted = True
        self._callbacks: list[Callable[[], None]] = []
        self._waiters: list[Callable[[], bool]] = []

    # --- door

    def reserve(self, size: int, events: int) -> Busy | None:
        return None

    def cancel(self, size: int, events: int) -> None:
        pass

    def append(self, group: Group, level: Durability, done: Done) -> None:
        self.put(group.events, key=group.batch_key, traits=group.traits)
        done(Stored(level))

    def put(
        self,
        events: Sequence[bytes],
        *,
        key: bytes = b"k",
        traits: Sequence[Trait] | None = None,
        accepted_at: float | None = None,
    ) -> None:
        at = self.clock.wall() if accepted_at is None else accepted_at
        frame = build_frame(events, sequence=self.next_sequence, key=key, accepted_at=at, traits=traits)
        self.frames.append(frame)
        self.next_sequence += len(events)
        if self.exhausted:
            self.exhausted = False
            for callback in self._callbacks:
                callback()

    def unerased(self, spans: Sequence[Span]) -> Sequence[Span]:
        return spans

    def on_arrival(self, callback: Callable[[], None]) -> None:
        self._callbacks.append(callback)

    # --- lane

    async def lease(self, max_bytes: int, held: Held) -> list[Span]:
        self.leases += 1
        spans: list[Span] = []
        size = 0
        at = max(bisect_right(self.frames, self._cursor, key=lambda frame: frame.sequence) - 1, 0)
        for frame in self.frames[at:]:
            if size >= max_bytes:
                return spans
            for span in self._free(frame, held):
                spans.append(span)
                size += span.size
                self.leased.update(range(span.first, span.end))
            self._cursor = frame.sequence + frame.count
        self.exhausted = not spans
        return spans

    def _free(self, frame: Frame, held: Held) -> list[Span]:
        if frame.sequence + frame.count <= self._cursor or (held and held.key(frame.batch_key)):
            return []
        runs: list[Span] = []
        whole = Span(frame, 0, frame.count)
        taken = any(seq in self.leased or seq in self.outcomes for seq in range(whole.first, whole.end))
        if not held and not taken and whole.first >= self._cursor:
            return [whole]
        for single in whole.singles():
            if single.first < self._cursor or single.first in self.leased or single.first in self.outcomes:
                continue
            if held and single.frame.traits and held.order(single.order()):
                continue
            if runs and runs[-1].stop == single.start:
                runs[-1] = Span(frame, runs[-1].start, single.stop)
            else:
                runs.append(single)
        return runs

    def ack(self, spans: Sequence[Span], outcome: Outcome) -> None:
        if self.ack_trouble is not None:
            raise self.ack_trouble
        self.acks += 1
        for span in spans:
            for sequence in range(span.first, span.end):
                if sequence in self.outcomes:
                    self.acked_twice.append(sequence)
                self.outcomes[sequence] = outcome
                self.leased.discard(sequence)

    def release(self, spans: Sequence[Span]) -> None:
        for span in spans:
            self.leased.difference_update(range(span.first, span.end))

    def rewind(self) -> None:
        self._cursor = 1

    def remember(self, key: str, value: object) -> None:
        if value is None:
            self.remembered.pop(key, None)
        else:
            self.remembered[key] = value

    def recall(self) -> Mapping[str, object]:
        return dict(self.remembered)

    def stats(self) -> SpoolStats:
        queued = [seq for seq in range(1, self.next_sequence) if seq not in self.outcomes]
        oldest = [frame.accepted_at for frame in self.frames if queued and frame.sequence + frame.count > queued[0]]
        ledger: dict[str, int] = {}
        for outcome in self.outcomes.values():
            ledger[outcome.name.lower()] = ledger.get(outcome.name.lower(), 0) + 1
        return SpoolStats(
            destination=self.destination,
            first_sequence=queued[0] if queued else self.next_sequence,
            next_sequence=self.next_sequence,
            queued_events=len(queued),
            bytes=0,
            limit_bytes=0,
            segments=1,
            oldest_accepted_at=oldest[0] if oldest else None,
            ledger=ledger,
            imbalance=0,
            trouble=None,
            trouble_since=None,
        )

    # --- what tests ask

    def ended(self, outcome: Outcome) -> list[int]:
        return sorted(seq for seq, end in self.outcomes.items() if end is outcome)

    @property
    def queued(self) -> int:
        return self.next_sequence - 1 - len(self.outcomes)


class FakeDeadLetters:
    """Keeps letters in memory; `trouble` makes the disk refuse them."""

    def __init__(self) -> None:
        self.letters: list[DeadLetter] = []
        self.trouble: DiskTrouble | None = None
        self.moving = asyncio.Lock()

    async def add(self, letters: Sequence[DeadLetter]) -> None:
        if self.trouble is not None:
            raise self.trouble
        self.letters += letters
