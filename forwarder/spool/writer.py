"""The writer: group commit on a thread of its own. The loop gathers and hands over; one commit is in flight.

What one turn of the loop brings goes into one commit, and while that runs the next one gathers. (The thread helping
itself was tried: woken by the first request of a turn it committed two requests at a time where now it is a hundred.)
What a commit leaves behind is joined by those it answered, if they ask again at once (company.py).

Hot: `append` runs once a request on the loop, `_commit` once a commit on the thread (benchmarks/door.py).
"""

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

import msgspec

from forwarder.core.joining import Joining
from forwarder.core.seams import Clock, Done, Durability
from forwarder.core.spool import frame as frames
from forwarder.core.spool import packing
from forwarder.core.spool.frame import Frame
from forwarder.core.spool.ledger import Balance
from forwarder.core.spool.packing import Entry, Piece
from forwarder.core.spool.segment import End, Extent, Header
from forwarder.spool.active import ActiveSegment
from forwarder.spool.bell import Bell
from forwarder.spool.company import Company
from forwarder.spool.fs import Buffer, Fs

_WRITTEN, _FSYNC = Durability.WRITTEN, Durability.FSYNC
MUCH = 1024 * 1024
"""Bytes of events that are worth a commit of their own, so that the disk works on it while the loop answers. When that
began at 32 KiB a commit held fewer events: a tenth more processor at 256 connections and with arrays."""
_FIRST_PAUSE_S = 0.05
_LAST_PAUSE_S = 5.0
_NS = 1_000_000_000


class Commit(msgspec.Struct, frozen=True, kw_only=True):
    """One commit that succeeded."""

    frames: list[Frame]
    next_sequence: int
    entries: list[Entry]
    delivery: list[tuple[Done, list[Piece]]]
    level: Durability
    duration: float
    active: Extent


class Sink(Protocol):
    """Who is told, on the loop, in the order in which things happened."""

    def committed(self, commit: Commit) -> None:
        """Tell that records are durable and may be leased."""

    def refused(self, entries: list[Entry], message: str) -> None:
        """Tell that a commit failed; those who wait for it must hear so."""

    def sealed(self, extent: Extent) -> None:
        """Tell that a segment takes no more records."""

    def grown(self, extent: Extent) -> None:
        """Tell that the active segment changed without a commit."""

    def trouble(self, message: str | None) -> None:
        """Tell that the disk does not take commits, or (None) that it does again."""


class Start(msgspec.Struct, frozen=True, kw_only=True):
    """Where the writer goes on: from recovery."""

    number: int
    sequence: int
    previous: End
    balance: Balance


