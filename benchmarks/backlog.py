"""A backlog on disk, written in the shipped format without a daemon: frames of so many events, in sealed segments."""

import os
import time
from array import array
from collections.abc import Callable
from pathlib import Path

import msgspec

from forwarder.core.spool import frame as frames
from forwarder.core.spool import segment
from forwarder.core.spool.frame import Frame
from forwarder.core.spool.segment import End, Header

SEGMENT = 64 * 1024 * 1024
SIGNAL_KEY = b"/v2/\x007E4A8C12-5B1F-4E57-9C43-2F6D0C1B9A10"
SIGNAL_BYTES = 368
"""330 bytes as sent, and the `receivedAt` stamp."""

Event = Callable[[int], bytes]


def signal(number: int) -> bytes:
    """Return one stamped TelemetryDeck signal."""
    head = (
        b'{"receivedAt":"2026-06-05T10:11:12.123Z","appID":"7E4A8C12-5B1F-4E57-9C43-2F6D0C1B9A10",'
        b'"clientUser":"%064x","type":"Database.updated","isTestMode":"false","floatValue":3.5,' % number
    )
    head += b'"payload":{"platform":"macOS","note":"'
    return head + b"x" * (SIGNAL_BYTES - len(head) - 3) + b'"}}'


def person(number: int) -> bytes:
    """Return one Encharge event, each of another person."""
    return b'{"name":"Signed up","user":{"email":"person%d@example.com"},"properties":{"plan":"pro","note":"%s"}}' % (
        number,
        b"x" * 200,
    )


class Backlog(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be written; `ordered`: each event has a person of its own."""

    events: int
    per_frame: int
    event: Event
    key: bytes
    ordered: bool = False


def write(directory: Path, backlog: Backlog) -> None:
    """Fill the spool directory of one destination."""
    directory.mkdir(parents=True, mode=0o700)
    directory.parent.chmod(0o700)
    number, previous = 1, End(0, 0, 1)
    while previous.sequence <= backlog.events:
        previous = _segment(directory, number, previous if number > 1 else End(), backlog)
        number += 1


def _segment(directory: Path, number: int, previous: End, backlog: Backlog) -> End:
    """Write one file; return where it ends."""
    salt, sequence = number * 7919, previous.sequence or 1
    header = Header(salt=salt, number=number, base=sequence, created_at_ns=time.time_ns(), previous=previous)
    offset = segment.HEADER_SIZE
    descriptor = os.open(directory / f"{number:012d}.segment", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb", buffering=1024 * 1024) as file:
        file.write(segment.encode(header))
        while sequence <= backlog.events and offset < SEGMENT:
            frame = _frame(sequence, backlog)
            offset += sum(file.write(part) for part in frames.encode(frame, salt))
            sequence += frame.count
    return End(number, offset, sequence)


def _frame(sequence: int, backlog: Backlog) -> Frame:
    numbers = range(sequence, min(sequence + backlog.per_frame, backlog.events + 1))
    made = [backlog.event(number) for number in numbers]
    return Frame(
        sequence=sequence,
        accepted_at=time.time(),
        batch_key=backlog.key,
        lengths=array("I", map(len, made)),
        payload=b",".join(made),
        traits=frames.encode_traits([(0, (number,)) for number in numbers]) if backlog.ordered else b"",
    )
