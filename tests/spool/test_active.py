"""The active segment: zeros are written ahead of small commits, and only of those."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from forwarder.core.spool.segment import HEADER_SIZE, End, Header
from forwarder.spool.active import LARGE, STEP, ActiveSegment, path_of
from forwarder.spool.fs import RealFs

SMALL = b"s" * 400
LARGER = b"l" * LARGE


@pytest.fixture
def active(tmp_path: Path) -> Iterator[ActiveSegment]:
    header = Header(salt=7, number=1, base=1, created_at_ns=0, previous=End())
    segment = ActiveSegment.open(RealFs(), tmp_path, header, max_size=64 * 1024 * 1024)
    yield segment
    segment.seal()


def test_before_and_behind_small_commits_zeros_are_written_ahead(active: ActiveSegment, tmp_path: Path) -> None:
    assert active.write_ahead()
    active.append([SMALL], 2, sync=True)
    assert not active.write_ahead()  # half a step is enough
    while active.size - active.offset >= STEP // 2:
        active.append([SMALL], 3, sync=True)
    assert active.write_ahead()
    data = path_of(tmp_path, 1).read_bytes()
    assert len(data) == active.size == HEADER_SIZE + 2 * STEP
    assert not any(data[active.offset :])


def test_behind_a_large_commit_nothing_is_written_ahead_since_the_next_one_extends_the_file_itself(
    active: ActiveSegment, tmp_path: Path
) -> None:
    active.append([SMALL, LARGER], 2, sync=True)
    assert not active.write_ahead()
    assert path_of(tmp_path, 1).stat().st_size == active.size == active.offset


def test_a_small_commit_behind_large_ones_brings_zeros_along_and_is_durable_without_holes(
    active: ActiveSegment, tmp_path: Path
) -> None:
    active.append([LARGER], 2, sync=True)
    active.append([SMALL], 3, sync=True)
    assert active.size == active.offset - len(SMALL) + STEP
    assert not active.write_ahead()
    assert path_of(tmp_path, 1).read_bytes()[HEADER_SIZE : active.offset] == LARGER + SMALL


def test_zeros_already_there_are_used_up_by_a_large_commit(active: ActiveSegment) -> None:
    active.write_ahead()
    active.append([LARGER], 2, sync=True)
    assert active.size == HEADER_SIZE + STEP
    assert active.extent.offset == HEADER_SIZE + LARGE
