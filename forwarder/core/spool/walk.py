"""Walking the frames of a segment, past whatever damage there is. Bytes come from a callable; nothing here does I/O."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

from forwarder.core.spool import frame as frames
from forwarder.core.spool.frame import HEAD_SIZE, Frame, Head
from forwarder.core.spool.segment import HEADER_SIZE, End, Extent, Header

Read = Callable[[int, int], bytes]
"""(offset, size) → the bytes there; fewer at the end of the file."""

STEP = 256 * 1024
"""Bytes read at once."""
_LAST = b"}"


class Found(NamedTuple):
    """One intact frame and where the next one starts."""

    frame: Frame
    offset: int
    next_offset: int


class Hole(NamedTuple):
    """Damage: records `[first, end)`, bytes from `offset` to `next_offset`."""

    first: int
    end: int
    offset: int
    next_offset: int
    finished: bool = False
    """The write had come to its end, so this is damage even where it is the last of the log."""


class Scan(NamedTuple):
    """What reading a whole segment found."""

    valid_end: End
    holes: list[Hole]
    dirty_end: int
    """One past the last byte that is not zero: behind it there is only space written ahead."""
    blind: int = 0
    """Bytes behind the valid end that the disk could not read: records may be there."""


def walk(read: Read, salt: int, start: End, stop: int, limit: int | None) -> Iterator[Found | Hole]:
    """Yield frames and holes from `start` (offset and sequence) to byte `stop`, in order, without gaps.

    `limit` is the known end of the sequences; with it the holes account for every sequence up to it. Without it the
    walk ends before whatever cannot be told from a torn tail.
    """
    window = _Window(read, stop)
    offset, sequence = start.offset, start.sequence
    while offset < stop and (limit is None or sequence < limit):
        head = _head(window, offset, salt, sequence, limit)
        if head is None:
            offset, head = _search(window, offset, salt, sequence, limit)
        if head is None:
            break
        if head.sequence > sequence:
            yield Hole(sequence, head.sequence, start.offset, offset)
        start = End(0, offset + head.size, head.end)
        yield _read(window, offset, head, salt)
        offset, sequence = start.offset, start.sequence
    if limit is not None and sequence < limit:
        yield Hole(sequence, limit, start.offset, stop)


def seek(read: Read, salt: int, start: End, stop: int, target: int) -> End:
    """Hop from head to head; return the last place known to be at or before the frame that holds `target`."""
    window = _Window(read, stop)
    while start.offset < stop:
        head = _head(window, start.offset, salt, start.sequence, None)
        if head is None or head.end > target or head.sequence != start.sequence:
            break
        start = End(0, start.offset + head.size, head.end)
    return start


def scan(read: Read, header: Header, size: int) -> Scan:
    """Read a segment whose end nobody told; cut the torn tail, keep the damage that intact frames follow."""
    end = End(header.number, HEADER_SIZE, header.base)
    holes: list[Hole] = []
    kept = 0
    for item in walk(read, header.salt, end, size, None):
        last = item.frame.sequence + item.frame.count if isinstance(item, Found) else item.end
        if isinstance(item, Hole):
            holes.append(item)
            if not item.finished:
                continue
        kept = len(holes)
        end = End(header.number, item.next_offset, last)
    return Scan(end, holes[:kept], _dirty_end(read, end.offset, size))


def extent(header: Header, end: End, size: int) -> Extent:
    """Return the extent of a segment that validly ends at `end`."""
    return Extent(
        number=header.number,
        salt=header.salt,
        base=header.base,
        end=max(header.base, end.sequence),
        offset=max(HEADER_SIZE, end.offset),
        size=size,
        created_at_ns=header.created_at_ns,
    )


class _Window:
    """The block read last; frames are cut from it."""

    def __init__(self, read: Read, stop: int) -> None:
        self._read = read
        self._stop = stop
        self._start = 0
        self._block = b""

    def at(self, offset: int, size: int) -> bytes:
        """Return up to `size` bytes at `offset`."""
        size = min(size, self._stop - offset)
        start = offset - self._start
        if start < 0 or start + size > len(self._block):
            self._block = self._read(offset, min(max(size, STEP), self._stop - offset))
            self._start, start = offset, 0
        return self._block[start : start + size]

    def block(self, offset: int) -> bytes:
        """Return what is at hand from `offset` on: at least a head, unless the file ends."""
        self.at(offset, HEAD_SIZE)
        return self._block[offset - self._start :]


def _head(window: _Window, offset: int, salt: int, sequence: int, limit: int | None) -> Head | None:
    head = frames.decode_head(window.at(offset, HEAD_SIZE), 0, salt)
    if head is None or head.sequence < sequence or (limit is not None and head.end > limit):
        return None
    return head


def _read(window: _Window, offset: int, head: Head, salt: int) -> Found | Hole:
    body = window.at(offset + HEAD_SIZE, head.size - HEAD_SIZE)
    frame = frames.decode_body(head, body, salt)
    if frame is not None:
        return Found(frame, offset, offset + head.size)
    finished = len(body) == head.size - HEAD_SIZE and body.endswith(_LAST)
    return Hole(head.sequence, head.end, offset, offset + head.size, finished)


def _search(window: _Window, offset: int, salt: int, sequence: int, limit: int | None) -> tuple[int, Head | None]:
    """Return the next place behind `offset` where a frame starts whose head fits."""
    offset += 1
    while block := window.block(offset):
        at = block.find(frames.MARK)
        while at >= 0:
            head = _head(window, offset + at, salt, sequence, limit)
            if head is not None:
                return offset + at, head
            at = block.find(frames.MARK, at + 1)
        if len(block) < HEAD_SIZE:
            break
        offset += max(1, len(block) - len(frames.MARK) + 1)
    return offset, None


def _dirty_end(read: Read, offset: int, size: int) -> int:
    dirty = offset
    while offset < size:
        block = read(offset, min(STEP, size - offset))
        if not block:
            break
        if block.count(0) != len(block):
            dirty = offset + len(block.rstrip(b"\0"))
        offset += len(block)
    return dirty
