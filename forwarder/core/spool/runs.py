"""Reading in bulk: neighbouring small frames of one block become one frame, in one pass.

What is done once a frame (leases, batches, acks) cost ten times as much as the records themselves where every commit
had held one event; so did separate passes over heads, bodies and joints (benchmarks/delivery.py). Whatever is not
plain, `walk` reads.
"""

import struct
from array import array
from collections.abc import Sequence
from typing import NamedTuple
from zlib import crc32

from forwarder.core.spool import frame as frames
from forwarder.core.spool.frame import HEAD_SIZE, MARK, TRAIT_ROW, TRAITS, Frame

JOIN_NS = 100_000_000
"""Frames accepted within so many nanoseconds may be handled as one, which is then as old as its newest record."""
JOIN_BELOW = 4096
"""Bytes. Larger frames stay as they are: they cost little an event, and joining would copy them."""
_HEAD = struct.Struct("<4sIQQIIII")
"""As in frame.py, with key size and flags as one number: the shape of a frame."""
_CRC_SIZE = 4
_KEY_SIZE = 0xFFFF
_WITH_TRAITS = TRAITS << 16
_PLAIN = _WITH_TRAITS | _KEY_SIZE
_NS = 1_000_000_000
_FOR_EVER = 1 << 64


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

    __slots__ = ("_block", "_key", "_offset", "_rows", "_salt", "_sequence", "_shape", "_tables", "_times", "events")

    def __init__(self, block: bytes, offset: int, salt: int, sequence: int) -> None:
        self._block = block
        self._offset = offset
        self._salt = salt
        self._sequence = sequence
        *_, self._shape, _, _ = _HEAD.unpack_from(block, offset)
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
        events, times, unpack, size = self.events, self._times, _HEAD.unpack_from, len(block)
        traits = TRAIT_ROW if shape & _WITH_TRAITS else 0
        before, each, earliest_ns, latest_ns = HEAD_SIZE + len(key), 4 + traits, 0, _FOR_EVER
        while offset + HEAD_SIZE <= size:
            mark, count, first, at_ns, payload_size, other, body_crc, head_crc = unpack(block, offset)
            body = offset + HEAD_SIZE
            if first != at or other != shape or crc32(block[offset : body - _CRC_SIZE], salt) != head_crc:
                break
            payload = offset + before + each * count
            end = payload + payload_size
            if end > size or crc32(block[body:end], salt) != body_crc or not block.startswith(key, body):
                break
            if mark != MARK or not 0 < count <= limit - at or shape > _PLAIN:
                break
            if events and (payload_size > JOIN_BELOW or not earliest_ns <= at_ns <= latest_ns):
                break
            if count != 1:
                self._tables[len(events)] = block[body + len(key) : body + len(key) + 4 * count]
            if traits:
                self._rows.append(block[payload - traits * count : payload])
            if not events:
                earliest_ns, latest_ns = at_ns - JOIN_NS, at_ns + JOIN_NS
            events.append(block[payload:end])
            times.append(at_ns)
            at, offset = at + count, end
            if payload_size > JOIN_BELOW:
                break
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
