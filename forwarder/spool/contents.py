"""What the tools see of a spool: its segments and records, read in a stream and without changing anything.

Safe on a live spool: a file that goes while it is read was trimmed, so its records have ended.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import msgspec

from forwarder.core.spool import walk
from forwarder.core.spool.frame import Frame
from forwarder.core.spool.ledger import Ledger
from forwarder.core.spool.segment import HEADER_SIZE, End, Extent
from forwarder.core.spool.walk import Found, Hole
from forwarder.spool.active import path_of
from forwarder.spool.fs import Fs
from forwarder.spool.survey import Survey

Progress = Callable[[int], None]
"""Called with the bytes that were read since the last call."""


class SegmentRow(msgspec.Struct, frozen=True, kw_only=True):
    """One segment file, as `spool ls` shows it."""

    destination: str
    number: int
    state: str
    """`whole`, `damaged`, `unsupported`, `corrupt`."""
    first_sequence: int
    next_sequence: int
    queued: int
    bytes: int
    created_at: float | None
    batch_keys: Mapping[str, int]
    """Events by batch key."""


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """One event, as `spool export` prints it."""

    destination: str
    sequence: int
    queued: bool
    """False: it has ended, and its bytes have not been trimmed yet."""
    accepted_at: float
    batch_key: bytes
    event: bytes


class Contents:
    """One destination's spool directory, surveyed."""

    def __init__(self, fs: Fs, directory: Path, found: Survey) -> None:
        self._fs = fs
        self._directory = directory
        self._found = found
        self._ledger: Ledger = found.recovery.ledger

    @property
    def name(self) -> str:
        """Return the destination."""
        return self._directory.name

    @property
    def bytes(self) -> int:
        """Return how much there is to read."""
        return sum(extent.offset for extent in self._found.recovery.extents)

    def rows(self, *, keys: bool, progress: Progress) -> Iterator[SegmentRow]:
        """Yield a row a file; `keys` costs reading it."""
        recovery = self._found.recovery
        whole = {extent.number: extent for extent in recovery.extents}
        foreign = {extent.number: extent for extent in recovery.foreign}
        for number in sorted({*whole, *foreign, *recovery.quarantine}):
            extent = whole.get(number) or foreign.get(number)
            counts: Counter[str] = Counter()
            if keys and number in whole:
                for item in self.items(whole[number], progress):
                    if isinstance(item, Found):
                        counts[item.frame.batch_key.decode("utf-8", "backslashreplace")] += item.frame.count
            yield self._row(number, extent, counts, foreign=number in foreign)

    def _row(self, number: int, extent: Extent | None, keys: Counter[str], *, foreign: bool) -> SegmentRow:
        name = self.name
        if extent is None:
            return SegmentRow(
                destination=name, number=number, state="corrupt", first_sequence=0, next_sequence=0, queued=0,
                bytes=self._fs.size(path_of(self._directory, number)), created_at=None, batch_keys={},
            )  # fmt: skip
        return SegmentRow(
            destination=name,
            number=number,
            state="unsupported" if foreign else "damaged" if extent.damaged else "whole",
            first_sequence=extent.base,
            next_sequence=extent.end,
            queued=self._ledger.open(extent.base, extent.end),
            bytes=extent.size,
            created_at=extent.created_at_ns / 1e9 or None,
            batch_keys=dict(keys.most_common()),
        )

    def records(self, *, ended: bool, progress: Progress) -> Iterator[Record]:
        """Yield the queued records, oldest first; with `ended` also those that have ended and are still there."""
        for extent in self._found.recovery.extents:
            if not ended and self._ledger.ended(extent.base, extent.end):
                progress(extent.offset)
                continue
            for item in self.items(extent, progress):
                if isinstance(item, Found):
                    yield from self._of(item.frame, ended=ended)

    def _of(self, frame: Frame, *, ended: bool) -> Iterator[Record]:
        starts = frame.starts
        for at, length in enumerate(frame.lengths):
            sequence = frame.sequence + at
            queued = not self._ledger.ended(sequence, sequence + 1)
            if queued or ended:
                yield Record(
                    destination=self.name,
                    sequence=sequence,
                    queued=queued,
                    accepted_at=frame.accepted_at,
                    batch_key=frame.batch_key,
                    event=bytes(frame.payload[starts[at] : starts[at] + length]),
                )

    def items(self, extent: Extent, progress: Progress) -> Iterator[Found | Hole]:
        """Yield the frames and the damage of one segment; nothing when the file has gone."""
        with ExitStack() as stack:
            try:
                descriptor = self._fs.open(path_of(self._directory, extent.number))
            except FileNotFoundError:
                return
            stack.callback(self._fs.close, descriptor)

            def read(offset: int, size: int) -> bytes:
                return self._fs.read(descriptor, offset, size)

            at = 0
            start = End(0, HEADER_SIZE, extent.base)
            for item in walk.walk(read, extent.salt, start, extent.offset, extent.end):
                progress(item.next_offset - at)
                at = item.next_offset
                yield item

    def holes(self, progress: Progress) -> Iterator[tuple[int, Hole, int]]:
        """Read everything; yield (segment, damage, records in it that have not ended)."""
        for extent in self._found.recovery.extents:
            for item in self.items(extent, progress):
                if isinstance(item, Hole):
                    yield extent.number, item, self._ledger.open(item.first, item.end)
