"""A header put together again from the frames, and never from anything else."""

from array import array
from zlib import crc32

from hypothesis import given
from hypothesis import strategies as st

from forwarder.core.spool import frame as frames
from forwarder.core.spool import salvage, segment
from forwarder.core.spool.frame import Frame
from forwarder.core.spool.segment import HEADER_SIZE, Header
from forwarder.core.spool.walk import STEP

SALT = 0xDEADBEEF


def frame(sequence: int, *events: bytes) -> bytes:
    made = Frame(
        sequence=sequence,
        accepted_at=1_780_000_000.0,
        batch_key=b"v2/app",
        lengths=array("I", map(len, events)),
        payload=b",".join(events),
    )
    return b"".join(map(bytes, frames.encode(made, SALT)))


def found(data: bytes) -> Header | None:
    return salvage.header(lambda offset, size: data[offset : offset + size], 7, len(data))


def damaged(*parts: bytes) -> bytes:
    return b"\xff" * HEADER_SIZE + b"".join(parts)


@given(st.binary(min_size=1, max_size=60), st.integers(0, 0xFFFFFFFF))
def test_the_salt_follows_from_any_bytes_and_their_checksum(data: bytes, salt: int) -> None:
    assert salvage.salt_of(data + crc32(data, salt).to_bytes(4, "little")) == salt


def test_the_first_intact_frame_tells_what_the_header_said() -> None:
    header = Header(salt=SALT, number=7, base=41, created_at_ns=1_780_000_000_000_000_000)
    assert found(damaged(frame(41, b"{}"), frame(42, b"{}", b"{}"))) == header
    assert segment.decode(segment.encode(header)) == header


def test_a_damaged_first_frame_is_passed_over() -> None:
    first = bytearray(frame(41, b'{"a":1}'))
    first[-2] ^= 1
    header = found(damaged(bytes(first), frame(42, b"{}")))
    assert header is not None
    assert (header.salt, header.base) == (SALT, 42)


def test_a_frame_is_found_across_the_blocks_that_are_read() -> None:
    for shift in range(-4, 1):
        header = found(damaged(b"x" * (STEP + shift), frame(9, b"{}")))
        assert header is not None
        assert header.base == 9


def test_where_no_frame_is_intact_nothing_is_made_up() -> None:
    whole = frame(41, b'{"a":1}')
    assert found(damaged()) is None
    assert found(damaged(b"junk" * 3000)) is None
    assert found(damaged(frames.MARK * 100)) is None
    for size in range(len(whole)):
        assert found(damaged(whole[:size])) is None
    for bit in range(8 * len(whole)):
        flipped = bytearray(whole)
        flipped[bit // 8] ^= 1 << bit % 8
        assert found(damaged(bytes(flipped))) is None
