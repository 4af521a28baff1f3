"""Recovery alone: facts in, decisions out; no file anywhere. tests/spool/test_recovery.py has the same over files."""

import pytest

from forwarder.core.seams import Outcome
from forwarder.core.spool import recovery
from forwarder.core.spool.checkpoint import Checkpoint
from forwarder.core.spool.ledger import Balance
from forwarder.core.spool.recovery import Facts, File, Recovery
from forwarder.core.spool.segment import HEADER_SIZE, BadHeader, End, Header
from forwarder.core.spool.walk import Hole, Scan


def file(number: int, base: int, previous: End | None = None, *, size: int = 5000) -> File:
    header = Header(salt=1, number=number, base=base, created_at_ns=0, previous=previous or End())
    return File(number, size, header)


def scan(number: int, end: int, *, offset: int = 5000, blind: int = 0, holes: tuple[Hole, ...] = ()) -> Scan:
    return Scan(End(number, offset, end), list(holes), offset, blind)


def checkpoint(next_sequence: int, *, active: int, watermark: int = 1) -> Checkpoint:
    totals = (watermark - 1, 0, 0, 0, 0, 0, 0)
    return Checkpoint(
        next=next_sequence,
        balance=Balance(watermark, totals),
        intervals=[],
        journal=1,
        active=active,
        segments=[],
        damaged=[],
        remembered={},
    )


def balanced(found: Recovery) -> bool:
    queued = sum(found.ledger.open(e.base, e.end) for e in (*found.extents, *found.foreign))
    return found.next_sequence - 1 == queued + sum(found.ledger.totals().values())


TWO = [file(1, 1), file(2, 11, End(1, 3000, 11))]


def test_only_the_newest_segment_is_read_frame_by_frame() -> None:
    assert recovery.to_scan(Facts(files=TWO)) == [2]


def test_an_empty_directory_starts_at_1() -> None:
    found = recovery.recover(Facts(), {})
    assert (found.next_sequence, found.next_number, found.findings) == (1, 1, [])


def test_two_whole_segments_go_on_behind_the_second() -> None:
    found = recovery.recover(Facts(files=TWO), {2: scan(2, 21)})
    assert (found.next_sequence, found.next_number, found.previous) == (21, 3, End(2, 5000, 21))
    assert found.findings == []
    assert balanced(found)


def test_a_missing_first_segment_is_unreadable_unless_its_records_had_ended() -> None:
    files = [TWO[1]]
    found = recovery.recover(Facts(files=files), {2: scan(2, 21)})
    assert [(f.kind, f.first, f.end) for f in found.findings] == [("unreadable", 1, 11)]
    trimmed = recovery.recover(Facts(files=files, checkpoint=checkpoint(21, active=2, watermark=11)), {2: scan(2, 21)})
    assert trimmed.findings == []
    assert balanced(found)
    assert balanced(trimmed)


def test_a_missing_newest_segment_is_unreadable_up_to_the_checkpoint_s_next() -> None:
    found = recovery.recover(Facts(files=[file(1, 1)], checkpoint=checkpoint(21, active=2)), {1: scan(1, 11)})
    assert [(f.kind, f.first, f.end) for f in found.findings] == [("unreadable", 11, 21)]
    assert found.next_sequence == 21
    assert found.next_number == 3
    assert balanced(found)


def test_a_tail_that_the_disk_cannot_read_is_unreadable_and_its_numbers_are_never_given_again() -> None:
    found = recovery.recover(Facts(files=TWO), {2: scan(2, 15, offset=3000, blind=4096)})
    [finding] = found.findings
    assert (finding.kind, finding.first, finding.end) == ("unreadable", 15, 15 + 4096 // 6)
    assert found.next_sequence == finding.end
    assert found.extents[-1].damaged, "kept in quarantine when drained"
    assert balanced(found)


def test_acks_beyond_the_log_are_never_given_again() -> None:
    facts = Facts(files=TWO, acks=[(11, 31, Outcome.DELIVERED)])
    found = recovery.recover(facts, {2: scan(2, 21)})
    assert found.next_sequence == 31
    assert found.ledger.totals()["delivered"] == 20
    assert balanced(found)


def test_a_newer_file_is_left_alone_and_its_numbers_are_kept_free() -> None:
    newer = File(3, 6000, BadHeader("unsupported", "format version 2", 21))
    found = recovery.recover(Facts(files=[*TWO, newer]), {2: scan(2, 21)})
    assert found.next_sequence == 21 + 6000 // 6 + 1
    assert [extent.number for extent in found.foreign] == [3]
    assert found.quarantine == []
    assert balanced(found)


@pytest.mark.parametrize("kind", ["torn", "corrupt"])
def test_a_bad_header_is_unfinished_or_quarantined(kind: str) -> None:
    bad = File(3, HEADER_SIZE, BadHeader(kind, "test"))  # type: ignore[arg-type]
    found = recovery.recover(Facts(files=[*TWO, bad]), {2: scan(2, 21)})
    assert (found.unfinished, found.quarantine) == (([3], []) if kind == "torn" else ([], [3]))
    assert found.next_number == 4
    assert balanced(found)


def test_a_hole_is_reported_exactly_and_its_file_marked() -> None:
    found = recovery.recover(Facts(files=TWO), {2: scan(2, 21, holes=(Hole(13, 15, 1500, 1700),))})
    assert [(f.kind, f.first, f.end) for f in found.findings] == [("unreadable", 13, 15)]
    assert [extent.damaged for extent in found.extents] == [False, True]
    assert balanced(found)


def test_what_is_wrong_with_a_journal_is_told() -> None:
    found = recovery.recover(Facts(files=TWO, journal_troubles=["acks.000000000001: header"]), {2: scan(2, 21)})
    assert [(f.kind, f.reason) for f in found.findings] == [("journal", "acks.000000000001: header")]
