"""Reading in bulk finds what reading one by one finds, up to the first frame that is not plain."""

import struct
from array import array
from collections.abc import Sequence
from zlib import crc32

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forwarder.core.spool import frame as frames
from forwarder.core.spool import runs, walk
from forwarder.core.spool.frame import HEAD_SIZE, Frame, Span
from forwarder.core.spool.segment import End
from forwarder.core.spool.walk import Found

SALT = 0x1234ABCD
FAR = 1 << 62


def numbered(
    sequence: int, *, key: bytes = b"k", at: float = 1.0, traits: bool = False, count: int = 1, pad: int = 0
) -> Frame:
    numbers = range(sequence, sequence + count)
    events = [b'{"n":%d%s}' % (each, b" " * pad) for each in numbers]
    return Frame(
        sequence=sequence,
        accepted_at=at,
        batch_key=key,
        lengths=array("I", map(len, events)),
        payload=b",".join(events),
        traits=frames.encode_traits([(each % 2, (each,)) for each in numbers]) if traits else b"",
    )


def stored(made: Sequence[Frame]) -> bytes:
    return b"".join(bytes(part) for frame in made for part in frames.encode(frame, SALT))


def read(block: bytes, sequence: int = 1, limit: int = FAR) -> runs.Bulk:
    return runs.decode(block, SALT, sequence, limit)


def signed(mark: bytes, count: int, sequence: int) -> bytes:
    """Return a frame of empty events without a key, whose checksums fit."""
    body = bytes(4 * count)
    head = struct.pack("<4sIQQIHHI", mark, count, sequence, 1_000_000_000, 0, 0, 0, crc32(body, SALT))
    return head + crc32(head, SALT).to_bytes(4, "little") + body


Record = tuple[int, bytes, bytes, tuple[int, ...], int]


def records(made: Sequence[Frame]) -> list[Record]:
    singles = [one for frame in made for one in Span(frame, 0, frame.count).singles()]
    return [(one.first, bytes(one.data), one.frame.batch_key, one.order(), one.aged()) for one in singles]


def test_neighbouring_frames_become_one_as_old_as_the_newest() -> None:
    made = [numbered(10 + each, traits=True, at=1.0 + each / 100) for each in range(3)]
    block = stored(made)
    bulk = read(block, 10)
    (joined,) = bulk.frames
    assert (joined.sequence, joined.count, joined.accepted_at) == (10, 3, 1.02)
    assert [joined.accepted(sequence) for sequence in (10, 11, 12)] == [1.0, 1.01, 1.02]
    assert (bulk.size, bulk.end) == (len(block), 13)
    assert records(bulk.frames) == records(made)


def test_frames_of_one_and_of_several_become_one_with_every_length_and_time() -> None:
    made = [numbered(1), numbered(2, count=3, at=1.01), numbered(5, at=1.02), numbered(6, count=2, at=1.03)]
    (joined,) = read(stored(made)).frames
    assert records([joined]) == records(made)
    assert [joined.accepted(sequence) for sequence in range(1, 8)] == [1.0, 1.01, 1.01, 1.01, 1.02, 1.03, 1.03]


@pytest.mark.parametrize(
    "second",
    [
        numbered(11, key=b"x"),
        numbered(11, key=b"other"),
        numbered(11, traits=True),
        numbered(11, at=1.0 + 2 * runs.JOIN_NS / 1e9),
        numbered(11, at=1.0 - 2 * runs.JOIN_NS / 1e9),
        numbered(11, count=1000),
    ],
    ids=["another key", "a longer key", "traits", "later", "earlier", "large"],
)
def test_frames_that_differ_stay_apart_and_none_is_left_out(second: Frame) -> None:
    made = [numbered(10), second, numbered(second.sequence + second.count, key=b"end")]
    bulk = read(stored(made), 10)
    assert [frame.sequence for frame in bulk.frames] == [frame.sequence for frame in made]
    assert records(bulk.frames) == records(made)


def test_a_large_frame_stays_alone_whatever_follows() -> None:
    made = [numbered(10, count=1000), numbered(1010, count=1000), numbered(2010)]
    bulk = read(stored(made), 10)
    assert [frame.sequence for frame in bulk.frames] == [10, 1010, 2010]
    assert records(bulk.frames) == records(made)


@pytest.mark.parametrize(
    "third",
    [
        stored([numbered(4)]),
        stored([numbered(2)]),
        stored([frames.erase(numbered(3), [0])]),
        stored([numbered(3)])[:-1],
        stored([numbered(3)])[:-1] + b"!",
        stored([numbered(3)])[: HEAD_SIZE - 1],
        signed(frames.MARK, 0, 3),
        signed(b"\xf0FRN", 1, 3),
        bytes(100),
        b"",
    ],
    ids=[
        "a gap",
        "an old frame",
        "a filler",
        "half a body",
        "an altered body",
        "half a head",
        "no records",
        "another mark",
        "zeros",
        "nothing",
    ],
)
def test_it_stops_where_a_frame_is_not_plain(third: bytes) -> None:
    made = [numbered(1), numbered(2)]
    plain = stored(made)
    bulk = read(plain + third)
    assert records(bulk.frames) == records(made)
    assert (bulk.size, bulk.end) == (len(plain), 3)


def test_a_frame_beyond_the_known_end_is_not_read() -> None:
    made = [numbered(1), numbered(2, count=2)]
    for limit, end in ((4, 4), (3, 2), (2, 2), (1, 1)):
        assert read(stored(made), limit=limit).end == end


def test_no_flipped_bit_passes() -> None:
    made = [numbered(1, traits=True), numbered(2, traits=True), numbered(3, count=2, traits=True)]
    block, expected = stored(made), records(made)
    for at in range(len(block) * 8):
        broken = bytearray(block)
        broken[at // 8] ^= 1 << at % 8
        found = records(read(bytes(broken)).frames)
        assert found == expected[: len(found)]
        assert len(found) < len(expected)


SHAPES = st.tuples(
    st.sampled_from([b"", b"k", b"other"]),
    st.sampled_from([1.0, 1.05, 1.2]),
    st.booleans(),
    st.integers(1, 3),
    st.sampled_from([0, 5000]),
    st.booleans(),
)


@given(st.lists(SHAPES, max_size=12), st.integers(0, 200))
def test_bulk_and_one_by_one_agree(shapes: list[tuple[bytes, float, bool, int, int, bool]], cut: int) -> None:
    made: list[Frame] = []
    sequence = 1
    for key, at, traits, count, pad, erased in shapes:
        frame = numbered(sequence, key=key, at=at, traits=traits, count=count, pad=pad)
        made.append(frames.erase(frame, [0]) if erased and pad == 0 else frame)
        sequence += count
    whole = stored(made)
    block = whole[: max(0, len(whole) - cut)]
    plain: list[Frame] = []
    for item in walk.walk(lambda offset, size: block[offset : offset + size], SALT, End(0, 0, 1), len(block), FAR):
        if not isinstance(item, Found) or item.frame.erased:
            break
        plain.append(item.frame)
    bulk = read(block)
    assert records(bulk.frames) == records(plain)
    assert bulk.size == sum(len(stored([frame])) for frame in plain)
