"""A frame: records accepted together under one batch key. docs/FORMAT.md is the truth about its bytes."""

import struct
import sys
from array import array
from bisect import bisect_right
from collections.abc import Collection, Sequence
from functools import cached_property
from itertools import accumulate
from typing import NamedTuple

from zlib_ng.zlib_ng import crc32

TRAIT_ROW = 33
"""Bytes of one trait row: aged u8, then four u64 order keys (0 = none)."""

#    0      4       8          16            24             28         30      32         36         40
#    +------+-------+----------+-------------+--------------+----------+-------+----------+----------+
#    | mark | count | sequence | accepted at | payload size | key size | flags | body crc | head crc |
#    +------+-------+----------+-------------+--------------+----------+-------+----------+----------+
_HEAD = struct.Struct("<4sIQQIHHI")
_CRC = struct.Struct("<I")

MARK = b"\xf0FRM"
HEAD_SIZE = _HEAD.size + _CRC.size
MAX_PAYLOAD = 1024 * 1024
"""Payload bytes of one frame, unless a single event is larger."""
_ROW = struct.Struct("<B4Q")
TRAITS = 1
"""Flag: there are trait rows."""
_ERASED = 2
_NS = 1_000_000_000


Stamps = tuple[Sequence[int], Sequence[int]]
"""First sequences in order, and nanoseconds since the epoch."""


class Frame:
    """The records `[sequence, sequence + count)` in memory.

    `payload` is the events joined by one comma, so that any run of records is one slice and a whole frame is the inside
    of a JSON array. `lengths` holds each event's length in bytes. `traits` is empty or `count` rows of TRAIT_ROW bytes.
    `erased`: some of the events may have given way to fillers (see `erase`). `stamps`, where frames were joined
    (runs.py): first sequence and time of acceptance of each; `accepted_at` is then that of the newest.
    """

    __slots__ = (
        "__dict__", "accepted_at", "batch_key", "count", "erased", "lengths", "payload", "sequence", "stamps", "traits"
    )  # fmt: skip

    def __init__(
        self,
        *,
        sequence: int,
        accepted_at: float,
        batch_key: bytes,
        lengths: "array[int]",
        payload: bytes | memoryview,
        traits: bytes = b"",
        erased: bool = False,
        stamps: "Stamps | None" = None,
    ) -> None:
        self.sequence = sequence
        self.accepted_at = accepted_at
        self.batch_key = batch_key
        self.lengths = lengths
        self.payload = payload
        self.traits = traits
        self.erased = erased
        self.stamps = stamps
        self.count = len(lengths)

    def accepted(self, sequence: int) -> float:
        """Return when one of the records was accepted, exactly."""
        if self.stamps is None:
            return self.accepted_at
        firsts, times_ns = self.stamps
        return times_ns[bisect_right(firsts, sequence) - 1] / _NS

    @cached_property
    def starts(self) -> Sequence[int]:
        """Return the offset of each record in `payload`, and one past the last comma at the end."""
        return list(accumulate([length + 1 for length in self.lengths], initial=0))


class Span:
    """A run of records of one frame: `[start, stop)` counted within the frame. What is leased, sent and acked.

    `first` and `end` are its sequences, `end` one past the last; `count` is the number of records; `size` the bytes of
    `data`: the events and the commas between them. Never changed once made: all is asked for many times a batch.
    """

    __slots__ = ("count", "end", "first", "frame", "size", "start", "stop")

    def __init__(self, frame: Frame, start: int, stop: int) -> None:
        self.frame = frame
        self.start = start
        self.stop = stop
        self.first = frame.sequence + start
        self.end = frame.sequence + stop
        self.count = count = stop - start
        if count == frame.count:
            self.size = len(frame.payload)
        else:
            starts = frame.starts
            self.size = starts[stop] - starts[start] - 1

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
        _, *keys = _ROW.unpack_from(self.frame.traits, self.start * TRAIT_ROW)
        return tuple([key for key in keys if key])

    def __repr__(self) -> str:
        return f"Span({self.first}..{self.end}, {self.frame.batch_key!r})"


