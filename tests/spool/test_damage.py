"""Every prefix and every flipped bit of a small spool of several segments."""

import asyncio
from functools import partial
from pathlib import Path

import msgspec
import pytest

from forwarder.core.spool import walk
from forwarder.core.spool.frame import Span
from forwarder.core.spool.segment import COPY_SIZE, HEADER_SIZE, End
from forwarder.core.spool.walk import Found, Hole
from forwarder.spool.reader import Reader
from forwarder.spool.survey import survey
from tests.support import spools
from tests.support.fault_fs import FaultFs
from tests.support.spools import append, event

ROOT = Path("/root")
DIRECTORY = ROOT / "spool" / "td"


class Image(msgspec.Struct, frozen=True):
    """The files, the events by sequence, and for each segment the byte ranges of its frames with their sequences."""

    files: dict[str, bytes]
    events: dict[int, bytes]
    frames: dict[str, list[tuple[int, int, set[int]]]]
    segments: list[str]


async def make() -> Image:
    fs = FaultFs()
    number = 0
    for _ in range(3):
        async with spools.spool(ROOT, fs) as one:
            for count in (2, 1, 2):
                await append(one, [event(number + n) for n in range(count)])
                number += count
    files = {path: data for path, data in fs.files().items() if path.endswith(".segment")}
    everything, holes = read_all(files)
    assert holes == []
    return Image(files, everything, frames_of(files), sorted(files))


def frames_of(files: dict[str, bytes]) -> dict[str, list[tuple[int, int, set[int]]]]:
    found: dict[str, list[tuple[int, int, set[int]]]] = {}
    fs = disk(files)
    for extent in survey(fs, DIRECTORY).recovery.extents:
        path = str(DIRECTORY / f"{extent.number:012d}.segment")
        read = partial(fs.read, fs.open(Path(path)))
        rows: list[tuple[int, int, set[int]]] = []
        for item in walk.walk(read, extent.salt, End(0, HEADER_SIZE, extent.base), extent.offset, extent.end):
            assert isinstance(item, Found)
            frame = item.frame
            rows.append((item.offset, item.next_offset, set(range(frame.sequence, frame.sequence + frame.count))))
        found[path] = rows
    return found


@pytest.fixture(scope="module")
def image() -> Image:
    return asyncio.run(make())


def disk(files: dict[str, bytes]) -> FaultFs:
    fs = FaultFs()
    fs.make_directory(DIRECTORY)
    for path, data in files.items():
        fs.put(Path(path), data)
    return fs


def read_all(files: dict[str, bytes]) -> tuple[dict[int, bytes], list[tuple[int, int]]]:
    """Return the events that recovery and reading still find, and the ranges that they report."""
    fs = disk(files)
    recovery = survey(fs, DIRECTORY).recovery
    holes = [(f.first, f.end) for f in recovery.findings if f.kind in {"unreadable", "skipped"}]
    reader = Reader(fs, DIRECTORY)
    events: dict[int, bytes] = {}
    for extent in recovery.extents:
        at = extent.base
        while at < extent.end:
            chunk = reader.read(extent, at)
            for frame in chunk.frames:
                span = Span(frame, 0, frame.count)
                events |= {one.first: bytes(one.data) for one in span.singles() if one.first < extent.end}
                at = max(at, span.end)
            for hole in chunk.holes:
                assert isinstance(hole, Hole)
                holes.append((hole.first, hole.end))
                at = max(at, hole.end)
    assert events.keys() | {s for first, end in holes for s in range(first, end)} >= set(
        range(1, recovery.next_sequence)
    )
    return events, holes


def check(image: Image, files: dict[str, bytes], damaged: set[int], what: str) -> None:
    events, holes = read_all(files)
    assert all(image.events[sequence] == data for sequence, data in events.items()), f"altered: {what}"
    lost = image.events.keys() - events.keys()
    assert lost <= damaged, f"lost {lost - damaged}: {what}"
    reported = {s for first, end in holes for s in range(first, end)}
    last = max(image.events)
    assert lost - reported in (set(), {last, last - 1}), f"silently lost: {what}"


def flip(data: bytes, bit: int) -> bytes:
    flipped = bytearray(data)
    flipped[bit // 8] ^= 1 << bit % 8
    return bytes(flipped)


def test_the_image_has_several_segments_and_frames(image: Image) -> None:
    assert len(image.segments) == 3
    assert [len(rows) for rows in image.frames.values()] == [3, 3, 3]
    assert len(image.events) == 15


@pytest.mark.parametrize("place", [0, 1, 2])
def test_every_flipped_bit_of_the_frames_costs_at_most_its_frame(image: Image, place: int) -> None:
    path = image.segments[place]
    for start, stop, sequences in image.frames[path]:
        for bit in range(start * 8, stop * 8):
            files = {**image.files, path: flip(image.files[path], bit)}
            check(image, files, sequences, f"{path} bit {bit}")


@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_flipped_bit_in_a_header_costs_nothing(image: Image, place: int) -> None:
    path = image.segments[place]
    for byte in [*range(136), *range(504, COPY_SIZE + 136), *range(2 * COPY_SIZE - 4, HEADER_SIZE)]:
        files = {**image.files, path: flip(image.files[path], byte * 8 + byte % 8)}
        check(image, files, set(), f"{path} byte {byte}")


@pytest.mark.parametrize("place", [0, 1, 2])
def test_every_prefix_keeps_every_whole_frame(image: Image, place: int) -> None:
    path = image.segments[place]
    data = image.files[path]
    for size in [*range(0, HEADER_SIZE, 37), *range(HEADER_SIZE, len(data))]:
        # one copy of the header is enough
        cut = {s for _, stop, sequences in image.frames[path] if stop > size for s in sequences}
        events, _ = read_all({**image.files, path: data[:size]})
        assert all(image.events[sequence] == found for sequence, found in events.items())
        assert image.events.keys() - events.keys() == cut, f"{path} cut at {size}"


def test_every_prefix_filled_up_with_zeros_keeps_every_whole_frame(image: Image) -> None:
    path = image.segments[-1]
    data = image.files[path]
    for size in range(HEADER_SIZE, len(data)):
        cut = {s for _, stop, sequences in image.frames[path] if stop > size for s in sequences}
        events, _ = read_all({**image.files, path: data[:size] + bytes(5000)})
        assert image.events.keys() - events.keys() == cut, f"cut at {size}"


def test_stale_bytes_of_another_segment_never_verify(image: Image) -> None:
    first, last = image.segments[0], image.segments[-1]
    stale = image.files[first][HEADER_SIZE:]
    events, _ = read_all({**image.files, last: image.files[last] + stale})
    assert events == image.events
