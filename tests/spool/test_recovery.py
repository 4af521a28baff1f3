"""Recovery as a table: what was done to a spool's files, and what must come of it."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import msgspec
import pytest

from forwarder.core.seams import Outcome
from forwarder.core.spool import journal, segment
from forwarder.core.spool.segment import COPY_SIZE, HEADER_SIZE
from forwarder.errors import SpoolNotWritable
from forwarder.spool.fs import RealFs
from forwarder.spool.survey import survey
from tests.support import spools
from tests.support.spools import append, drain, event, lease_all

EACH = 4
"""Events a segment: sequences 1-4, 5-8, 9-12, numbered 0-11."""


async def make(root: Path, *, crashed: bool = False) -> None:
    """Three segments of four one-event frames; event 1 (sequence 2) is delivered.

    With `crashed`, the files are as they were before the last process could close its spool.
    """
    for start in range(0, 12, EACH):
        async with spools.spool(root) as one:
            for number in range(start, start + EACH):
                await append(one, [event(number)])
            if start == 0:
                spans = await lease_all(one)
                one.ack(spans[1:2], Outcome.DELIVERED)
            shutil.copytree(root / "spool", root / "killed", dirs_exist_ok=True)
    if crashed:
        shutil.rmtree(root / "spool")
        (root / "killed").rename(root / "spool")
        os.truncate(segments(root)[-1], frame_offset(segments(root)[-1], EACH - 1) + 80)
    else:
        shutil.rmtree(root / "killed")


def segments(root: Path) -> list[Path]:
    return sorted((root / "spool" / "td").glob("*.segment"))


def edit(path: Path, offset: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(data)


def frame_offset(path: Path, index: int) -> int:
    data = path.read_bytes()
    offset = HEADER_SIZE
    for _ in range(index):
        offset = data.index(b"\xf0FRM", offset + 4)
    return offset


def flip_payload(number: int, index: int) -> Callable[[Path], None]:
    def corrupt(root: Path) -> None:
        path = segments(root)[number]
        edit(path, frame_offset(path, index) + 60, b"\xff")

    return corrupt


def flip_head(number: int, index: int) -> Callable[[Path], None]:
    def corrupt(root: Path) -> None:
        path = segments(root)[number]
        edit(path, frame_offset(path, index) + 4, b"\xff")

    return corrupt


def truncate(number: int, index: int, behind: int) -> Callable[[Path], None]:
    def corrupt(root: Path) -> None:
        path = segments(root)[number]
        os.truncate(path, frame_offset(path, index) + behind)

    return corrupt


def headers(number: int, data: bytes, offset: int = 0) -> Callable[[Path], None]:
    def corrupt(root: Path) -> None:
        path = segments(root)[number]
        for copy in (0, COPY_SIZE):
            edit(path, copy + offset, data)

    return corrupt


def junk(number: int) -> Callable[[Path], None]:
    def corrupt(root: Path) -> None:
        path = segments(root)[number]
        path.write_bytes(b"junk" * (path.stat().st_size // 4))

    return corrupt


def delete(*numbers: int) -> Callable[[Path], None]:
    def corrupt(root: Path) -> None:
        paths = segments(root)
        for number in numbers:
            paths[number].unlink()

    return corrupt


def checkpoint(data: bytes | None) -> Callable[[Path], None]:
    def corrupt(root: Path) -> None:
        path = root / "spool" / "td" / "checkpoint"
        path.unlink() if data is None else path.write_bytes(data)

    return corrupt


def both(*steps: Callable[[Path], None]) -> Callable[[Path], None]:
    def corrupt(root: Path) -> None:
        for step in steps:
            step(root)

    return corrupt


def put(name: str, data: bytes) -> Callable[[Path], None]:
    def corrupt(root: Path) -> None:
        (root / "spool" / "td" / name).write_bytes(data)

    return corrupt


def zeros_behind(root: Path) -> None:
    with segments(root)[-1].open("ab") as file:
        file.write(bytes(100_000))


def recycled(root: Path) -> None:
    """The newest segment's space held frames of an older file."""
    stale = segments(root)[0].read_bytes()[HEADER_SIZE:]
    with segments(root)[-1].open("ab") as file:
        file.write(stale)


def ack_in_journal(first: int, end: int, *, torn: bool = False) -> Callable[[Path], None]:
    def corrupt(root: Path) -> None:
        path = root / "spool" / "td" / "acks.000000000900"
        record = journal.encode(first, end, Outcome.DELIVERED, 900)
        path.write_bytes(journal.encode_header(900) + record + (record[:10] if torn else b""))

    return corrupt