class Head(NamedTuple):
    """The fixed start of a frame, its checksum verified."""

    records: int
    sequence: int
    accepted_at_ns: int
    payload_size: int
    key_size: int
    flags: int
    body_crc: int

    @property
    def end(self) -> int:
        """Return one past the last sequence."""
        return self.sequence + self.records

    @property
    def size(self) -> int:
        """Return the bytes of the whole frame."""
        row = 4 + (TRAIT_ROW if self.flags & TRAITS else 0)
        return HEAD_SIZE + self.key_size + self.records * row + self.payload_size


def encode(frame: Frame, salt: int) -> tuple[bytes, bytes | memoryview]:
    """Return the frame's bytes in two parts: all before the payload, and the payload (not copied)."""
    table = b"".join((frame.batch_key, little(frame.lengths).tobytes(), frame.traits))
    body_crc = crc32(frame.payload, crc32(table, salt))
    head = _HEAD.pack(
        MARK,
        frame.count,
        frame.sequence,
        round(frame.accepted_at * _NS),
        len(frame.payload),
        len(frame.batch_key),
        (TRAITS if frame.traits else 0) | (_ERASED if frame.erased else 0),
        body_crc,
    )
    return b"".join((head, _CRC.pack(crc32(head, salt)), table)), frame.payload


def decode_head(data: bytes, at: int, salt: int) -> Head | None:
    """Return the head of the frame that starts at `data[at]`; None if no valid one does."""
    if len(data) - at < HEAD_SIZE:
        return None
    mark, *fields = _HEAD.unpack_from(data, at)
    (crc,) = _CRC.unpack_from(data, at + _HEAD.size)
    if mark != MARK or crc32(data[at : at + _HEAD.size], salt) != crc:
        return None
    head = Head(*fields)
    return head if head.records and not head.flags & ~(TRAITS | _ERASED) else None


def decode_body(head: Head, body: bytes, salt: int) -> Frame | None:
    """Return the frame whose bytes behind the head are `body`; None if they are too few or altered."""
    if len(body) != head.size - HEAD_SIZE or crc32(body, salt) != head.body_crc:
        return None
    table = head.key_size + 4 * head.records
    payload = len(body) - head.payload_size
    lengths = array("I")
    lengths.frombytes(body[head.key_size : table])
    return Frame(
        sequence=head.sequence,
        accepted_at=head.accepted_at_ns / _NS,
        batch_key=body[: head.key_size],
        lengths=little(lengths),
        payload=body[payload:],
        traits=body[table:payload],
        erased=bool(head.flags & _ERASED),
    )


def filler(length: int) -> bytes:
    """Return what takes an erased event's place: an empty object of the same length, which no door lets in."""
    return b"{" + b" " * (length - 2) + b"}"


def erase(frame: Frame, indexes: Collection[int]) -> Frame:
    """Return a frame of the same size in which these events and their traits have given way to fillers."""
    payload, traits = bytearray(frame.payload), bytearray(frame.traits)
    for at in indexes:
        start, length = frame.starts[at], frame.lengths[at]
        payload[start : start + length] = filler(length)
        if traits:
            traits[at * TRAIT_ROW : (at + 1) * TRAIT_ROW] = bytes(TRAIT_ROW)
    return Frame(
        sequence=frame.sequence,
        accepted_at=frame.accepted_at,
        batch_key=frame.batch_key,
        lengths=frame.lengths,
        payload=bytes(payload),
        traits=bytes(traits),
        erased=True,
    )


def erased_in(frame: Frame) -> list[tuple[int, int]]:
    """Return the sequences `[first, end)` that hold fillers."""
    if not frame.erased:
        return []
    starts = frame.starts
    return [
        (frame.sequence + at, frame.sequence + at + 1)
        for at, length in enumerate(frame.lengths)
        if bytes(frame.payload[starts[at] : starts[at] + length]) == filler(length)
    ]


def encode_traits(rows: Sequence[tuple[int, tuple[int, ...]]]) -> bytes:
    """Return trait rows of (age class, order keys); at most four keys count."""
    return b"".join(_ROW.pack(aged, *(*order, 0, 0, 0, 0)[:4]) for aged, order in rows)


def little(lengths: "array[int]") -> "array[int]":
    """Return lengths in the byte order of the file, or back from it."""
    if sys.byteorder == "little":
        return lengths
    swapped = array("I", lengths)
    swapped.byteswap()
    return swapped
