"""The checkpoint: the durable part of the cursor, in two lines that a human can read (docs/FORMAT.md)."""

from typing import Any, Literal

import msgspec
from zlib_ng.zlib_ng import crc32

from forwarder.core.seams import Outcome
from forwarder.core.spool.ledger import Balance

_MAGIC = b"forwarder-checkpoint"
VERSION = 1


class Checkpoint(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that recovery cannot learn from the segments."""

    next: int
    balance: Balance
    intervals: list[tuple[int, int, int]]
    journal: int
    active: int
    segments: list[tuple[int, int, int]]
    """(number, end sequence, valid end in bytes) of sealed segments."""
    damaged: list[int]
    remembered: dict[str, Any]


class BadCheckpoint(msgspec.Struct, frozen=True):
    """Why a checkpoint cannot be used."""

    kind: Literal["corrupt", "unsupported"]
    reason: str


class _Line(msgspec.Struct, kw_only=True):
    next: int
    watermark: int
    totals: dict[str, int]
    intervals: list[tuple[int, int, int]]
    journal: int
    active: int
    segments: list[tuple[int, int, int]]
    damaged: list[int]
    remembered: dict[str, Any]


def encode(checkpoint: Checkpoint) -> bytes:
    """Return the whole file."""
    line = msgspec.json.encode(
        _Line(
            next=checkpoint.next,
            watermark=checkpoint.balance.watermark,
            totals={outcome.name.lower(): checkpoint.balance.totals[outcome - 1] for outcome in Outcome},
            intervals=checkpoint.intervals,
            journal=checkpoint.journal,
            active=checkpoint.active,
            segments=checkpoint.segments,
            damaged=checkpoint.damaged,
            remembered=checkpoint.remembered,
        )
    )
    return b"%s %d %08x\n%s\n" % (_MAGIC, VERSION, crc32(line), line)


def decode(data: bytes) -> Checkpoint | BadCheckpoint:
    """Read a whole file."""
    first, _, line = data.partition(b"\n")
    words = first.split(b" ")
    if len(words) != len((_MAGIC, VERSION, "crc")) or words[0] != _MAGIC or not words[1].isdigit():
        return BadCheckpoint("corrupt", "first line")
    line = line.removesuffix(b"\n")
    intact = words[2] == b"%08x" % crc32(line)
    if int(words[1]) > VERSION:
        return BadCheckpoint("unsupported", f"format version {int(words[1])}, this program reads {VERSION}")
    if not intact:
        return BadCheckpoint("corrupt", "checksum")
    return _content(line)


def _content(line: bytes) -> Checkpoint | BadCheckpoint:
    try:
        content = msgspec.json.decode(line, type=_Line)
    except msgspec.MsgspecError as exc:
        return BadCheckpoint("corrupt", str(exc))
    balance = Balance(content.watermark, tuple(content.totals.get(outcome.name.lower(), 0) for outcome in Outcome))
    if not balance.sound:
        return BadCheckpoint("corrupt", "the totals do not add up to the watermark")
    return Checkpoint(
        next=content.next,
        balance=balance,
        intervals=content.intervals,
        journal=content.journal,
        active=content.active,
        segments=content.segments,
        damaged=content.damaged,
        remembered=content.remembered,
    )