class Case(msgspec.Struct, frozen=True):
    """`lost` are the events that cannot come back, `unreadable` the ranges of sequences that must be reported."""

    name: str
    corrupt: Callable[[Path], None]
    lost: set[int] = set()
    unreadable: list[tuple[int, int]] = []
    quarantined: list[str] = []
    again: set[int] = set()
    """Delivered events that are delivered once more."""
    crashed: bool = False
    next_sequence: int = 13


SECOND = "000000000002.segment"
THIRD = "000000000003.segment"

CASES = [
    Case("nothing happened", lambda _root: None),
    Case("a crash with nothing torn", lambda _root: None, crashed=True),
    Case("torn tail", truncate(2, 3, 30), {11}, crashed=True, next_sequence=12),
    Case("torn tail in the payload", truncate(2, 3, 50), {11}, crashed=True, next_sequence=12),
    Case("zero-filled tail", both(truncate(2, 3, 50), zeros_behind), {11}, crashed=True, next_sequence=12),
    Case("corrupt last frame after a crash", flip_payload(2, 3), {11}, [(12, 13)], [THIRD], crashed=True),
    Case("tail cut after a clean end", truncate(2, 3, 30), {11}, [(12, 13)], [THIRD]),
    Case("preallocated tail of a crashed process", zeros_behind),
    Case("stale bytes of a recycled file", recycled),
    Case("corrupt payload in the middle of the newest", flip_payload(2, 1), {9}, [(10, 11)], [THIRD]),
    Case("corrupt head in the middle of the newest", flip_head(2, 1), {9}, [(10, 11)], [THIRD]),
    Case("corrupt payload in a sealed segment", flip_payload(1, 2), {6}, [(7, 8)], [SECOND]),
    Case("corrupt head in a sealed segment", flip_head(1, 2), {6}, [(7, 8)], [SECOND]),
    Case("corrupt last frame of a sealed segment", flip_head(1, 3), {7}, [(8, 9)], [SECOND]),
    Case("truncated sealed segment", truncate(1, 1, 5), {5, 6, 7}, [(6, 9)], [SECOND]),
    Case("corrupt header of a sealed segment", headers(1, b"junk", 14), quarantined=[SECOND]),
    Case("corrupt header of the newest segment", headers(2, b"junk", 14), quarantined=[THIRD]),
    Case("blank header of a sealed segment", headers(1, bytes(COPY_SIZE)), quarantined=[SECOND]),
    Case(
        "corrupt header and first frame of a sealed segment",
        both(flip_head(1, 0), headers(1, b"junk", 14)),
        {4},
        [(5, 6)],
        [SECOND],
    ),
    Case(
        "corrupt header and first frame of the newest segment",
        both(flip_payload(2, 0), headers(2, b"junk", 14)),
        {8},
        [(9, 10)],
        [THIRD],
    ),
    Case("a sealed segment overwritten from end to end", junk(1), {4, 5, 6, 7}, [(5, 9)], [SECOND]),
    Case("the newest segment overwritten from end to end", junk(2), {8, 9, 10, 11}, [(9, 13)], [THIRD]),
    Case("missing segment in the middle", delete(1), {4, 5, 6, 7}, [(5, 9)]),
    Case("missing first segment", delete(0), {0, 2, 3}, [(1, 2), (3, 5)]),
    Case("missing newest segment", delete(2), {8, 9, 10, 11}, [(9, 13)]),
    Case("all segments missing", delete(0, 1, 2), set(range(12)), [(1, 2), (3, 13)]),
    Case("missing checkpoint", checkpoint(None), again={1}),
    Case("corrupt checkpoint", checkpoint(b"forwarder-checkpoint 1 00000000\n{}\n"), again={1}),
    Case("empty checkpoint", checkpoint(b""), again={1}),
    Case("newer checkpoint", checkpoint(b"forwarder-checkpoint 9 00000000\n{}\n"), again={1}),
    Case("ack journal", ack_in_journal(5, 7), {4, 5}),
    Case("torn ack journal", ack_in_journal(5, 7, torn=True), {4, 5}),
    Case("foreign files", both(put("notes.txt", b"hello"), put("12.segment", b"x"), put("checkpoint.new", b"y"))),
    Case("a segment that was never finished", put("000000000004.segment", b"FWDSEG")),
    Case("an empty segment", put("000000000004.segment", b"")),
    Case("a blank segment", put("000000000004.segment", bytes(300_000))),
    Case("a file that is no segment", put("000000000004.segment", b"x" * 5000), quarantined=["000000000004.segment"]),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
async def test_recovery(case: Case, tmp_path: Path) -> None:
    await make(tmp_path, crashed=case.crashed)
    case.corrupt(tmp_path)
    if case.name.endswith("checkpoint"):
        for path in (tmp_path / "spool" / "td").glob("acks.*"):
            path.unlink()

    async with spools.spool(tmp_path) as one:
        delivered_before = {1}
        left = await drain(one)
        assert left == sorted((set(range(12)) - case.lost - delivered_before) | (case.again - case.lost))
        stats = one.stats()
        assert list(stats.unreadable) == case.unreadable
        assert stats.imbalance == 0
        assert stats.next_sequence == case.next_sequence
        await append(one, [event(99)])
        (span,) = await lease_all(one)
        assert span.first >= stats.next_sequence
        one.ack([span], Outcome.DELIVERED)
        await one.checkpoint()
    quarantine = tmp_path / "quarantine" / "td"
    kept = sorted(p.name for p in quarantine.iterdir() if p.suffix == ".segment") if quarantine.exists() else []
    assert kept == case.quarantined

    async with spools.spool(tmp_path) as two:
        assert await drain(two) == []
        assert two.stats().imbalance == 0
        assert two.stats().queued_events == 0


def contents(root: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}


async def test_a_survey_changes_nothing(tmp_path: Path) -> None:
    await make(tmp_path)
    both(truncate(2, 3, 30), flip_head(1, 2), zeros_behind, put("000000000009.segment", b"x" * 5000))(tmp_path)
    before = contents(tmp_path)
    found = survey(RealFs(), tmp_path / "spool" / "td")
    assert found.recovery.next_sequence == 13
    assert contents(tmp_path) == before


async def test_the_frames_of_a_torn_tail_do_not_come_back_later(tmp_path: Path) -> None:
    await make(tmp_path, crashed=True)
    path = segments(tmp_path)[2]
    whole = path.read_bytes()
    truncate(2, 3, 30)(tmp_path)
    async with spools.spool(tmp_path) as one:
        await append(one, [event(50)])
    path.write_bytes(whole)
    async with spools.spool(tmp_path) as two:
        assert await drain(two) == [0, 2, 3, 4, 5, 6, 7, 8, 9, 10, 50]


async def test_a_newer_segment_is_left_untouched_and_read_after_the_upgrade(tmp_path: Path) -> None:
    await make(tmp_path)
    newest = segments(tmp_path)[2]
    old = newest.read_bytes()
    headers(2, b"\x02\x00", 8)(tmp_path)
    newer = newest.read_bytes()
    async with spools.spool(tmp_path) as one:
        assert await drain(one) == [0, 2, 3, 4, 5, 6, 7]
        assert one.stats().imbalance == 0
        assert one.stats().queued_events > 0
        assert any("version 2" in note for note in one.notes())
        await append(one, [event(50)])
        assert await drain(one) == [50]
        await one.checkpoint()
    assert newest.read_bytes() == newer
    newest.write_bytes(old)
    async with spools.spool(tmp_path) as two:
        assert await drain(two) == [8, 9, 10, 11]
        assert two.stats().imbalance == 0
        assert two.stats().queued_events == 0


async def test_a_newer_segment_in_the_middle_is_passed_over(tmp_path: Path) -> None:
    await make(tmp_path)
    headers(1, b"\x02\x00", 8)(tmp_path)
    async with spools.spool(tmp_path) as one:
        assert await drain(one) == [0, 2, 3, 8, 9, 10, 11]
        assert (one.stats().queued_events, one.stats().imbalance) == (4, 0)


@pytest.mark.parametrize("size", [None, 0, 300, HEADER_SIZE, HEADER_SIZE + 50])
async def test_a_trimmed_segment_that_a_power_cut_brings_back_whole_or_in_part_delivers_nothing(
    tmp_path: Path, size: int | None
) -> None:
    await make(tmp_path)
    first = segments(tmp_path)[0]
    whole = first.read_bytes()
    async with spools.spool(tmp_path) as one:
        spans = await one.lease(1, spools.NOTHING)
        while spans[-1].end < EACH + 1:
            spans += await one.lease(1, spools.NOTHING)
        one.ack([span for span in spans if span.end <= EACH + 1], Outcome.DELIVERED)
        await one.checkpoint()
        assert not first.exists()
        shutil.copytree(tmp_path / "spool", tmp_path / "cut" / "spool")
    back = tmp_path / "cut" / "spool" / "td" / first.name
    back.write_bytes(whole[:size])
    async with spools.spool(tmp_path / "cut") as two:
        assert await drain(two) == [4, 5, 6, 7, 8, 9, 10, 11]
        assert (two.stats().imbalance, list(two.stats().unreadable)) == (0, [])
        await two.checkpoint()
        assert not back.exists()


async def test_an_older_checkpoint_delivers_again_and_loses_nothing(tmp_path: Path) -> None:
    async with spools.spool(tmp_path) as one:
        await append(one, [event(n) for n in range(4)])
    path = tmp_path / "spool" / "td" / "checkpoint"
    older = path.read_bytes()
    async with spools.spool(tmp_path) as two:
        assert await drain(two) == [0, 1, 2, 3]
        await append(two, [event(4)])
    path.write_bytes(older)
    for journal_file in (tmp_path / "spool" / "td").glob("acks.*"):
        journal_file.unlink()
    async with spools.spool(tmp_path) as three:
        assert set(await drain(three)) >= {4}
        assert three.stats().imbalance == 0


async def test_a_checkpoint_ahead_of_the_log_never_gives_a_sequence_twice(tmp_path: Path) -> None:
    """A power cut at `written` kept the checkpoint and lost the records."""
    await make(tmp_path)
    os.truncate(segments(tmp_path)[2], frame_offset(segments(tmp_path)[2], 1))
    async with spools.spool(tmp_path) as one:
        stats = one.stats()
        assert stats.next_sequence == 13
        assert stats.imbalance == 0
        await drain(one)
        await append(one, [event(50)])
        (span,) = await lease_all(one)
        assert span.first == 13


async def test_acks_beyond_the_recovered_log_do_not_swallow_new_events(tmp_path: Path) -> None:
    async with spools.spool(tmp_path) as one:
        await append(one, [event(n) for n in range(4)])
    directory = tmp_path / "spool" / "td"
    ack_in_journal(1, 501)(tmp_path)
    (directory / "checkpoint").unlink()
    async with spools.spool(tmp_path) as two:
        assert two.stats().next_sequence == 501
        await append(two, [event(7)])
        assert await drain(two) == [7]
        assert two.stats().imbalance == 0


async def test_no_sequence_is_given_twice_though_newest_header_and_checkpoints_are_lost(
    tmp_path: Path,
) -> None:
    await make(tmp_path)
    headers(2, b"junk", 14)(tmp_path)
    for path in (tmp_path / "spool" / "td").iterdir():
        if path.suffix != ".segment":
            path.unlink()
    async with spools.spool(tmp_path) as one:
        await append(one, [event(50)])
        spans = await lease_all(one)
        assert (spans[-1].first, spools.numbers(spans)[-1]) == (13, 50)
        assert one.stats().imbalance == 0


async def test_sequences_that_dead_letters_have_are_never_given_again(tmp_path: Path) -> None:
    async with spools.spool(tmp_path) as one:
        await append(one, [event(1)])
    shutil.rmtree(tmp_path / "spool")
    two = spools.spool(tmp_path)
    await two.open(given=8)
    await append(two, [event(2)])
    (span,) = await lease_all(two)
    assert span.first == 8
    assert (two.stats().ledger["skipped"], two.stats().imbalance) == (7, 0)
    await two.close(two._clock.monotonic() + 5)


async def test_a_checkpoint_that_is_lost_with_everything_else_starts_afresh(tmp_path: Path) -> None:
    await make(tmp_path)
    shutil.rmtree(tmp_path / "spool")
    async with spools.spool(tmp_path) as one:
        assert one.stats().next_sequence == 1
        await append(one, [event(1)])
        assert await drain(one) == [1]


async def test_totals_survive_the_loss_of_the_checkpoint_in_the_newest_header(tmp_path: Path) -> None:
    async with spools.spool(tmp_path) as one:
        await append(one, [event(n) for n in range(4)])
        await drain(one)
    async with spools.spool(tmp_path) as two:
        await append(two, [event(4)])
    (tmp_path / "spool" / "td" / "checkpoint").unlink()
    async with spools.spool(tmp_path) as three:
        assert three.stats().ledger["delivered"] == 4
        assert await drain(three) == [4]


async def test_a_directory_that_cannot_be_made_is_said_to_be_not_writable(tmp_path: Path) -> None:
    (tmp_path / "spool").write_bytes(b"a file")
    with pytest.raises(SpoolNotWritable, match="spool"):
        await spools.spool(tmp_path).open()


async def test_a_segment_under_another_number_is_not_believed(tmp_path: Path) -> None:
    await make(tmp_path)
    segments(tmp_path)[2].rename(segments(tmp_path)[2].with_name("000000000007.segment"))
    async with spools.spool(tmp_path) as one:
        assert await drain(one) == [0, 2, 3, 4, 5, 6, 7]
        assert list(one.stats().unreadable) == [(9, 13)]


async def test_sealed_segments_are_recovered_by_header_only(tmp_path: Path) -> None:
    await make(tmp_path)
    (tmp_path / "spool" / "td" / "checkpoint").unlink()
    read: set[str] = set()

    class Counting(RealFs):
        paths: ClassVar[dict[int, str]] = {}

        def open(self, path: Path) -> int:
            descriptor = super().open(path)
            self.paths[descriptor] = path.name
            return descriptor

        def read(self, descriptor: int, offset: int, size: int) -> bytes:
            if offset >= segment.HEADER_SIZE:
                read.add(self.paths[descriptor])
            return super().read(descriptor, offset, size)

    survey(Counting(), tmp_path / "spool" / "td")
    assert read == {THIRD}
