"""Ending records: each way out goes through here, so that ledger, journal, counters and waiters agree. Loop only."""

from collections.abc import Mapping, Sequence

import structlog

from forwarder.core.seams import Outcome
from forwarder.core.spool.frame import Span
from forwarder.core.spool.journal import Ack
from forwarder.core.spool.ledger import Ledger
from forwarder.core.spool.recovery import Finding
from forwarder.core.spool.segment import Extent
from forwarder.metrics import Cell
from forwarder.spool.checkpointing import Checkpointing
from forwarder.spool.leasing import Leases
from forwarder.spool.segments import Segments
from forwarder.spool.waiting import DeliveryWaiters

log = structlog.get_logger()

COUNTED = frozenset({Outcome.EXPIRED, Outcome.EVICTED, Outcome.UNREADABLE, Outcome.ERASED})
"""Outcomes that are counted as dropped."""
_SHOWN = 1000
"""Ranges and notes kept for `status`; the newest ones."""


class Endings:
    """Ends records by lease or by range; remembers what could not be read."""

    def __init__(
        self,
        *,
        destination: str,
        ledger: Ledger,
        segments: Segments,
        leases: Leases,
        delivery: DeliveryWaiters,
        checkpointing: Checkpointing,
        dropped: Mapping[Outcome, Cell],
        findings: Sequence[Finding],
    ) -> None:
        self._destination = destination
        self._ledger = ledger
        self._segments = segments
        self._leases = leases
        self._delivery = delivery
        self._checkpointing = checkpointing
        self._dropped = dropped
        self._unreadable = [(f.first, f.end) for f in findings if f.kind == "unreadable"]
        self._notes = [self._note(finding.kind, finding.reason, finding.number) for finding in findings]

    def ack(self, spans: Sequence[Span], outcome: Outcome) -> None:
        """End leased records; neighbours make one journal record."""
        acks: list[Ack] = []
        first = end = 0
        for span in spans:
            if span.first != end:
                if end:
                    acks += self._record(first, end, outcome)
                first = span.first
            end = span.end
        acks += self._record(first, end, outcome)
        if acks:
            self._checkpointing.ended(acks)

    def end(self, first: int, end: int, outcome: Outcome) -> int:
        """End a range of records; return how many had not ended before."""
        acks = self._record(first, end, outcome)
        if acks:
            self._checkpointing.ended(acks)
        return sum(ack[1] - ack[0] for ack in acks)

    def _record(self, first: int, end: int, outcome: Outcome) -> list[Ack]:
        """Let `[first, end)` end; return what is new, for the journal."""
        if first >= end:
            return []
        self._leases.ended(first, end)
        fresh = self._ledger.record(first, end, outcome)
        for piece in fresh:
            self._delivery.ended(*piece, outcome)
            if outcome in COUNTED:
                self._dropped[outcome].value += piece[1] - piece[0]
        return [(*piece, int(outcome)) for piece in fresh]

    def hole(self, extent: Extent, first: int, end: int) -> None:
        """End records that reading found damaged; their file is kept in quarantine later."""
        self._segments.damage(extent.number)
        if not self.end(first, end, Outcome.UNREADABLE):
            return
        self._unreadable = [*self._unreadable, (first, end)][-_SHOWN:]
        self._notes.append(self._note("unreadable", f"sequences {first} to {end - 1}", extent.number))
        log.error(
            "spool_unreadable",
            destination=self._destination,
            segment=extent.number,
            first_sequence=first,
            end_sequence=end,
        )

    @property
    def unreadable(self) -> tuple[tuple[int, int], ...]:
        """Return the ranges that could not be read since this start."""
        return tuple(self._unreadable[-_SHOWN:])

    @property
    def notes(self) -> list[str]:
        """Return what was found damaged, unsupported or skipped, in words."""
        return self._notes[-_SHOWN:]

    def _note(self, kind: str, reason: str, number: int) -> str:
        return f"{self._destination}: {kind}: {reason}" + (f" (segment {number})" if number else "")
