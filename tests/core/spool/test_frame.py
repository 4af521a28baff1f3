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
