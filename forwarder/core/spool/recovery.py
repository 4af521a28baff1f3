"""Recovery: from what lies in a spool directory to a spool that can go on. It decides; the shell reads and moves files.

The shell collects `Facts`, asks `to_scan` which segments must be read frame by frame, and passes both to `recover`.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import msgspec

from forwarder.core.seams import Outcome
from forwarder.core.spool import walk
from forwarder.core.spool.checkpoint import BadCheckpoint, Checkpoint
from forwarder.core.spool.journal import Ack
from forwarder.core.spool.ledger import FIRST, Balance, Ledger, replay
from forwarder.core.spool.segment import HEADER_SIZE, LEAST_RECORD, BadHeader, End, Extent, Header
from forwarder.core.spool.walk import Scan


class File(msgspec.Struct, frozen=True):
    """One segment file: its number by name, its size, and what its header says."""

    number: int
    size: int
    header: Header | BadHeader
    salvaged: bool = False
    """The header was damaged and follows from the frames (salvage.py)."""


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What lies in a spool directory; `files` in order of number."""

    files: Sequence[File] = ()
    checkpoint: Checkpoint | BadCheckpoint | None = None
    acks: Sequence[Ack] = ()
    journal: int = 0
    """The highest generation that has a file."""
    journal_troubles: Sequence[str] = ()
    """What could not be read of the journals, in words."""
    given: int = FIRST
    """One past the highest sequence that somebody else knows of: the dead letters."""


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that was not as it should be; `[first, end)` are the sequences concerned, if any."""

    kind: Literal["unreadable", "skipped", "unsupported", "torn", "corrupt", "checkpoint", "journal"]
    reason: str
    number: int = 0
    first: int = 0
    end: int = 0


class Recovery(msgspec.Struct, kw_only=True):
    """A spool's state at start, and what the shell has to do with files that are no segments of it."""

    ledger: Ledger
    extents: list[Extent]
    foreign: list[Extent]
    """Of a newer format: left alone; their records count as queued."""
    next_sequence: int
    next_number: int
    previous: End
    journal: int
    remembered: dict[str, Any]
    quarantine: list[int]
    unfinished: list[int]
    dirty_ends: dict[int, int]
    """By number: behind this byte the file holds only zeros that were written ahead."""
    findings: list[Finding]


def to_scan(facts: Facts) -> list[int]:
    """Return the numbers of the segments whose valid end nobody tells."""
    told = _told(facts)
    return [file.number for file in facts.files if isinstance(file.header, Header) and file.number not in told]


def recover(facts: Facts, scans: Mapping[int, Scan]) -> Recovery:
    """Put it all together; never fails, whatever the facts are."""
    return _Recoverer(facts, scans).run()


def _told(facts: Facts) -> dict[int, End]:
    told: dict[int, End] = {}
    if isinstance(facts.checkpoint, Checkpoint):
        told = {number: End(number, offset, sequence) for number, sequence, offset in facts.checkpoint.segments}
    for file in facts.files:
        if isinstance(file.header, Header) and file.header.previous.number:
            told[file.header.previous.number] = file.header.previous
    return told