class Writer:
    """Commits what is appended. `append`, `submit` and `stop` are called on the loop; the rest is the thread's."""

    def __init__(
        self,
        *,
        fs: Fs,
        directory: Path,
        segment_size: int,
        clock: Clock,
        start: Start,
        sink: Sink,
        joining: Joining,
        soon: Callable[[Callable[[], None]], object],
        post: Callable[..., object],
    ) -> None:
        self._fs = fs
        self._directory = directory
        self.segment_size = segment_size
        self._clock = clock
        self._sink = sink
        self._soon = soon
        self._post = post
        self._number = start.number
        self._next = start.sequence
        self._previous = start.previous
        self._active: ActiveSegment | None = None
        self._gathered: list[Entry] = []
        self._size = 0
        """Bytes of the events gathered."""
        self._appended = 0
        """Events ever."""
        self._arranged = False
        """Somebody will hand over what is gathered: the end of this turn, or, when all have joined the next commit, the
        end of the one under way."""
        self._company = Company(joining)
        self._inbox: deque[list[Entry]] = deque()
        """What was handed over and not taken yet."""
        self._jobs: deque[Callable[[], None]] = deque()
        self._kept: list[Entry] = []
        self._bell = Bell()
        self._stopping = False
        self._trouble = False
        self._pause = _FIRST_PAUSE_S
        self._retry_at = 0.0
        self._thread: threading.Thread | None = None
        self.idle = False
        self.balance = start.balance
        """Set by the loop; goes into the next segment's header."""
        self.last_progress = clock.monotonic()

    # ---- on the loop

    def start(self, name: str) -> None:
        """Start the thread."""
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def append(self, entry: Entry) -> None:
        """Take an entry into the next commit."""
        self._gathered.append(entry)
        self._size += entry[0].size
        self._appended += len(entry[0].events)
        if not self._arranged:
            self._arranged = True
            self._soon(self._hand_over)

    def _hand_over(self) -> None:
        """Let the thread commit what was gathered, if anything was."""
        if not self._gathered:
            return
        self._inbox.append(self._gathered)
        self._gathered = []
        self._size = 0
        if self.idle:
            self._bell.ring()

    def _ended(self, answered: int, tell: Callable[..., None], *args: object) -> None:
        """Tell how a commit ended, and see to the next one: at once if it is large, else when all have joined it.

        `answered` counts the events of those who hear of it; whoever waited for that may ask again.
        """
        if self._size >= MUCH:
            self._hand_over()
        elif self._company.wait(self._appended, answered):
            self._soon(self._look)
        tell(*args)

    def _look(self) -> None:
        """Look again after a turn of the loop, which reads sockets, until nobody more is to come; then go on."""
        if self._size < MUCH and self._company.look(self._appended):
            self._soon(self._look)
            return
        try:
            self._company.take()
        finally:
            self._arranged = bool(self._gathered)
            self._hand_over()

    @property
    def empty(self) -> bool:
        """Return whether the next append is the first one of its commit."""
        return not self._gathered

    def submit(self, job: Callable[[], None]) -> None:
        """Let the thread run `job` between two commits, after what was appended before."""
        self._hand_over()
        self._jobs.append(job)
        if self.idle:
            self._bell.ring()

    async def do(self, job: Callable[[], object]) -> None:
        """Let the thread do `job` after what was appended before; return when it has."""
        finished: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def tell() -> None:
            if not finished.done():
                finished.set_result(None)

        def run() -> None:
            job()
            self._post(tell)

        self.submit(run)
        await finished

    def stop(self) -> None:
        """Let the thread end after what was appended and the jobs."""
        self._hand_over()
        self._stopping = True
        self._bell.ring()

    def join(self, timeout_s: float) -> bool:
        """Wait for the thread (not on the loop); return whether it has ended."""
        if self._thread is None:
            return True
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def close(self) -> None:
        """Let go of what calls the thread, unless that still runs: for the end, after `join`."""
        if self._thread is None or not self._thread.is_alive():
            self._bell.close()

    @property
    def kept(self) -> int:
        """Return the events that were answered before they could be written (level `memory`)."""
        return sum(len(entry[0].events) for entries in (self._kept, *self._inbox, self._gathered) for entry in entries)

    # ---- on the thread

    def _run(self) -> None:
        while True:
            stopping = self._stopping  # these first: what was appended before is in the inbox now
            job = self._jobs.popleft() if self._jobs else None
            if self._inbox or (self._kept and not self._trouble):
                self._commit()
            self.last_progress = self._clock.monotonic()
            if job is not None:
                job()
            elif self._inbox or self._jobs:
                continue
            elif stopping:
                break
            elif self._trouble:
                self._probe()
            elif self._active is None or not self._write_ahead(self._active):
                self._rest(None)
        self._finish()

    def _rest(self, timeout_s: float | None) -> None:
        self.idle = True
        # whoever appended before `idle` was set did not ring, hence the second look
        if not (self._inbox or self._jobs or self._stopping):
            self._bell.wait(timeout_s)
        self.last_progress = self._clock.monotonic()  # before `idle`: the rest was no lack of progress
        self.idle = False

    def _take(self) -> list[Entry]:
        entries, self._kept = self._kept, []
        while self._inbox:
            handed_over = self._inbox.popleft()
            entries = entries + handed_over if entries else handed_over
        return entries

    def _commit(self) -> None:
        entries = self._take()
        if self._trouble:
            self._refuse(entries, "the disk does not take writes; the events were not stored")
            return
        started = self._clock.monotonic()
        packed = packing.pack(entries, self._next)
        level = _FSYNC if max([entry[1] for entry in entries]) >= _FSYNC else _WRITTEN
        try:
            active = self._write(packed.frames, packed.next_sequence, sync=level is _FSYNC)
        except OSError as exc:
            self._fail(entries, exc)
            return
        commit = Commit(
            frames=packed.frames,
            next_sequence=packed.next_sequence,
            entries=entries,
            delivery=packed.delivery,
            level=level,
            duration=self._clock.monotonic() - started,
            active=active.extent,
        )
        self._pause = _FIRST_PAUSE_S
        answered = sum([len(group.events) for group, _, done, _ in entries if done is not None])
        self._post(self._ended, answered, self._sink.committed, commit)

    def _write(self, made: Sequence[Frame], end: int, *, sync: bool) -> ActiveSegment:
        size = sum(len(frame.payload) for frame in made)
        active = self._active
        if active is not None and not active.fits(size):
            # whatever earlier commits left unsynced: with the next header durable, nobody looks behind its word
            active.sync()
            self._seal(active)
            active = None
        if active is None:
            active = self._open()
        buffers: list[Buffer] = []
        for frame in made:
            buffers += frames.encode(frame, active.header.salt)
        active.append(buffers, end, sync=sync)
        self._next = end
        return active

    def _open(self) -> ActiveSegment:
        header = Header(
            salt=self._fs.salt(),
            number=self._number,
            base=self._next,
            created_at_ns=round(self._clock.wall() * _NS),
            previous=self._previous,
            balance=self.balance,
        )
        self._number += 1
        self._active = ActiveSegment.open(self._fs, self._directory, header, max_size=self.segment_size)
        return self._active

    def _seal(self, active: ActiveSegment) -> None:
        extent = active.seal()
        self._active = None
        self._previous = extent.valid_end
        self._post(self._sink.sealed, extent)

    def _write_ahead(self, active: ActiveSegment) -> bool:
        wrote = active.write_ahead()
        if wrote:
            self._post(self._sink.grown, active.extent)
        return wrote

    # ---- trouble

    def _fail(self, entries: list[Entry], exc: OSError) -> None:
        """End a commit that the disk refused: its file is sealed where it was valid, and never synced again."""
        if self._active is not None:
            self._seal(self._active)
        message = f"commit failed: {exc.strerror or exc}"
        self._trouble = True
        self._wait_longer()
        # whoever hears of the failure and tries again must find the door closed already
        self._post(self._sink.trouble, message)
        self._refuse(entries, message)

    def _refuse(self, entries: list[Entry], message: str) -> None:
        # answered already (`memory`): nobody can be told, so they wait here for the disk
        self._kept += [entry for entry in entries if entry[2] is None]
        self._post(self._ended, 0, self._sink.refused, [entry for entry in entries if entry[2] is not None], message)

    def _wait_longer(self) -> None:
        self._retry_at = self._clock.monotonic() + self._pause
        self._pause = min(self._pause * 2, _LAST_PAUSE_S)

    def _probe(self) -> None:
        """Wait for the next try; then see whether the disk takes a new segment and room for commits."""
        left = self._retry_at - self._clock.monotonic()
        if left > 0:
            self._rest(left)
            return
        try:
            active = self._open()
            if not active.write_ahead():
                active.sync()
        except OSError as exc:
            self._wait_longer()
            self._post(self._sink.trouble, f"cannot open a segment: {exc.strerror or exc}")
            return
        self._trouble = False
        self._post(self._sink.grown, active.extent)
        self._post(self._sink.trouble, None)

    def retire(self) -> None:
        """Try once more what waits for the disk, then seal: nothing is appended any more. A job for the thread."""
        if self._kept:
            self._trouble = False
            self._commit()
        if self._active is not None:
            self._sync_and_seal(self._active)

    def _sync_and_seal(self, active: ActiveSegment) -> None:
        with contextlib.suppress(OSError):
            active.sync()
        self._seal(active)

    def _finish(self) -> None:
        if self._active is not None:
            self._sync_and_seal(self._active)
        self.idle = True
