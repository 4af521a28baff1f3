"""The active segment: the one file that the writer appends to. Owned by the writer thread."""

import contextlib
from collections.abc import Sequence
from pathlib import Path

from forwarder.core.spool import segment
from forwarder.core.spool.segment import HEADER_SIZE, Extent, Header
from forwarder.spool.fs import Buffer, Fs

STEP = 256 * 1024
"""Zero-written ahead at once; larger steps push the commit's p99 from 0.6 to 3.8 ms."""
LARGE = 64 * 1024
"""A commit of this size is as fast when it extends the file itself; zeros ahead of it would be written for nothing, and
the next commit would wait for them (benchmarks/door.py, arrays: a tenth fewer events a second)."""
_SHARE = 64
"""At most this fraction of the free space is written ahead in one step."""
_BLOCK = 4096


def path_of(directory: Path, number: int) -> Path:
    """Return the path of a segment file."""
    return directory / f"{number:012d}.segment"


class ActiveSegment:
    """A segment that this process created; `offset` is its valid end, `end` one past its last sequence."""

    def __init__(self, fs: Fs, directory: Path, descriptor: int, header: Header, *, max_size: int) -> None:
        self._fs = fs
        self._directory = directory
        self._descriptor = descriptor
        self._max_size = max_size
        self._unsynced = False
        self._ahead = True
        self._small = True
        """The last commit was none that extends the file itself."""
        self._enough = STEP // 2
        self.header = header
        self.offset = HEADER_SIZE
        self.size = HEADER_SIZE
        self.end = header.base

    @classmethod
    def open(cls, fs: Fs, directory: Path, header: Header, *, max_size: int) -> "ActiveSegment":
        """Create the file with its header, durably; leaves nothing behind when that fails."""
        path = path_of(directory, header.number)
        descriptor = fs.create(path)
        try:
            fs.write(descriptor, [segment.encode(header)], 0, sync=True)
            fs.sync_directory(directory)
        except OSError:
            with contextlib.suppress(OSError):
                fs.close(descriptor)
            with contextlib.suppress(OSError):
                fs.remove(path)
            raise
        return cls(fs, directory, descriptor, header, max_size=max_size)

    @property
    def extent(self) -> Extent:
        """Return what is valid in the file now."""
        return Extent(
            number=self.header.number,
            salt=self.header.salt,
            base=self.header.base,
            end=self.end,
            offset=self.offset,
            size=self.size,
            created_at_ns=self.header.created_at_ns,
        )

    def fits(self, size: int) -> bool:
        """Return whether `size` more bytes belong into this file."""
        return self.offset == HEADER_SIZE or self.offset + size <= self._max_size

    def append(self, buffers: Sequence[Buffer], end: int, *, sync: bool) -> None:
        """Write one commit; it counts only if this returns. After an OSError the file must be sealed."""
        size = sum(map(len, buffers))
        self._small = size < LARGE
        if self._small and self.offset + size > self.size:
            self._extend(sync=False)
        if sync and self._unsynced:
            # earlier writes must not leave a hole before this one
            self._fs.write(self._descriptor, buffers, self.offset, sync=False)
            self._fs.sync(self._descriptor)
        else:
            self._fs.write(self._descriptor, buffers, self.offset, sync=sync)
        self._unsynced = not sync
        self.offset += size
        self.size = max(self.size, self.offset)
        self.end = end

    def write_ahead(self) -> bool:
        """Write zeros ahead of small commits while nobody waits; return whether any were needed."""
        if not self._small or not self._ahead or self.size - self.offset >= self._enough:
            return False
        return self._extend(sync=not self._unsynced)

    def _extend(self, *, sync: bool) -> bool:
        if not self._ahead:
            return False
        try:
            room = min(STEP, self._fs.free(self._directory) // _SHARE, self._max_size - self.size)
            step = room - room % _BLOCK
            self._ahead = step > 0
            self._enough = step // 2
            if step > 0:
                self._fs.write(self._descriptor, [bytes(step)], self.size, sync=sync)
        except OSError:
            # only a convenience: give back what was taken, and let the commit itself find out about the disk
            self._ahead = False
            self._cut(self.size)
            return False
        self._unsynced |= step > 0 and not sync
        self.size += max(step, 0)
        return step > 0

    def _cut(self, size: int) -> None:
        with contextlib.suppress(OSError):
            self._fs.truncate(path_of(self._directory, self.header.number), size)
            self.size = size

    def sync(self) -> None:
        """Make durable what is not yet."""
        if self._unsynced:
            self._fs.sync(self._descriptor)
            self._unsynced = False

    def seal(self) -> Extent:
        """Release what was written ahead (or failed) and close the file for good; never syncs."""
        self._cut(self.offset)
        with contextlib.suppress(OSError):
            self._fs.close(self._descriptor)
        return self.extent
