"""The reader: records from disk in large steps, on an executor; and the shelf of frames that are at hand in memory."""

import asyncio
import contextlib
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import AsyncIterator, Iterable, Sequence
from concurrent.futures import Executor
from pathlib import Path

import msgspec

from forwarder.core.spool import runs, walk
from forwarder.core.spool.frame import Frame, erased_in
from forwarder.core.spool.segment import HEADER_SIZE, End, Extent
from forwarder.core.spool.walk import STEP, Hole
from forwarder.spool.active import path_of
from forwarder.spool.fs import Fs
from forwarder.spool.segments import Segments

_FRAME_OVERHEAD = 512
"""Bytes that a frame object takes beside its payload, roughly."""
_FILES = 4
"""Segments whose reading positions are remembered."""


class Shelf:
    """Frames in order of sequence, the newest ones within `max_bytes`; older ones are dropped."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._bytes = 0
        self._head = 0
        self._frames: list[Frame] = []
        self._firsts: list[int] = []

    def add(self, frames: Iterable[Frame]) -> None:
        """Put newer frames on the shelf."""
        for frame in frames:
            self._frames.append(frame)
            self._firsts.append(frame.sequence)
            self._bytes += _weight(frame)
        head = self._head
        while self._bytes > self._max_bytes and head < len(self._frames):
            self._bytes -= _weight(self._frames[head])
            head += 1
        if head > len(self._frames) // 2:
            del self._frames[:head], self._firsts[:head]
            head = 0
        self._head = head

    def find(self, sequence: int) -> Frame | None:
        """Return the frame that holds `sequence`, if it is here."""
        at = bisect_right(self._firsts, sequence, self._head) - 1
        if at < self._head:
            return None
        frame = self._frames[at]
        return frame if sequence < frame.sequence + frame.count else None


class Chunk(msgspec.Struct, frozen=True):
    """What one step of reading found: frames in order, and damage."""

    frames: list[Frame]
    """Neighbours as one, where they are small."""
    holes: list[Hole]
    erased: Sequence[tuple[int, int]] = ()
    """Sequences that were erased: fillers stand in their place."""


class Reader:
    """Reads one spool's segments; one call at a time, off the loop."""

    def __init__(self, fs: Fs, directory: Path) -> None:
        self._fs = fs
        self._directory = directory
        self._marks: OrderedDict[int, list[End]] = OrderedDict()

    def read(self, extent: Extent, sequence: int) -> Chunk:
        """Return at least the frame (or the hole) that holds `sequence`, and about STEP bytes more.

        Raises OSError when the disk cannot read; a file that is gone is a hole to its end.
        """
        try:
            descriptor = self._fs.open(path_of(self._directory, extent.number))
        except FileNotFoundError:
            return Chunk([], [Hole(sequence, extent.end, HEADER_SIZE, extent.offset)])
        try:
            return self._read(descriptor, extent, sequence)
        finally:
            with contextlib.suppress(OSError):
                self._fs.close(descriptor)

    def _read(self, descriptor: int, extent: Extent, sequence: int) -> Chunk:
        def read(offset: int, size: int) -> bytes:
            return self._fs.read(descriptor, offset, size)

        start = self._nearest(extent, sequence)
        if start.sequence < sequence:
            start = walk.seek(read, extent.salt, start, extent.offset, sequence)
        block = read(start.offset, min(STEP, extent.offset - start.offset))
        bulk = runs.decode(block, extent.salt, start.sequence, extent.end)
        if bulk.end <= sequence:
            return self._walk(read, extent, start, sequence)
        self._remember(extent.number, End(0, start.offset + bulk.size, bulk.end))
        return Chunk(bulk.frames, [])

    def _walk(self, read: walk.Read, extent: Extent, start: End, sequence: int) -> Chunk:
        """Read what is not plain: damage, fillers, a frame larger than a step."""
        frames: list[Frame] = []
        holes: list[Hole] = []
        end = start
        for item in walk.walk(read, extent.salt, start, extent.offset, extent.end):
            if isinstance(item, Hole):
                holes.append(item)
                end = End(0, item.next_offset, item.end)
            else:
                end = End(0, item.next_offset, item.frame.sequence + item.frame.count)
                if end.sequence > sequence:
                    frames.append(item.frame)
            if end.sequence > sequence and end.offset - start.offset >= STEP:
                break
        self._remember(extent.number, end)
        erased = [piece for frame in frames for piece in erased_in(frame)]
        return Chunk(frames, [hole for hole in holes if hole.end > sequence], erased)

    def _nearest(self, extent: Extent, sequence: int) -> End:
        marks = self._marks.get(extent.number, [])
        at = bisect_right(marks, sequence, key=lambda mark: mark.sequence) - 1
        return marks[at] if at >= 0 else End(0, HEADER_SIZE, extent.base)

    def _remember(self, number: int, end: End) -> None:
        marks = self._marks.setdefault(number, [])
        self._marks.move_to_end(number)
        if not marks or marks[-1].sequence < end.sequence:
            marks.append(end)
        if len(self._marks) > _FILES:
            self._marks.popitem(last=False)


async def frames_on_disk(
    reader: Reader, segments: Segments, executor: Executor, *, first: int, end: int
) -> AsyncIterator[Frame]:
    """Yield the frames of `[first, end)` from disk, whatever has become of their records; damage is passed over."""
    loop = asyncio.get_running_loop()
    at = first
    while at < end:
        extent = segments.find(at)
        if extent is None:
            at = segments.after(at) or end
            continue
        try:
            chunk = await loop.run_in_executor(executor, reader.read, extent, at)
        except OSError:
            at = extent.end
            continue
        for frame in chunk.frames:
            yield frame
        ends = [frame.sequence + frame.count for frame in chunk.frames] + [hole.end for hole in chunk.holes]
        at = max(ends, default=extent.end)


def _weight(frame: Frame) -> int:
    return len(frame.payload) + 4 * frame.count + len(frame.traits) + _FRAME_OVERHEAD
