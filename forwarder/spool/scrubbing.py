"""Scrubbing: a segment file without one person's events, of the same size, so that nothing else about it changes.

The new file is written beside the old one and takes its place by a rename: a kill leaves the old one or the new one.
"""

import contextlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

from forwarder.core.spool import frame as frames
from forwarder.core.spool import salvage, segment, walk
from forwarder.core.spool.frame import Frame
from forwarder.core.spool.segment import HEADER_SIZE, BadHeader, End, Header
from forwarder.core.spool.walk import Found
from forwarder.spool.fs import Fs
from forwarder.spool.person import Person
from forwarder.spool.survey import REPLACEMENT

_STEP = 1024 * 1024


class Patch(NamedTuple):
    """One place in a file that names the person."""

    offset: int
    size: int
    sequences: list[int]
    """Empty for bytes that are no frame: they become zeros."""


class Scrub:
    """Looks through one file, and writes it anew without the person. Blocking; off the loop."""

    def __init__(self, fs: Fs, path: Path, person: Person) -> None:
        self._fs = fs
        self.path = path
        self._person = person
        self._salt: int | None = None

    @property
    def replacement(self) -> Path:
        """Return the path of the new file."""
        return self.path.with_name(self.path.name + REPLACEMENT)

    def find(self) -> list[Patch]:
        """Return the places that name the person; none if the file has gone."""
        try:
            descriptor = self._fs.open(self.path)
        except FileNotFoundError:
            return []
        try:
            size = self._fs.size(self.path)
            header: object = segment.decode(self._fs.read(descriptor, 0, HEADER_SIZE))
            if isinstance(header, BadHeader) and header.kind == "corrupt":
                header = salvage.header(partial(self._fs.read, descriptor), 0, size)
            return list(self._patches(descriptor, header, size))
        finally:
            self._close(descriptor)

    def _patches(self, descriptor: int, header: object, size: int) -> Iterator[Patch]:
        position = 0
        if isinstance(header, Header):
            self._salt, position = header.salt, HEADER_SIZE
            start = End(0, HEADER_SIZE, header.base)
            read = partial(self._fs.read, descriptor)
            for item in walk.walk(read, header.salt, start, size, None):
                if not isinstance(item, Found):
                    continue
                yield from self._plain(descriptor, position, item.offset)
                position = item.next_offset
                sequences = self._named(item.frame)
                if sequences:
                    yield Patch(item.offset, item.next_offset - item.offset, sequences)
        yield from self._plain(descriptor, position, size)

    def _named(self, frame: Frame) -> list[int]:
        payload = bytes(frame.payload)
        if not self._person.maybe(payload):
            return []
        starts = frame.starts
        return [
            frame.sequence + at
            for at, length in enumerate(frame.lengths)
            if self._person.named_in(payload[starts[at] : starts[at] + length])
        ]

    def _plain(self, descriptor: int, start: int, stop: int) -> Iterator[Patch]:
        """Yield what must be blanked of bytes that are no frame."""
        overlap = len(self._person.needle)
        while start < stop:
            block = self._fs.read(descriptor, start, min(_STEP + overlap, stop - start))
            if not block:
                return
            if self._person.plainly(block):
                yield Patch(start, len(block), [])
            start += _STEP

    def write(self, patches: list[Patch]) -> bool:
        """Write the new file, durably; return False if the old one has gone meanwhile."""
        with contextlib.suppress(FileNotFoundError):
            self._fs.remove(self.replacement)
        try:
            source = self._fs.open(self.path)
        except FileNotFoundError:
            return False
        try:
            target = self._fs.create(self.replacement)
            try:
                self._copy(source, target)
                for patch in patches:
                    self._fs.write(target, [self._patched(source, patch)], patch.offset, sync=False)
                self._fs.sync(target)
            finally:
                self._close(target)
        except OSError:
            with contextlib.suppress(OSError):
                self._fs.remove(self.replacement)
            raise
        finally:
            self._close(source)
        return True

    def _copy(self, source: int, target: int) -> None:
        offset = 0
        while block := self._fs.read(source, offset, _STEP):
            self._fs.write(target, [block], offset, sync=False)
            offset += len(block)

    def _patched(self, source: int, patch: Patch) -> bytes:
        if not patch.sequences or self._salt is None:
            return bytes(patch.size)
        data = self._fs.read(source, patch.offset, patch.size)
        head = frames.decode_head(data, 0, self._salt)
        frame = head and frames.decode_body(head, data[frames.HEAD_SIZE :], self._salt)
        if not head or not frame:
            raise OSError(0, f"{self.path.name} changed while it was read")
        erased = frames.erase(frame, [sequence - frame.sequence for sequence in patch.sequences])
        return b"".join(map(bytes, frames.encode(erased, self._salt)))

    def _close(self, descriptor: int) -> None:
        with contextlib.suppress(OSError):
            self._fs.close(descriptor)
