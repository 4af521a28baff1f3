import struct
from array import array
from zlib import crc32

import pytest

from forwarder.core.spool import frame as frames
from forwarder.core.spool.frame import HEAD_SIZE, Frame, Span

SALT = 0x1234ABCD
GOLDEN = bytes.fromhex(
    "f046524d" "02000000" "2a00000000000000" "00ca9a3b00000000" "10000000" "0200" "0100" "39d07cbd" "c1ad7a4e"
) + (
    b"k1" + bytes.fromhex("07000000" "08000000") + b"\x01" + struct.pack("<4Q", 7, 8, 0, 0) + b"\x00" + bytes(32)
    + b'{"a":1},{"b":22}'
)  # fmt: skip


def a_frame() -> Frame:
    return Frame(
        sequence=42,
        accepted_at=1.0,
        batch_key=b"k1",
        lengths=array("I", [7, 8]),
        payload=b'{"a":1},{"b":22}',
        traits=frames.encode_traits([(1, (7, 8)), (0, ())]),
    )


def decode(data: bytes, salt: int = SALT) -> Frame | None:
    head = frames.decode_head(data, 0, salt)
    return None if head is None else frames.decode_body(head, data[HEAD_SIZE : head.size], salt)


def test_a_frame_is_written_as_the_format_page_says() -> None:
    assert b"".join(frames.encode(a_frame(), SALT)) == GOLDEN


def test_the_golden_bytes_are_read_back() -> None:
    frame = decode(GOLDEN)
    assert frame is not None
    assert (frame.sequence, frame.accepted_at, frame.batch_key, frame.count) == (42, 1.0, b"k1", 2)
    assert [bytes(s.data) for s in Span(frame, 0, 2).singles()] == [b'{"a":1}', b'{"b":22}']
    assert [(s.aged(), s.order()) for s in Span(frame, 0, 2).singles()] == [(1, (7, 8)), (0, ())]


def test_both_checksums_start_from_the_salt() -> None:
    head, body = GOLDEN[:36], GOLDEN[HEAD_SIZE:]
    assert struct.unpack_from("<I", GOLDEN, 36) == (crc32(head, SALT),)
    assert struct.unpack_from("<I", GOLDEN, 32) == (crc32(body, SALT),)
    assert decode(GOLDEN, SALT + 1) is None


@pytest.mark.parametrize("cut", range(len(GOLDEN)))
def test_no_prefix_is_taken_for_a_frame(cut: int) -> None:
    assert decode(GOLDEN[:cut]) is None


def test_no_flipped_bit_goes_unnoticed() -> None:
    for bit in range(len(GOLDEN) * 8):
        data = bytearray(GOLDEN)
        data[bit // 8] ^= 1 << bit % 8
        assert decode(bytes(data)) is None, f"bit {bit}"


def test_zeros_are_no_frame_under_any_salt() -> None:
    assert frames.decode_head(bytes(HEAD_SIZE), 0, 0) is None


def test_a_frame_of_traits_with_more_than_four_keys_keeps_four() -> None:
    assert len(frames.encode_traits([(0, (1, 2, 3, 4, 5))])) == frames.TRAIT_ROW


def numbered(sequence: int, *, key: bytes = b"k", at: float = 1.0, traits: bytes = b"", count: int = 1) -> Frame:
    events = [b'{"n":%d}' % (sequence + each) for each in range(count)]
    lengths, payload = array("I", map(len, events)), b",".join(events)
    return Frame(sequence=sequence, accepted_at=at, batch_key=key, lengths=lengths, payload=payload, traits=traits)


def test_neighbouring_frames_are_joined_record_by_record() -> None:
    rows = [frames.encode_traits([(0, (each,))]) for each in (5, 6, 7)]
    apart = [numbered(10 + each, traits=rows[each], at=1.0 + each / 100) for each in range(3)]
    (joined,) = frames.join(apart)
    assert (joined.sequence, joined.count, joined.accepted_at) == (10, 3, 1.02)
    singles = Span(joined, 0, 3).singles()
    assert [(one.first, bytes(one.data), one.order()) for one in singles] == [
        (10, b'{"n":10}', (5,)), (11, b'{"n":11}', (6,)), (12, b'{"n":12}', (7,))
    ]  # fmt: skip


@pytest.mark.parametrize(
    "second",
    [
        numbered(12),
        numbered(11, key=b"other"),
        numbered(11, traits=frames.encode_traits([(0, (1,))])),
        numbered(11, at=1.0 + 2 * frames.JOIN_S),
    ],
    ids=["a gap in the sequences", "another batch key", "traits", "another time"],
)
def test_frames_that_differ_stay_apart(second: Frame) -> None:
    first = numbered(10)
    assert frames.join([first, second]) == [first, second]


def test_joined_frames_stay_within_the_size_of_a_frame() -> None:
    count = 3 * frames.MAX_PAYLOAD // len(numbered(100_000).payload)
    joined = frames.join(numbered(100_000 + each) for each in range(count))
    assert sum(frame.count for frame in joined) == count
    assert len(joined) > 3
    assert max(len(frame.payload) for frame in joined) <= frames.MAX_PAYLOAD
