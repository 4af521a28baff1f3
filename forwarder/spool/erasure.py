"""Erasure: one person's events leave a live spool and its quarantine, in an order that a kill cannot make inconsistent.

1. The active segment is sealed, so that everything accepted before lies in files that no longer change.
2. The records end as erased, and a checkpoint makes that durable. From here on nothing of them is delivered.
3. Each file that names the person is replaced by one of the same size without their events.

A kill after 2 leaves bytes that a second run removes (every record in the files is looked at, whether it has ended or
not). A file whose events were removed says so itself: they end as erased even if every checkpoint is lost.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import msgspec
import structlog

from forwarder.core.seams import Outcome
from forwarder.core.spool.frame import Span
from forwarder.core.spool.intervals import Intervals
from forwarder.core.spool.ledger import Ledger
from forwarder.core.spool.segment import Extent
from forwarder.errors import DiskTrouble
from forwarder.spool.active import path_of
from forwarder.spool.checkpoint_file import Saved
from forwarder.spool.checkpointing import Checkpointing
from forwarder.spool.ending import Endings
from forwarder.spool.fs import Fs
from forwarder.spool.person import Person
from forwarder.spool.scrubbing import Patch, Scrub
from forwarder.spool.segments import Segments

log = structlog.get_logger()


class SpoolErased(msgspec.Struct, kw_only=True):
    """What was found (and, without a dry run, removed) in one spool and its quarantine."""

    queued: int = 0
    """Events that had not ended: they are counted as erased in the ledger."""
    in_flight: int = 0
    """Of these: being sent at that moment; the vendor may have got them."""
    ended: int = 0
    """Events that had ended (delivered, say) and were still on disk."""
    files: int = 0
    """Segments that were written anew."""
    quarantined_files: int = 0
    untouched: list[str] = msgspec.field(default_factory=list)
    """Files that this program cannot read: of a newer format."""


class Erasure:
    """Erases in one spool; one person at a time."""

    def __init__(
        self,
        *,
        fs: Fs,
        directory: Path,
        quarantine: Path,
        ledger: Ledger,
        segments: Segments,
        endings: Endings,
        checkpointing: Checkpointing,
        leased: Callable[[int, int], bool],
        on_writer: Callable[[Callable[[], object]], Awaitable[None]],
        roll: Callable[[], None],
    ) -> None:
        self._fs = fs
        self._directory = directory
        self._quarantine = quarantine
        self._ledger = ledger
        self._segments = segments
        self._endings = endings
        self._checkpointing = checkpointing
        self._leased = leased
        self._on_writer = on_writer
        self._roll = roll
        self._one_at_a_time = asyncio.Lock()
        self.withdrawn = Intervals()
        """Sequences that were leased when they were erased: whoever holds them must not send them. Never reused."""

    async def run(self, person: Person, *, dry_run: bool) -> SpoolErased:
        """Erase a person's events; raises DiskTrouble when the disk does not take it (then it can be run again)."""
        async with self._one_at_a_time:
            if not dry_run:
                await self._on_writer(self._roll)
            extents = [*self._segments.sealed, *([self._segments.active] if self._segments.active else [])]
            result = SpoolErased(untouched=[path_of(self._directory, e.number).name for e in self._segments.foreign])
            found: list[tuple[Scrub, list[Patch]]] = []
            for extent in extents:
                scrub = Scrub(self._fs, path_of(self._directory, extent.number), person)
                patches = await self._look(scrub)
                if patches:
                    found.append((scrub, patches))
                    self._count(extent, patches, result, dry_run=dry_run)
            if not dry_run:
                await self._replace(found, result)
            result.quarantined_files = await self._clean_quarantine(person, dry_run=dry_run)
            return result

    def without_erased(self, spans: Sequence[Span]) -> Sequence[Span]:
        """Return these leased spans without what was erased."""
        gone = self.withdrawn
        if not len(gone) or not any(gone.overlaps(span.first, span.end) for span in spans):
            return spans
        return [
            Span(span.frame, first - span.frame.sequence, end - span.frame.sequence)
            for span in spans
            for first, end in gone.gaps(span.first, span.end)
        ]

    def _count(self, extent: Extent, patches: list[Patch], result: SpoolErased, *, dry_run: bool) -> None:
        result.files += 1
        for sequence in (one for patch in patches for one in patch.sequences if one < extent.end):
            if self._ledger.ended(sequence, sequence + 1):
                result.ended += 1
                continue
            result.queued += 1
            leased = self._leased(sequence, sequence + 1)
            result.in_flight += leased
            if not dry_run:
                if leased:
                    self.withdrawn.add(sequence, sequence + 1)
                self._endings.end(sequence, sequence + 1, Outcome.ERASED)

    async def _replace(self, found: list[tuple[Scrub, list[Patch]]], result: SpoolErased) -> None:
        if not found:
            return
        saved: Saved = await self._checkpointing.now()
        if saved.error:
            raise DiskTrouble(operation="erase", path=str(self._directory), reason=saved.error)
        for scrub, patches in found:
            await self._rewrite(scrub, patches)
        log.warning("events_erased", destination=self._directory.name, events=result.queued, files=result.files)

    async def _look(self, scrub: Scrub) -> list[Patch]:
        try:
            return await asyncio.to_thread(scrub.find)
        except OSError as exc:
            raise DiskTrouble(operation="erase", path=str(scrub.path), reason=exc.strerror or str(exc)) from exc

    async def _rewrite(self, scrub: Scrub, patches: list[Patch]) -> None:
        failed: list[OSError] = []

        def swap() -> None:
            try:
                # on the writer's thread, which is the one that trims: a file that has gone must not come back
                if scrub.path.name in self._fs.names(scrub.path.parent):
                    self._fs.move(scrub.replacement, scrub.path)
                else:
                    self._fs.remove(scrub.replacement)
            except OSError as exc:
                failed.append(exc)

        try:
            if await asyncio.to_thread(scrub.write, patches):
                await self._on_writer(swap)
        except OSError as exc:
            failed.append(exc)
        if failed:
            reason = failed[0].strerror or str(failed[0])
            raise DiskTrouble(operation="erase", path=str(scrub.path), reason=reason) from failed[0]

    async def _clean_quarantine(self, person: Person, *, dry_run: bool) -> int:
        count = 0
        for name in await asyncio.to_thread(self._quarantined):
            scrub = Scrub(self._fs, self._quarantine / name, person)
            patches = await self._look(scrub)
            count += bool(patches)
            if patches and not dry_run:
                await self._rewrite(scrub, patches)
        return count

    def _quarantined(self) -> list[str]:
        try:
            return sorted(self._fs.names(self._quarantine))
        except OSError:
            return []
