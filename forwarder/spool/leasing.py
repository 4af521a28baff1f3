"""Leasing: the cursor, what is leased, and where the next records come from (memory, else the reader)."""

import asyncio
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import Executor

from forwarder.core.seams import Held
from forwarder.core.spool.frame import Frame, Span
from forwarder.core.spool.intervals import Intervals
from forwarder.core.spool.ledger import Ledger
from forwarder.core.spool.segment import Extent
from forwarder.spool.inflow import Inflow
from forwarder.spool.reader import Chunk, Reader, Shelf
from forwarder.spool.segments import Segments

MEMORY_TAIL = 4 * 1024 * 1024
"""Bytes of recent frames kept in memory; older ones are read from disk again."""
_REREAD_S = 30.0
_CHUNK = sys.maxsize
"""The shelf of what was read holds one chunk, which is larger than a step only if a single frame is."""


class Leases:
    """Hands out records in order. Owned by the loop."""

    def __init__(
        self,
        *,
        ledger: Ledger,
        segments: Segments,
        reader: Reader,
        executor: Executor,
        next_sequence: int,
        on_hole: Callable[[Extent, int, int], None],
        on_erased: Callable[[int, int], object],
        on_trouble: Callable[[str | None], None],
    ) -> None:
        self._ledger = ledger
        self._segments = segments
        self._reader = reader
        self._executor = executor
        self._on_hole = on_hole
        self._on_erased = on_erased
        self._on_trouble = on_trouble
        self._arrivals: list[Callable[[], None]] = []
        self._retry: asyncio.TimerHandle | None = None
        self._leased = Intervals()
        self._blocked: set[int] = set()
        self._tail = Shelf(MEMORY_TAIL)
        self._chunk = Shelf(_CHUNK)
        self._cursor = ledger.watermark
        self._next = next_sequence
        self._inflow = Inflow()
        self._loop = asyncio.get_running_loop()
        self.exhausted = True
        """The last lease went to the end: the next commit is an arrival."""

    @property
    def flood(self) -> float:
        """Return the bytes a second that come in, if they are many and what is leased next is not in memory; else 0."""
        coming = self._inflow.flood(self._loop.time())
        return coming if coming and self._cursor < self._next and self._tail.find(self._cursor) is None else 0.0

    def committed(self, frames: Sequence[Frame], next_sequence: int) -> None:
        """Take new records in; tell of their arrival if there were none."""
        self._inflow.add(sum([len(frame.payload) for frame in frames]), self._loop.time())
        self._tail.add(frames)
        self._next = next_sequence
        if self.exhausted:
            self._arrived()

    def on_arrival(self, callback: Callable[[], None]) -> None:
        """Call `callback` whenever records became leasable after there were none."""
        self._arrivals.append(callback)

    def _arrived(self) -> None:
        self.exhausted = False
        for callback in self._arrivals:
            callback()

    async def lease(self, max_bytes: int, held: Held) -> list[Span]:
        """Return free records from the cursor on; it never waits with records in hand, so a cancel leaks none."""
        spans: list[Span] = []
        size = 0 if held else self._take_fresh(max_bytes, spans)
        while size < max_bytes:
            at = self._free_from(self._cursor)
            if at >= self._next:
                self.exhausted = True
                break
            frame = self._tail.find(at) or self._chunk.find(at)
            if frame is not None:
                size += self._take(frame, at, held, spans)
                self._cursor = frame.sequence + frame.count
            elif spans:
                break
            else:
                await self._fetch(at)
        return spans

    def _take_fresh(self, max_bytes: int, spans: list[Span]) -> int:
        """Take whole frames beyond all that is leased or has ended, as nearly always; return their bytes."""
        first = at = self._cursor
        if at < self._leased.end or at < self._ledger.end:
            return 0
        size = 0
        while size < max_bytes:
            frame = self._tail.find(at) or self._chunk.find(at)
            if frame is None or frame.sequence != at:
                break
            spans.append(Span(frame, 0, frame.count))
            size += len(frame.payload)
            at += frame.count
        self._leased.add(first, at)
        self._cursor = at
        return size

    def _free_from(self, sequence: int) -> int:
        """Return the first sequence from here on that has neither ended nor is leased."""
        while True:
            free = self._leased.skip(self._ledger.skip(sequence))
            if free == sequence:
                return free
            sequence = free

    def _take(self, frame: Frame, at: int, held: Held, spans: list[Span]) -> int:
        if held and held.key(frame.batch_key):
            return 0
        first, end = frame.sequence, frame.sequence + frame.count
        if at == first and not self._ledger.touched(first, end) and not self._leased.overlaps(first, end):
            if not (held and frame.traits):  # the whole frame, as nearly always
                self._leased.add(first, end)
                spans.append(Span(frame, 0, frame.count))
                return len(frame.payload)
            free = [(first, end)]
        else:
            free = [piece for gap in self._ledger.gaps(at, end) for piece in self._leased.gaps(*gap)]
        taken = [Span(frame, start - first, stop - first) for start, stop in free]
        if held and frame.traits:
            taken = [part for span in taken for part in _without_held(span, held)]
        for span in taken:
            self._leased.add(span.first, span.end)
        spans += taken
        return sum(span.size for span in taken)

    async def _fetch(self, at: int) -> None:
        """Read the records at `at`; afterwards they are at hand, or ended, or behind the cursor."""
        extent = self._segments.find(at)
        if extent is None or extent.number in self._blocked:
            # nothing that this program can read now: on to the next file
            behind = self._segments.after(at)
            self._cursor = self._next if behind is None else behind
            return
        try:
            chunk = await self._loop.run_in_executor(self._executor, self._reader.read, extent, at)
        except OSError as exc:
            self._block(extent, exc)
            return
        self._shelve(extent, chunk)

    def _shelve(self, extent: Extent, chunk: Chunk) -> None:
        self._chunk = Shelf(_CHUNK)
        self._chunk.add(chunk.frames)
        for hole in chunk.holes:
            self._on_hole(extent, hole.first, hole.end)
        for piece in chunk.erased:
            self._on_erased(*piece)

    def _block(self, extent: Extent, exc: OSError) -> None:
        """Pass over a file that the disk cannot read now; its records stay, and it is tried again later."""
        self._blocked.add(extent.number)
        self._on_trouble(f"cannot read segment {extent.number}: {exc.strerror or exc}")
        if self._retry is None:
            self._retry = self._loop.call_later(_REREAD_S, self.read_again)

    def read_again(self) -> None:
        """Try the files again that could not be read."""
        self.close()
        self._blocked.clear()
        self._on_trouble(None)
        self.rewind()
        self._arrived()

    def close(self) -> None:
        """Stop trying again."""
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None

    def ended(self, first: int, end: int) -> None:
        """Note that these are no longer leased."""
        self._leased.discard(first, end)

    def release(self, spans: Sequence[Span]) -> None:
        """Take records back."""
        for span in spans:
            self._leased.discard(span.first, span.end)

    def leased(self, first: int, end: int) -> bool:
        """Return whether any of these records is out."""
        return self._leased.overlaps(first, end)

    def rewind(self) -> None:
        """Start over at the oldest record."""
        self._cursor = self._ledger.watermark


def _without_held(span: Span, held: Held) -> list[Span]:
    runs: list[Span] = []
    for one in span.singles():
        if held.order(one.order()):
            continue
        if runs and runs[-1].stop == one.start:
            runs[-1] = Span(span.frame, runs[-1].start, one.stop)
        else:
            runs.append(one)
    return runs
