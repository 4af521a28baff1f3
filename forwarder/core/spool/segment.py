"""A segment: one append-only file of frames. docs/FORMAT.md is the truth about its header."""

import struct
from typing import Literal

import msgspec
from zlib_ng.zlib_ng import crc32

from forwarder.core.spool.ledger import Balance

#    0        8         10      12     16       24     32           40         48         56         64      72
#    +--------+---------+-------+------+--------+------+------------+----------+----------+----------+-------+--------+
#    | magic  | version | size  | salt | number | base | created at | previous | previous | previous | water | totals |
#    |        |         |       |      |        |      | ns         | number   | offset   | sequence | mark  | 7 × 8  |
#    +--------+---------+-------+------+--------+------+------------+----------+----------+----------+-------+--------+
_FIELDS = struct.Struct("<8sHHIQQQQQQQ7Q")
_STABLE = struct.Struct("<8sHHIQQ")
_CRC = struct.Struct("<I")

MAGIC = b"FWDSEG\r\n"
VERSION = 1
COPY_SIZE = 512
HEADER_SIZE = 2 * COPY_SIZE
"""Two equal copies: one damaged sector does not cost the salt, and with it every frame."""
LEAST_RECORD = 6
"""Bytes that one record takes at least: its length and `{}`."""


class End(msgspec.Struct, frozen=True):
    """Where a segment validly ends: byte offset, and one past its last sequence. Number 0: there is none."""

    number: int = 0
    offset: int = 0
    sequence: int = 0


class Header(msgspec.Struct, frozen=True, kw_only=True):
    """What the first bytes of a segment say."""

    salt: int
    number: int
    base: int
    created_at_ns: int
    previous: End = End()
    balance: Balance = Balance()


class BadHeader(msgspec.Struct, frozen=True):
    """Why a file cannot be read as a segment."""

    kind: Literal["torn", "corrupt", "unsupported"]
    reason: str
    base: int = 0
    """Of an unsupported file: its first sequence."""


class Extent(msgspec.Struct, frozen=True, kw_only=True):
    """One readable segment as known in memory: records `[base, end)` in bytes `[HEADER_SIZE, offset)` of the file."""

    number: int
    salt: int
    base: int
    end: int
    offset: int
    size: int
    """Bytes on disk, written ahead included."""
    created_at_ns: int
    damaged: bool = False

    @property
    def valid_end(self) -> End:
        """Return what the next header says of this segment."""
        return End(self.number, self.offset, self.end)


def encode(header: Header) -> bytes:
    """Return both copies."""
    previous, balance = header.previous, header.balance
    fields = _FIELDS.pack(
        MAGIC,
        VERSION,
        COPY_SIZE,
        header.salt,
        header.number,
        header.base,
        header.created_at_ns,
        previous.number,
        previous.offset,
        previous.sequence,
        balance.watermark,
        *balance.totals,
    )
    body = fields.ljust(COPY_SIZE - _CRC.size, b"\0")
    return (body + _CRC.pack(crc32(body))) * 2


def decode(data: bytes) -> Header | BadHeader:
    """Read the first HEADER_SIZE bytes of a file; whichever copy verifies counts."""
    copies = (data[:COPY_SIZE], data[COPY_SIZE:HEADER_SIZE])
    for copy in copies:
        if _verifies(copy) and copy.startswith(MAGIC) and _STABLE.unpack_from(copy)[1] == VERSION:
            return _fields(copy)
    for copy in copies:
        newer = _newer(copy)
        if newer is not None:
            return newer
    if len(data) < HEADER_SIZE or not any(data):
        return BadHeader("torn", "the header was never finished")
    return BadHeader("corrupt", "magic" if not data.startswith(MAGIC) else "header checksum")


def _verifies(copy: bytes) -> bool:
    if len(copy) < COPY_SIZE:
        return False
    (crc,) = _CRC.unpack_from(copy, COPY_SIZE - _CRC.size)
    return crc32(copy[: -_CRC.size]) == int(crc)


def _fields(copy: bytes) -> Header:
    _, _, _, salt, number, base, created, *rest = _FIELDS.unpack_from(copy)
    return Header(
        salt=salt,
        number=number,
        base=base,
        created_at_ns=created,
        previous=End(*rest[:3]),
        balance=Balance(rest[3], tuple(rest[4:])),
    )


def _newer(copy: bytes) -> BadHeader | None:
    if len(copy) < _STABLE.size:
        return None
    magic, version, _, _, _, base = _STABLE.unpack_from(copy)
    if magic != MAGIC or version <= VERSION:
        return None
    return BadHeader("unsupported", f"format version {version}, this program reads {VERSION}", base)
