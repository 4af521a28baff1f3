"""The audit: the ledger of one destination, recomputed from its files alone, and what does not add up."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from forwarder.core.spool.ledger import FIRST
from forwarder.core.spool.recovery import Finding
from forwarder.spool import dead_letter_line
from forwarder.spool.dead_letter_file import Totals
from forwarder.spool.fs import Fs
from forwarder.spool.survey import Survey, steady_survey

HARMLESS = frozenset({"torn", "skipped"})
"""What a crash leaves by rights: writes that were never acknowledged, numbers that were never given."""


class LetterCounts(msgspec.Struct, frozen=True):
    """The dead letters as their files tell."""

    present: int = 0
    replayed: int = 0
    purged: int = 0
    unreadable_lines: int = 0
    waiting: int = 0
    """Present, and not yet acked as died: written just before a crash, or just now."""


class Audit(msgspec.Struct, frozen=True, kw_only=True):
    """Both equations of one destination, and every discrepancy in words."""

    destination: str
    next_sequence: int
    queued: int
    ledger: Mapping[str, int]
    imbalance: int
    """next − first − queued − Σ ledger."""
    dead_letters: LetterCounts
    dead_letter_imbalance: int
    """died − (present − waiting) − replayed − purged."""
    discrepancies: Sequence[str]
    notes: Sequence[str]


def audit(fs: Fs, root: Path, destination: str) -> Audit:
    """Read the files of one destination; changes nothing and is safe beside a running daemon."""
    directory = root / "spool" / destination
    found = steady_survey(fs, directory)
    recovery = found.recovery
    totals = recovery.ledger.totals()
    queued = sum(recovery.ledger.open(e.base, e.end) for e in (*recovery.extents, *recovery.foreign))
    imbalance = recovery.next_sequence - FIRST - queued - sum(totals.values())
    letters = count_letters(root / "dead" / destination, found)
    missing = totals["died"] - (letters.present - letters.waiting) - letters.replayed - letters.purged
    discrepancies = [words(finding) for finding in recovery.findings if finding.kind not in HARMLESS]
    if imbalance:
        discrepancies.append(f"{imbalance} sequences are neither queued nor ended")
    if missing > 0:
        discrepancies.append(f"{missing} dead letters are missing: a file in {root / 'dead' / destination} is gone")
    elif missing < 0:
        why = "a file was put back, or the spool was deleted"
        discrepancies.append(f"{-missing} dead letters more than events that died: {why}")
    if letters.unreadable_lines:
        discrepancies.append(f"{letters.unreadable_lines} lines of dead letters cannot be read")
    return Audit(
        destination=destination,
        next_sequence=recovery.next_sequence,
        queued=queued,
        ledger=totals,
        imbalance=imbalance,
        dead_letters=letters,
        dead_letter_imbalance=missing,
        discrepancies=discrepancies,
        notes=[words(finding) for finding in recovery.findings if finding.kind in HARMLESS],
    )


def words(finding: Finding) -> str:
    """Return a finding as a line: what, which file, which sequences."""
    where = f"segment {finding.number:012d}: " if finding.number else ""
    which = f" (sequences {finding.first} to {finding.end - 1})" if finding.end else ""
    return f"{where}{finding.kind}: {finding.reason}{which}"


def count_letters(directory: Path, found: Survey) -> LetterCounts:
    """Count the letters in the files, each sequence once."""
    seen: set[int] = set()
    unreadable = 0
    for path in dead_letter_line.paths(directory):
        try:
            lines = path.open("rb")
        except FileNotFoundError:
            continue
        with lines:
            for line in lines:
                head = dead_letter_line.head(line)
                if head is None:
                    unreadable += 1
                else:
                    seen.add(head.sequence)
    totals = _totals(directory / "totals.json")
    ledger, end = found.recovery.ledger, found.recovery.next_sequence
    waiting = sum(1 for sequence in seen if sequence < end and not ledger.ended(sequence, sequence + 1))
    return LetterCounts(len(seen), totals.replayed, totals.purged, unreadable, waiting)


def _totals(path: Path) -> Totals:
    try:
        totals = msgspec.json.decode(path.read_bytes(), type=Totals)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return Totals()
    pending = totals.pending
    if pending is None:
        return totals
    changed = path.with_name(pending.file)
    left = 0
    if changed.exists():
        with changed.open("rb") as lines:
            left = sum(1 for line in lines if dead_letter_line.head(line))
    return totals.counted(pending.gone if left == pending.left else 0, pending.how)
