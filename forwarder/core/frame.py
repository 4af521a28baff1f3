"""A frame: records accepted together under one batch key. docs/FORMAT.md is the truth about its bytes."""

from array import array
from collections.abc import Sequence
from functools import cached_property
from itertools import accumulate

TRAIT_ROW = 33
"""Bytes of one trait row: aged u8, then four u64 order keys (0 = none)."""


class Frame:
    """The records `[sequence, sequence + count)` in memory.

    `payload` is the events joined by one comma, so that any run of records is one slice and a whole frame is the inside
    of a JSON array. `lengths` holds each event's length in bytes. `traits` is empty or `count` rows of TRAIT_ROW bytes.
    """

    __slots__ = ("__dict__", "accepted_at", "batch_key", "count", "lengths", "payload", "sequence", "traits")

    def __init__(
        self,
        *,
        sequence: int,
        accepted_at: float,
        batch_key: bytes,
        lengths: "array[int]",
        payload: bytes | memoryview,
        traits: bytes = b"",
    ) -> None:
        self.sequence = sequence
        self.accepted_at = accepted_at
        self.batch_key = batch_key
        self.lengths = lengths
        self.payload = payload
        self.traits = traits
        self.count = len(lengths)

    @cached_property
    def starts(self) -> Sequence[int]:
        """Return the offset of each record in `payload`, and one past the last comma at the end."""
        return list(accumulate((length + 1 for length in self.lengths), initial=0))


class Span:
    """A run of records of one frame: `[start, stop)` counted within the frame. What is leased, sent and acked."""

    __slots__ = ("frame", "start", "stop")

    def __init__(self, frame: Frame, start: int, stop: int) -> None:
        self.frame = frame
        self.start = start
        self.stop = stop

    @property
    def first(self) -> int:
        """Return the sequence of the first record."""
        return self.frame.sequence + self.start

    @property
    def end(self) -> int:
        """Return one past the sequence of the last record."""
        return self.frame.sequence + self.stop

    @property
    def count(self) -> int:
        """Return the number of records."""
        return self.stop - self.start

    @property
    def size(self) -> int:
        """Return the bytes of `data`: the events and the commas between them."""
        if self.count == self.frame.count:
            return len(self.frame.payload)
        starts = self.frame.starts
        return starts[self.stop] - starts[self.start] - 1

    @property
    def data(self) -> bytes | memoryview:
        """Return the events joined by commas, without a copy."""
        if self.count == self.frame.count:
            return self.frame.payload
        starts = self.frame.starts
        return memoryview(self.frame.payload)[starts[self.start] : starts[self.stop] - 1]

    def split(self, at: int) -> tuple["Span", "Span"]:
        """Return the first `at` records and the rest."""
        middle = self.start + at
        return Span(self.frame, self.start, middle), Span(self.frame, middle, self.stop)

    def singles(self) -> "list[Span]":
        """Return one span a record."""
        return [Span(self.frame, i, i + 1) for i in range(self.start, self.stop)]

    def aged(self) -> int:
        """Return the age class of the first record (see Trait)."""
        return self.frame.traits[self.start * TRAIT_ROW] if self.frame.traits else 0

    def order(self) -> tuple[int, ...]:
        """Return the order keys of the first record (see Trait)."""
        if not self.frame.traits:
            return ()
        at = self.start * TRAIT_ROW + 1
        row = self.frame.traits[at : at + 32]
        keys = (int.from_bytes(row[i : i + 8], "little") for i in (0, 8, 16, 24))
        return tuple(key for key in keys if key)

    def __repr__(self) -> str:
        return f"Span({self.first}..{self.end}, {self.frame.batch_key!r})"
