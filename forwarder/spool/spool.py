"""The spool: the disk-backed queue of one destination, put together from its parts. Everything here runs on the loop.

Hot: `committed` runs once a commit; see acceptance.py for what runs once a request.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self

import msgspec
import structlog

from forwarder.core.joining import Joining
from forwarder.core.seams import Busy, Clock, Done, Durability, Group, Held, Outcome, SpoolStats
from forwarder.core.spool.checkpoint import Checkpoint
from forwarder.core.spool.frame import Frame, Span
from forwarder.core.spool.ledger import FIRST
from forwarder.core.spool.packing import Entry
from forwarder.core.spool.segment import Extent
from forwarder.core.spool.timeline import Timeline
from forwarder.metrics import Metrics
from forwarder.spool import opening
from forwarder.spool.assembly import Given, assemble
from forwarder.spool.checkpoint_file import Saved
from forwarder.spool.ending import COUNTED
from forwarder.spool.erasure import SpoolErased
from forwarder.spool.fs import Fs, RealFs
from forwarder.spool.opening import Opened
from forwarder.spool.person import Person
from forwarder.spool.reader import Reader, frames_on_disk
from forwarder.spool.settings import SpoolSettings
from forwarder.spool.space import Space
from forwarder.spool.troubles import Troubles
from forwarder.spool.waiting import DeliveryWaiters
from forwarder.spool.writer import Commit

__all__ = ["DiskSpool", "SpoolSettings"]

log = structlog.get_logger()

_CLOSE_S = 5.0


class DiskSpool:
    """Implements `seams.Spool` in `directory`. `async with` (or `open` and `close`) around its life.

    `room` is asked for limits beyond this spool; `joining` is told when its next commit waits for company; `fs` is the
    kernel's file system unless a test says otherwise.
    """

    def __init__(
        self,
        *,
        directory: Path,
        quarantine: Path,
        destination: str,
        settings: SpoolSettings,
        clock: Clock,
        metrics: Metrics,
        room: Callable[[int], Busy | None] | None = None,
        joining: Joining | None = None,
        fs: Fs | None = None,
    ) -> None:
        self.destination = destination
        self.directory = directory
        self.settings = settings
        self._quarantine = quarantine
        self._clock = clock
        self._joining = joining or Joining()
        self._fs = fs or RealFs()
        self._space = Space(destination=destination, max_size=settings.max_size, room=room)
        self._accepted = metrics.accepted.at(destination)
        self._dropped = {o: metrics.dropped.at(destination, o.name.lower()) for o in COUNTED}
        self._lost_in_memory = metrics.dropped.at(destination, "unwritten")
        self._commit_duration = metrics.commit_duration.at(destination)
        self._troubles = Troubles(destination, clock)
        self._delivery = DeliveryWaiters()
        self._timeline = Timeline()
        self._remembered: dict[str, Any] = {}
        self._commits = 0
        self._closing = False

    # ---- life

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self.close(self._clock.monotonic() + _CLOSE_S)

    async def open(self, *, given: int = FIRST) -> None:
        """Recover and start the writer; no new event gets a sequence below `given`. Raises SpoolNotWritable."""
        self._loop = asyncio.get_running_loop()
        self._executor = ThreadPoolExecutor(1, thread_name_prefix=f"spool-read-{self.destination}")
        try:
            places = (self._fs, self.directory, self._quarantine, self.destination)
            opened = await self._loop.run_in_executor(self._executor, opening.open_directory, *places, given)
        except BaseException:
            self._executor.shutdown(wait=False)
            raise
        self._take_over(opened)
        self._writer.start(f"spool-write-{self.destination}")

    def _take_over(self, opened: Opened) -> None:
        recovery = opened.recovery
        self._next = recovery.next_sequence
        self._remembered = recovery.remembered
        for extent in recovery.extents:
            self._timeline.mark(extent.base, extent.created_at_ns / 1e9)
        parts = assemble(self._given(), opened)
        self._ledger, self._segments, self._leases = parts.ledger, parts.segments, parts.leases
        self._eviction, self._writer, self._checkpointing = parts.eviction, parts.writer, parts.checkpointing
        self._endings, self._acceptance, self._erasure = parts.endings, parts.acceptance, parts.erasure
        self._count_bytes()
        if recovery.findings:
            self._checkpointing.changed()

    def _given(self) -> Given:
        return Given(
            destination=self.destination,
            directory=self.directory,
            quarantine=self._quarantine,
            settings=self.settings,
            clock=self._clock,
            fs=self._fs,
            executor=self._executor,
            space=self._space,
            troubles=self._troubles,
            delivery=self._delivery,
            dropped=self._dropped,
            sink=self,
            joining=self._joining,
            state=self._state,
            on_saved=self._saved,
            post=self._post,
        )

    def retune(self, settings: SpoolSettings) -> None:
        """Apply changed limits (reload); the segment size counts from the next segment on."""
        self.settings = settings
        self._space.max_size = settings.max_size
        self._checkpointing.interval_s = settings.checkpoint_interval
        self._writer.segment_size = settings.effective_segment_size
        self._acceptance.when_full = settings.when_full

    def _post(self, callback: Callable[..., object], *args: object) -> None:
        """Run `callback` on the loop; called on other threads."""
        try:
            self._loop.call_soon_threadsafe(callback, *args)
        except RuntimeError:
            # the loop has been closed: nobody is left to tell
            return

    async def close(self, deadline: float) -> None:
        """Commit what was appended, save the last checkpoint, release what was written ahead; by `deadline`."""
        if self._closing:
            return
        self._closing = self._acceptance.closing = True
        left_s = max(0.1, deadline - self._clock.monotonic())
        try:
            async with asyncio.timeout(left_s):
                self._checkpointing.quiet()
                await self._writer.do(self._writer.retire)
                await self._checkpointing.now()
        except TimeoutError:
            log.warning("spool_close_timed_out", destination=self.destination)
        self._writer.stop()
        if not await self._loop.run_in_executor(self._executor, self._writer.join, left_s):
            log.warning("spool_writer_stuck", destination=self.destination)
        self._give_up()

    def _give_up(self) -> None:
        self._writer.close()
        self._checkpointing.close()
        self._eviction.close()
        self._leases.close()
        lost = self._writer.kept
        if lost:
            self._lost_in_memory.value += lost
            log.error("spool_events_never_written", destination=self.destination, events=lost)
        self._delivery.give_up()
        self._executor.shutdown(wait=False)

    # ---- in

    def reserve(self, size: int, events: int) -> Busy | None:
        """Set room aside for an append that follows at once, evicting if the policy says so."""
        return self._acceptance.reserve(size, events)

    def cancel(self, size: int, events: int) -> None:
        """Give back a reservation whose append will not come."""
        self._acceptance.cancel(size, events)

    def append(self, group: Group, level: Durability, done: Done) -> None:
        """Take a reserved group into the next commit."""
        self._acceptance.append(group, level, done)

    @property
    def flood(self) -> float:
        """Return the bytes a second that come in, if it is a flood that delivery has fallen behind; else 0."""
        return self._leases.flood

    def on_arrival(self, callback: Callable[[], None]) -> None:
        """Call `callback` whenever records became leasable after there were none."""
        self._leases.on_arrival(callback)

    # ---- what the writer tells

    def committed(self, commit: Commit) -> None:
        """Let the records be leased, and wake whoever waits for them."""
        self._segments.grow(commit.active)
        self._accepted.value += commit.next_sequence - self._next
        self._next = commit.next_sequence
        self._timeline.mark(commit.frames[0].sequence, commit.frames[0].accepted_at)
        self._commit_duration.observe(commit.duration)
        self._commits += 1
        self._count_active(commit.active)
        self._checkpointing.changed()
        for done, pieces in commit.delivery:
            self._delivery.add(done, pieces)
        try:
            self._acceptance.stored(commit.entries, commit.level)
        finally:
            # a waiter that raises must not keep the records from being leased
            self._leases.committed(commit.frames, commit.next_sequence)

    def refused(self, entries: list[Entry], message: str) -> None:
        """Tell those who wait for a commit that it failed."""
        self._acceptance.failed(entries, f"{self.destination}: {message}")

    def sealed(self, extent: Extent) -> None:
        """Note that a segment takes no more records."""
        self._segments.seal(extent)
        self._count_bytes()
        if not self._closing:
            self._checkpointing.changed()

    def grown(self, extent: Extent) -> None:
        """Note that the active segment changed without a commit."""
        self._segments.grow(extent)
        self._count_active(extent)

    def trouble(self, message: str | None) -> None:
        """Note that the disk does not take commits, or (None) that it does again."""
        self._troubles.set_commits(message)

    def _count_active(self, active: Extent) -> None:
        self._space.active_offset, self._space.active_size = active.offset, active.size

    def _count_bytes(self) -> None:
        self._space.sealed = self._segments.sealed_bytes
        if self._segments.active is None:
            self._space.active_offset = self._space.active_size = 0

    # ---- out

    async def lease(self, max_bytes: int, held: Held) -> list[Span]:
        """Return committed, unacked, unleased spans, oldest first, about `max_bytes` in all."""
        return await self._leases.lease(max_bytes, held)

    def ack(self, spans: Sequence[Span], outcome: Outcome) -> None:
        """End these records; journalled (not synced) when this returns."""
        self._endings.ack(spans, outcome)

    def _hole(self, extent: Extent, first: int, end: int) -> None:
        self._endings.hole(extent, first, end)

    def frames(self, first: int) -> AsyncIterator[Frame]:
        """Yield what is on disk from `first` on, whatever has become of it; for repairs before anything is leased."""
        reader = Reader(self._fs, self.directory)
        return frames_on_disk(reader, self._segments, self._executor, first=first, end=self._next)

    def waits(self, sequence: int) -> bool:
        """Return whether this record has been given to an event and has not ended."""
        return sequence < self._next and not self._ledger.ended(sequence, sequence + 1)

    def settle(self, sequence: int, outcome: Outcome) -> int:
        """End a record that nobody has leased; return 1, or 0 if it had ended already."""
        return self._endings.end(sequence, sequence + 1, outcome)

    @property
    def next_sequence(self) -> int:
        """Return the sequence that the next record will have, unless more are being committed right now."""
        return self._next

    def release(self, spans: Sequence[Span]) -> None:
        """Give leased records back; they are leased again, in order, after `rewind`."""
        self._leases.release(spans)

    def rewind(self) -> None:
        """Let `lease` start over at the oldest record that is neither acked nor leased."""
        self._leases.rewind()

    def evict(self, size: int) -> int:
        """Evict oldest segments until about `size` bytes come back; return the bytes that do. For shared limits."""
        if self._eviction.evict(lambda freeing: freeing >= size):
            self._checkpointing.soon()
        return self._eviction.freeing()

    async def erase(self, person: Person, *, dry_run: bool) -> SpoolErased:
        """Remove a person's events that were accepted before now from this spool and its quarantine."""
        return await self._erasure.run(person, dry_run=dry_run)

    def unerased(self, spans: Sequence[Span]) -> Sequence[Span]:
        """Return leased spans without the records that were erased meanwhile: those must not be sent or kept."""
        return self._erasure.without_erased(spans)

    @property
    def limit(self) -> int:
        """Return `max_size`."""
        return self.settings.max_size

    @property
    def evictable(self) -> bool:
        """Return whether the oldest events may be dropped for new ones."""
        return self.settings.when_full == "evict_oldest"

    @property
    def taken(self) -> int:
        """Return the bytes on disk, with what was promised to appends."""
        return self._space.taken

    # ---- state

    def remember(self, key: str, value: object) -> None:
        """Keep a small JSON value with the next checkpoint; None forgets it."""
        msgspec.json.encode(value)
        if value is None:
            self._remembered.pop(key, None)
        else:
            self._remembered[key] = value
        self._checkpointing.changed()

    def recall(self) -> Mapping[str, object]:
        """Return what was remembered, this run or before."""
        return dict(self._remembered)

    async def checkpoint(self) -> None:
        """Save the state now and delete what that covers; return when it is done (or has failed: see `stats`)."""
        await self._checkpointing.now()

    def notes(self) -> list[str]:
        """Return standing remarks: what recovery and reading found damaged, unsupported or set aside."""
        return self._endings.notes

    def _state(self, generation: int) -> Checkpoint:
        balance = self._writer.balance = self._ledger.balance
        active = self._segments.active
        return Checkpoint(
            next=self._next,
            balance=balance,
            intervals=self._ledger.intervals,
            journal=generation,
            active=active.number if active else max((e.number for e in self._segments.sealed), default=0),
            segments=[(e.number, e.end, e.offset) for e in self._segments.sealed],
            damaged=self._segments.damaged,
            remembered=dict(self._remembered),
        )

    def _saved(self, saved: Saved) -> None:
        self._segments.remove(saved.trimmed)
        self._space.other = self._checkpointing.journal_bytes + saved.size
        self._count_bytes()
        self._troubles.set_checkpoint(saved.error)

    def stats(self) -> SpoolStats:
        """Return what `status` and the metrics show."""
        ledger = self._ledger.totals()
        queued = self._segments.queued(self._ledger)
        oldest = self._timeline.at(self._ledger.watermark) if queued else None
        trouble = self._troubles.current
        return SpoolStats(
            destination=self.destination,
            first_sequence=FIRST,
            next_sequence=self._next,
            queued_events=queued,
            bytes=self._space.on_disk,
            limit_bytes=self.settings.max_size,
            segments=self._segments.count,
            oldest_accepted_at=oldest,
            ledger=ledger,
            imbalance=self._next - FIRST - queued - sum(ledger.values()),
            trouble=trouble[0] if trouble else None,
            trouble_since=trouble[1] if trouble else None,
            refusing=self._troubles.commits is not None,
            unreadable=self._endings.unreadable,
            commits=self._commits,
            last_progress=self._clock.monotonic() if self._writer.idle else self._writer.last_progress,
        )
