"""Reading in bulk: neighbouring small frames of one block become one frame, in one pass.

What is done once a frame (leases, batches, acks) cost ten times as much as the records themselves where every commit
had held one event; so did separate passes over heads, bodies and joints (benchmarks/delivery.py). Whatever is not
plain, `walk` reads.
"""

import struct
from array import array
from collections.abc import Sequence
from typing import NamedTuple

from zlib_ng.zlib_ng import crc32

from forwarder.core.spool import frame as frames
from forwarder.core.spool.frame import HEAD_SIZE, MARK, TRAIT_ROW, TRAITS, Frame

JOIN_NS = 100_000_000
"""Frames accepted within so many nanoseconds may be handled as one, which is then as old as its newest record."""
JOIN_BELOW = 4096
"""Bytes. Larger frames stay as they are: they cost little an event, and joining would copy them."""
_HEAD = struct.Struct("<QQQIII")
"""As in frame.py, with mark and count as one number, key size and flags as another (the shape of a frame)."""
_MARK = int.from_bytes(MARK, "little")
_SINGLE = _MARK | 1 << 32
"""How a frame of one event starts."""
_INTACT = 0x2144DF1C
"""The CRC-32 of anything followed by its own CRC-32, whatever the salt (a property of the polynomial)."""
_KEY_SIZE = 0xFFFF
_WITH_TRAITS = TRAITS << 16
_PLAIN = _WITH_TRAITS | _KEY_SIZE
_NS = 1_000_000_000
_NO_LIMIT = 1 << 65
"""More than any count, sequence or time."""


class Bulk(NamedTuple):
    """What a block held: frames in order without gaps, the bytes they took, and one past their last sequence."""

    frames: list[Frame]
    size: int
    end: int


def decode(block: bytes, salt: int, sequence: int, limit: int) -> Bulk:
    """Read `block`, which starts with the frame of `sequence`; stop at the first frame that is not whole, or not plain.

    Plain are intact frames, next in sequence, below `limit`, without erased records. A block is no larger than what one
    frame may hold (MAX_PAYLOAD).
    """
    made: list[Frame] = []
    offset = 0
    while offset + HEAD_SIZE <= len(block):
        run = _Run(block, offset, salt, sequence)
        offset = run.collect(limit)
        if not run.events:
            break
        made.append(run.frame())
        sequence += made[-1].count
    return Bulk(made, offset, sequence)


class _Run:
    """Frames that become one: neighbours of the same key, format and (almost) time; a large one alone."""

    __slots__ = (
        "_block", "_first_ns", "_key", "_large", "_offset", "_rows", "_salt", "_sequence", "_shape", "_tables",
        "_times", "events",
    )  # fmt: skip

    def __init__(self, block: bytes, offset: int, salt: int, sequence: int) -> None:
        self._block = block
        self._offset = offset
        self._salt = salt
        self._sequence = sequence
        _, _, self._first_ns, payload_size, self._shape, _ = _HEAD.unpack_from(block, offset)
        self._large = payload_size > JOIN_BELOW
        self._key = block[offset + HEAD_SIZE : offset + HEAD_SIZE + (self._shape & _KEY_SIZE)]
        self._times = array("Q")
        self._rows: list[bytes] = []
        self._tables: dict[int, bytes] = {}
        """Lengths of events, of the frames that hold several."""
        self.events: list[bytes] = []
        """What each frame holds."""

    def collect(self, limit: int) -> int:
        """Take the frames that belong together; return where the next one starts."""
        block, salt, key, shape, offset, at = (
            self._block, self._salt, self._key, self._shape, self._offset, self._sequence
        )  # fmt: skip
        if shape > _PLAIN:
            return offset
        events, times, unpack, size = self.events, self._times, _HEAD.unpack_from, len(block)
        earliest_ns, latest_ns = self._first_ns - JOIN_NS, self._first_ns + JOIN_NS
        most, last = (_NO_LIMIT, offset) if self._large else (JOIN_BELOW, size - HEAD_SIZE)
        traits = TRAIT_ROW if shape & _WITH_TRAITS else 0
        before, each = HEAD_SIZE + len(key), 4 + traits
        while offset <= last:
            start, first, at_ns, payload_size, other, body_crc = unpack(block, offset)
            body = offset + HEAD_SIZE
            if first != at or other != shape or crc32(block[offset:body], salt) != _INTACT:
                break
            if payload_size > most or not earliest_ns <= at_ns <= latest_ns:
                break
            count = 1 if start == _SINGLE else _count(start)
            at += count
            payload = offset + before + each * count
            end = payload + payload_size
            if at > limit or end > size or crc32(block[body:end], salt) != body_crc or not block.startswith(key, body):
                break
            if count != 1:
                self._tables[len(events)] = block[body + len(key) : payload - traits * count]
            if traits:
                self._rows.append(block[payload - traits * count : payload])
            events.append(block[payload:end])
            times.append(at_ns)
            offset = end
        return offset

    def frame(self) -> Frame:
        """Return all of them as one frame."""
        lengths, firsts = self._lengths()
        return Frame(
            sequence=self._sequence,
            accepted_at=max(self._times) / _NS,
            batch_key=self._key,
            lengths=lengths,
            payload=b",".join(self.events),
            traits=b"".join(self._rows),
            stamps=(firsts, self._times) if len(self._times) > 1 else None,
        )

    def _lengths(self) -> "tuple[array[int], Sequence[int]]":
        """Return the length of each event, and the first sequence of each frame."""
        if not self._tables:
            return array("I", map(len, self.events)), range(self._sequence, self._sequence + len(self.events))
        lengths, firsts = array("I"), array("Q")
        for at, event in enumerate(self.events):
            firsts.append(self._sequence + len(lengths))
            table = self._tables.get(at)
            if table is None:
                lengths.append(len(event))
            else:
                lengths.extend(frames.little(array("I", table)))
        return lengths, firsts


def _count(start: int) -> int:
    """Return the records of a frame that starts so; more than there can be if no frame does."""
    return start >> 32 if start & 0xFFFFFFFF == _MARK and start >> 32 else _NO_LIMIT
