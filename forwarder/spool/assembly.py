"""Assembly: the parts of one spool, built from what recovery found and joined together."""

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from pathlib import Path

import msgspec

from forwarder.core.joining import Joining
from forwarder.core.seams import Clock, Outcome
from forwarder.core.spool.checkpoint import Checkpoint
from forwarder.core.spool.ledger import Ledger
from forwarder.metrics import Cell
from forwarder.spool.acceptance import Acceptance
from forwarder.spool.checkpoint_file import AckJournal, Saved
from forwarder.spool.checkpointing import Checkpointing
from forwarder.spool.ending import Endings
from forwarder.spool.erasure import Erasure
from forwarder.spool.eviction import Eviction
from forwarder.spool.fs import Fs
from forwarder.spool.leasing import Leases
from forwarder.spool.opening import Opened
from forwarder.spool.reader import Reader
from forwarder.spool.segments import Segments
from forwarder.spool.settings import SpoolSettings
from forwarder.spool.space import Space
from forwarder.spool.troubles import Troubles
from forwarder.spool.waiting import DeliveryWaiters
from forwarder.spool.writer import Sink, Start, Writer


class Given(msgspec.Struct, frozen=True, kw_only=True):
    """What the spool brings along."""

    destination: str
    directory: Path
    quarantine: Path
    settings: SpoolSettings
    clock: Clock
    fs: Fs
    executor: Executor
    space: Space
    troubles: Troubles
    delivery: DeliveryWaiters
    dropped: Mapping[Outcome, Cell]
    sink: Sink
    joining: Joining
    state: Callable[[int], Checkpoint]
    on_saved: Callable[[Saved], None]
    post: Callable[..., object]


class Parts(msgspec.Struct, frozen=True, kw_only=True):
    """A spool's parts, ready to work."""

    ledger: Ledger
    segments: Segments
    leases: Leases
    eviction: Eviction
    writer: Writer
    checkpointing: Checkpointing
    endings: Endings
    acceptance: Acceptance
    erasure: Erasure


def assemble(given: Given, opened: Opened) -> Parts:
    """Build the parts; nothing runs yet. To be called on the loop."""
    return _Assembler(given, opened).parts()


class _Assembler:
    """Parts that know one another both ways are joined by attribute access at call time."""

    def __init__(self, given: Given, opened: Opened) -> None:
        self.given = given
        self.opened = opened
        self.ledger = opened.recovery.ledger
        self.segments = Segments(opened.recovery.extents, opened.recovery.foreign)
        self.leases = self._leases()
        self.eviction = Eviction(
            destination=given.destination,
            segments=self.segments,
            ledger=self.ledger,
            leases=self.leases,
            end=lambda first, end: self.endings.end(first, end, Outcome.EVICTED),
        )
        self.writer = self._writer()
        self.checkpointing = self._checkpointing()
        self.endings = Endings(
            destination=given.destination,
            ledger=self.ledger,
            segments=self.segments,
            leases=self.leases,
            delivery=given.delivery,
            checkpointing=self.checkpointing,
            dropped=given.dropped,
            findings=opened.recovery.findings,
        )

    def parts(self) -> Parts:
        return Parts(
            ledger=self.ledger,
            segments=self.segments,
            leases=self.leases,
            eviction=self.eviction,
            writer=self.writer,
            checkpointing=self.checkpointing,
            endings=self.endings,
            acceptance=self._acceptance(),
            erasure=self._erasure(),
        )

    def _leases(self) -> Leases:
        given = self.given
        return Leases(
            ledger=self.ledger,
            segments=self.segments,
            reader=Reader(given.fs, given.directory),
            executor=given.executor,
            next_sequence=self.opened.recovery.next_sequence,
            on_hole=lambda extent, first, end: self.endings.hole(extent, first, end),  # noqa: PLW0108 (built later)
            on_erased=lambda first, end: self.endings.end(first, end, Outcome.ERASED),
            on_trouble=given.troubles.set_reading,
        )

    def _writer(self) -> Writer:
        given, recovery = self.given, self.opened.recovery
        return Writer(
            fs=given.fs,
            directory=given.directory,
            segment_size=given.settings.effective_segment_size,
            clock=given.clock,
            start=Start(
                number=recovery.next_number,
                sequence=recovery.next_sequence,
                previous=recovery.previous,
                balance=self.ledger.balance,
            ),
            sink=given.sink,
            joining=given.joining,
            soon=asyncio.get_running_loop().call_soon,
            post=given.post,
        )

    def _checkpointing(self) -> Checkpointing:
        given, opened = self.given, self.opened
        journal = AckJournal(given.fs)
        journal.switch(opened.journal)
        return Checkpointing(
            keeper=opened.keeper,
            journal=journal,
            spare=opened.spare,
            writer=self.writer,
            interval_s=given.settings.checkpoint_interval,
            state=given.state,
            drained=lambda: self.segments.drained(self.ledger),
            on_saved=given.on_saved,
            post=given.post,
        )

    def _acceptance(self) -> Acceptance:
        given = self.given
        return Acceptance(
            space=given.space,
            troubles=given.troubles,
            writer=self.writer,
            eviction=self.eviction,
            checkpointing=self.checkpointing,
            clock=given.clock,
            when_full=given.settings.when_full,
        )

    def _erasure(self) -> Erasure:
        given = self.given
        return Erasure(
            fs=given.fs,
            directory=given.directory,
            quarantine=given.quarantine,
            ledger=self.ledger,
            segments=self.segments,
            endings=self.endings,
            checkpointing=self.checkpointing,
            leased=self.leases.leased,
            on_writer=self.writer.do,
            roll=self.writer.retire,
        )
