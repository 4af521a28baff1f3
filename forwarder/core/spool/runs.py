"""Reading in bulk: neighbouring small frames of one block become one frame, in one pass.

What is done once a frame (leases, batches, acks) cost ten times as much as the records themselves where every commit
had held one event; so did separate passes over heads, bodies and joints (benchmarks/delivery.py). Whatever is not
plain, `walk` reads.
"""

import struct
from array import array
from typing import NamedTuple
from zlib import crc32

from forwarder.core.spool import frame as frames
from forwarder.core.spool.frame import HEAD_SIZE, MARK, MAX_PAYLOAD, TRAIT_ROW, TRAITS, Frame

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


class Bulk(NamedTuple):
    """What a block held: frames in order without gaps, the bytes they took, and one past their last sequence."""

    frames: list[Frame]
    size: int
    end: int


def decode(block: bytes, salt: int, sequence: int, limit: int) -> Bulk:
    """Read `block`, which starts with the frame of `sequence`; stop at the first frame that is not whole, or not plain.

    Plain are intact frames, next in sequence, below `limit`, without erased records.
    """
    made: list[Frame] = []
    offset = 0
    while offset + HEAD_SIZE <= len(block):
        run = _Run(block, offset, salt)
        offset = run.collect(sequence, limit)
        if not run.events:
            break
        made.append(run.frame(sequence))
        sequence += made[-1].count
    return Bulk(made, offset, sequence)


class _Run:
    """Frames that become one: neighbours of the same key, format and (almost) time; a large one alone."""

    __slots__ = (
        "_block",
        "_firsts",
        "_key",
        "_offset",
        "_rows",
        "_salt",
        "_shape",
        "_start_ns",
        "_tables",
        "_times",
        "events",
    )

    def __init__(self, block: bytes, offset: int, salt: int) -> None:
        _, _, _, self._start_ns, _, self._shape, _, _ = _HEAD.unpack_from(block, offset)
        self._block = block
        self._offset = offset
        self._salt = salt
        self._key = block[offset + HEAD_SIZE : offset + HEAD_SIZE + (self._shape & _KEY_SIZE)]
        self._firsts, self._times = array("Q"), array("Q")
        self._tables: list[bytes] = []
        self._rows: list[bytes] = []
        self.events: list[bytes] = []

    def collect(self, at: int, limit: int) -> int:
        """Take the frames from sequence `at` on that belong together; return where the next one starts."""
        block, salt, key, shape, offset = self._block, self._salt, self._key, self._shape, self._offset
        firsts, times, tables, rows, events = self._firsts, self._times, self._tables, self._rows, self.events
        unpack, size, room = _HEAD.unpack_from, len(block), MAX_PAYLOAD
        row_size = TRAIT_ROW if shape & _WITH_TRAITS else 0
        earliest_ns, latest_ns = self._start_ns - JOIN_NS, self._start_ns + JOIN_NS
        while offset + HEAD_SIZE <= size and room > 0 and shape <= _PLAIN:
            mark, count, first, at_ns, payload_size, other, body_crc, head_crc = unpack(block, offset)
            body = offset + HEAD_SIZE
            if first != at or other != shape or crc32(block[offset : body - _CRC_SIZE], salt) != head_crc:
                break
            table = body + len(key)
            row = table + 4 * count
            payload = row + row_size * count
            end = payload + payload_size
            if end > size or crc32(block[body:end], salt) != body_crc or not block.startswith(key, body):
                break
            if mark != MARK or not 0 < count <= limit - at:
                break
            if events and (payload_size > JOIN_BELOW or payload_size >= room or not earliest_ns <= at_ns <= latest_ns):
                break
            firsts.append(at)
            times.append(at_ns)
            tables.append(block[table:row])
            events.append(block[payload:end])
            if row_size:
                rows.append(block[row:payload])
            at, offset = at + count, end
            room -= payload_size + 1 if payload_size <= JOIN_BELOW else MAX_PAYLOAD
        return offset

    def frame(self, sequence: int) -> Frame:
        """Return all of them as one frame."""
        return Frame(
            sequence=sequence,
            accepted_at=max(self._times) / _NS,
            batch_key=self._key,
            lengths=frames.little(array("I", b"".join(self._tables))),
            payload=b",".join(self.events),
            traits=b"".join(self._rows),
            stamps=(self._firsts, self._times) if len(self._times) > 1 else None,
        )