class _Recoverer:
    def __init__(self, facts: Facts, scans: Mapping[int, Scan]) -> None:
        self.facts = facts
        self.scans = scans
        self.checkpoint = facts.checkpoint if isinstance(facts.checkpoint, Checkpoint) else None
        self.findings: list[Finding] = []
        self.ledger = self._ledger()
        self.extents = self._extents()
        self.foreign: list[Extent] = []

    def run(self) -> Recovery:
        self._report_files()
        self._fill_gaps()
        self._scanned_holes()
        next_sequence = self._finish()
        numbers = [file.number for file in self.facts.files]
        active = self.checkpoint.active if self.checkpoint else 0
        return Recovery(
            ledger=self.ledger,
            extents=self._marked(),
            foreign=self.foreign,
            next_sequence=next_sequence,
            next_number=max([active, *numbers], default=0) + 1,
            previous=self.extents[-1].valid_end if self.extents else End(),
            journal=max(self.facts.journal, self.checkpoint.journal if self.checkpoint else 0),
            remembered=dict(self.checkpoint.remembered) if self.checkpoint else {},
            quarantine=self._bad("corrupt"),
            unfinished=self._bad("torn"),
            dirty_ends={number: scan.dirty_end for number, scan in self.scans.items()},
            findings=self.findings,
        )

    def _ledger(self) -> Ledger:
        balances = [f.header.balance for f in self.facts.files if isinstance(f.header, Header)]
        if self.checkpoint:
            balances.append(self.checkpoint.balance)
        best = max((b for b in balances if b.sound), key=lambda b: b.watermark, default=Balance())
        intervals = self.checkpoint.intervals if self.checkpoint else []
        return replay(best, [*intervals, *self.facts.acks])

    def _extents(self) -> list[Extent]:
        told = _told(self.facts)
        found: list[Extent] = []
        for file in self.facts.files:
            if isinstance(file.header, BadHeader):
                continue
            scan = self.scans.get(file.number)
            end = told.get(file.number) or (scan.valid_end if scan else End(file.number, HEADER_SIZE, file.header.base))
            found.append(walk.extent(file.header, end, file.size))
        # the frames of a failed commit can reach into the sequences that the next segment gave anew
        for at, later in enumerate(found[1:]):
            if found[at].end > later.base:
                found[at] = msgspec.structs.replace(found[at], end=max(found[at].base, later.base))
        return found

    def _report_files(self) -> None:
        for file in self.facts.files:
            if isinstance(file.header, BadHeader):
                self.findings.append(Finding(kind=file.header.kind, reason=file.header.reason, number=file.number))
            elif file.salvaged:
                reason = "both copies of the header; its frames tell what it said"
                self.findings.append(Finding(kind="corrupt", reason=reason, number=file.number))
        if isinstance(self.facts.checkpoint, BadCheckpoint):
            bad = self.facts.checkpoint
            self.findings.append(Finding(kind="checkpoint", reason=f"{bad.kind}: {bad.reason}"))
        self.findings += [Finding(kind="journal", reason=reason) for reason in self.facts.journal_troubles]

    def _bad(self, kind: str) -> list[int]:
        return [f.number for f in self.facts.files if _kind(f) == kind]

    def _fill_gaps(self) -> None:
        """Between two readable segments: what missing or bad files held, then numbers that were never given."""
        position, number = FIRST, 0
        held_until = {f.number: _held_until(f, f.header) for f in self.facts.files if isinstance(f.header, Header)}
        for extent in self.extents:
            held = held_until[extent.number]
            self._lost(number, extent.number, position, min(max(position, held), extent.base))
            self._end(max(position, held), extent.base, Outcome.SKIPPED, "never given", extent.number)
            position, number = max(position, extent.end), extent.number

    def _lost(self, after: int, before: int | None, first: int, end: int) -> None:
        """Account for records `[first, end)` of files numbered between `after` and `before` that cannot be read."""
        between = [f for f in self.facts.files if f.number > after and (before is None or f.number < before)]
        newer = [f for f in between if _kind(f) == "unsupported"]
        if not newer:
            self._end(first, end, Outcome.UNREADABLE, "segment missing or corrupt", after + 1)
            return
        for file in newer:
            self.foreign.append(_foreign(file, first, end))
            first = end

    def _scanned_holes(self) -> None:
        for number, scan in self.scans.items():
            if scan.dirty_end > scan.valid_end.offset:
                cut = scan.dirty_end - scan.valid_end.offset
                reason = f"{cut} bytes behind byte {scan.valid_end.offset} are no whole frame"
                self.findings.append(Finding(kind="torn", reason=reason, number=number))
            for hole in scan.holes:
                self._end(hole.first, hole.end, Outcome.UNREADABLE, f"damaged at byte {hole.offset}", number)

    def _finish(self) -> int:
        """Account for what lies between the recovered end and the next sequence; return the latter."""
        position = max([FIRST, *(e.end for e in self.extents)])
        last = self.extents[-1].number if self.extents else 0
        trailing = [f for f in self.facts.files if f.number > last and _kind(f) not in {"", "torn"}]
        newer = [f for f in trailing if _kind(f) == "unsupported"]
        known = max(position, self.ledger.end, self.facts.given, self.checkpoint.next if self.checkpoint else FIRST)
        bounds = [known]
        for file in newer:
            base = max(position, file.header.base) if isinstance(file.header, BadHeader) else position
            bounds.append(base + file.size // LEAST_RECORD + 1)
        blind = self._blind(last)
        if blind:
            bounds.append(position + blind // LEAST_RECORD)
        end = max(bounds)
        if blind and not newer:
            self._end(position, end, Outcome.UNREADABLE, f"the disk cannot read {blind} bytes at its end", last)
        elif newer:
            self._lost(last, None, position, end)
        elif trailing or (self.checkpoint and self.checkpoint.active > last):
            self._end(position, end, Outcome.UNREADABLE, "newest segment missing or corrupt", last + 1)
        else:
            self._end(position, end, Outcome.SKIPPED, "not found after a crash", last)
        return end

    def _blind(self, number: int) -> int:
        scan = self.scans.get(number)
        return scan.blind if scan is not None else 0

    def _end(self, first: int, end: int, outcome: Outcome, reason: str, number: int) -> None:
        for piece in self.ledger.record(first, end, outcome):
            kind: Literal["unreadable", "skipped"] = "unreadable" if outcome is Outcome.UNREADABLE else "skipped"
            self.findings.append(Finding(kind=kind, reason=reason, number=number, first=piece[0], end=piece[1]))

    def _marked(self) -> list[Extent]:
        """Return the extents, those with unreadable records marked as damaged."""
        known = set(self.checkpoint.damaged) if self.checkpoint else set()
        unreadable = [ack[:2] for ack in self.facts.acks if ack[2] == Outcome.UNREADABLE]
        unreadable += [(f.first, f.end) for f in self.findings if f.kind == "unreadable"]
        known |= {extent.number for extent in self.extents if self._blind(extent.number)}
        known |= {file.number for file in self.facts.files if file.salvaged}
        return [
            msgspec.structs.replace(e, damaged=True)
            if e.number in known or any(first < e.end and e.base < end for first, end in unreadable)
            else e
            for e in self.extents
        ]


def _held_until(file: File, header: Header) -> int:
    """Return one past the last sequence that files before this one held."""
    if file.salvaged:
        return header.base  # the first intact frame: nothing before it is known to have been passed over
    return header.previous.sequence if header.previous.number else FIRST


def _kind(file: File) -> str:
    return file.header.kind if isinstance(file.header, BadHeader) else ""


def _foreign(file: File, first: int, end: int) -> Extent:
    return Extent(number=file.number, salt=0, base=first, end=end, offset=file.size, size=file.size, created_at_ns=0)
