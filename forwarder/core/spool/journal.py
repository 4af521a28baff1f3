"""The ack journal: what has ended since the last checkpoint, one record a run. docs/FORMAT.md is the truth."""

import struct
from collections.abc import Sequence
from typing import NamedTuple

from zlib_ng.zlib_ng import crc32

from forwarder.core.seams import Outcome

#    0                8              16        17        20         24
#    +----------------+--------------+---------+---------+----------+
#    | first sequence | one past end | outcome | 3 zeros | checksum |
#    +----------------+--------------+---------+---------+----------+
_RECORD = struct.Struct("<QQB3x")
_HEADER = struct.Struct("<8sQI")
_CRC = struct.Struct("<I")

MAGIC = b"FWDACKS\n"
VERSION = 1
RECORD_SIZE = _RECORD.size + _CRC.size
_LOW = 0xFFFFFFFF

Ack = tuple[int, int, int]
"""(first, one past the last, outcome)."""


class Journal(NamedTuple):
    """What one journal file holds."""

    generation: int
    acks: Sequence[Ack]
    bad: int
    """Records that do not verify, a cut one at the end included."""


def encode_header(generation: int) -> bytes:
    """Return the first bytes of a journal file."""
    header = _HEADER.pack(MAGIC, generation, VERSION)
    return header + _CRC.pack(crc32(header))


def encode(first: int, end: int, outcome: int, generation: int) -> bytes:
    """Return one record."""
    record = _RECORD.pack(first, end, outcome)
    return record + _CRC.pack(crc32(record, generation & _LOW))


def decode(data: bytes) -> Journal | None:
    """Read a whole journal file; None if it is not one of this version (an unfinished header included)."""
    if len(data) < RECORD_SIZE:
        return None
    magic, generation, version = _HEADER.unpack_from(data)
    if magic != MAGIC or version != VERSION or not _verifies(data, 0, 0):
        return None
    acks: list[Ack] = []
    bad = 0
    for at in range(RECORD_SIZE, len(data), RECORD_SIZE):
        first, end, outcome = _RECORD.unpack_from(data.ljust(at + RECORD_SIZE), at)
        if _verifies(data, at, generation & _LOW) and first < end and outcome in tuple(Outcome):
            acks.append((first, end, outcome))
        else:
            bad += 1
    return Journal(generation, acks, bad)


def trouble(data: bytes) -> str | None:
    """Return what is wrong with a file that `decode` does not read; None if it was only never finished."""
    if len(data) < RECORD_SIZE or not any(data[:RECORD_SIZE]):
        return None
    magic, _, version = _HEADER.unpack_from(data)
    if magic == MAGIC and version > VERSION:
        return f"format version {version}, this program reads {VERSION}"
    return "header"


def _verifies(data: bytes, at: int, salt: int) -> bool:
    if len(data) < at + RECORD_SIZE:
        return False
    body = at + _RECORD.size
    return crc32(data[at:body], salt) == int(_CRC.unpack_from(data, body)[0])
