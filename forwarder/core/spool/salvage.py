"""Salvage: a segment whose header is damaged in both copies is read all the same; its frames tell what it said.

Every checksum of a file starts from its salt, and a CRC-32 can be run backwards: from one frame's head and the checksum
of it follows the only salt that fits. That it is the right one is shown by the checksum of the frame's body.
"""

from collections.abc import Iterator

from forwarder.core.spool import frame as frames
from forwarder.core.spool.frame import HEAD_SIZE, MARK
from forwarder.core.spool.segment import HEADER_SIZE, Header
from forwarder.core.spool.walk import STEP, Read

_POLYNOMIAL = 0xEDB88320
_LOW = 0xFFFFFFFF
_CRC_SIZE = 4


def header(read: Read, number: int, size: int) -> Header | None:
    """Return a header for a file whose own cannot be read; None if no frame in it is intact."""
    for offset in _marks(read, size):
        head_bytes = read(offset, HEAD_SIZE)
        if len(head_bytes) < HEAD_SIZE:
            return None
        salt = salt_of(head_bytes)
        head = frames.decode_head(head_bytes, 0, salt)
        if head is None or offset + head.size > size:
            continue
        if frames.decode_body(head, read(offset + HEAD_SIZE, head.size - HEAD_SIZE), salt) is not None:
            return Header(salt=salt, number=number, base=head.sequence, created_at_ns=head.accepted_at_ns)
    return None


def salt_of(head: bytes) -> int:
    """Return the start value from which the checksum of this head comes out as it stands there."""
    state = int.from_bytes(head[-_CRC_SIZE:], "little") ^ _LOW
    for byte in reversed(head[:-_CRC_SIZE]):
        for _ in range(8):
            state = (state ^ _POLYNOMIAL) << 1 | 1 if state >> 31 else state << 1
        state ^= byte
    return state ^ _LOW


def _marks(read: Read, size: int) -> Iterator[int]:
    """Yield the places at which a frame may start."""
    for start in range(HEADER_SIZE, size, STEP):
        block = read(start, STEP + len(MARK) - 1)
        at = block.find(MARK)
        while at >= 0:
            yield start + at
            at = block.find(MARK, at + 1)
