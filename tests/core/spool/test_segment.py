import struct

import pytest

from forwarder.core.spool import segment
from forwarder.core.spool.ledger import Balance
from forwarder.core.spool.segment import COPY_SIZE, HEADER_SIZE, BadHeader, End, Header

HEADER = Header(
    salt=0xDEADBEEF,
    number=7,
    base=101,
    created_at_ns=1_700_000_000_000_000_000,
    previous=End(6, 4096, 100),
    balance=Balance(11, (9, 1, 0, 0, 0, 0, 0)),
)
GOLDEN_START = b"FWDSEG\r\n" + struct.pack(
    "<HHIQQQQQQQ7Q", 1, 512, 0xDEADBEEF, 7, 101, 1_700_000_000_000_000_000, 6, 4096, 100, 11, 9, 1, 0, 0, 0, 0, 0
)


def test_a_header_is_two_equal_copies_as_the_format_page_says() -> None:
    data = segment.encode(HEADER)
    assert len(data) == HEADER_SIZE
    assert data[:COPY_SIZE] == data[COPY_SIZE:]
    assert data[:128] == GOLDEN_START
    assert data[128:508] == bytes(380)


def test_a_header_is_read_back() -> None:
    assert segment.decode(segment.encode(HEADER)) == HEADER


def test_no_flipped_bit_costs_the_header() -> None:
    data = segment.encode(HEADER)
    for bit in range(HEADER_SIZE * 8):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        assert segment.decode(bytes(flipped)) == HEADER, f"bit {bit}"


@pytest.mark.parametrize("size", [0, 1, 100, 511])
def test_a_header_that_was_never_finished_is_torn(size: int) -> None:
    found = segment.decode(segment.encode(HEADER)[:size])
    assert isinstance(found, BadHeader)
    assert found.kind == "torn"


def test_a_blank_header_is_torn() -> None:
    found = segment.decode(bytes(HEADER_SIZE))
    assert isinstance(found, BadHeader)
    assert found.kind == "torn"


def test_a_foreign_file_is_corrupt() -> None:
    found = segment.decode(b"SQLite format 3\0" * 100)
    assert found == BadHeader("corrupt", "magic")


def test_both_copies_damaged_is_corrupt() -> None:
    data = bytearray(segment.encode(HEADER))
    data[20] ^= 1
    data[COPY_SIZE + 20] ^= 1
    assert segment.decode(bytes(data)) == BadHeader("corrupt", "header checksum")


def test_a_newer_version_is_unsupported_and_its_base_is_known() -> None:
    data = bytearray(segment.encode(HEADER))
    data[8:10] = data[COPY_SIZE + 8 : COPY_SIZE + 10] = b"\x02\x00"
    found = segment.decode(bytes(data))
    assert isinstance(found, BadHeader)
    assert (found.kind, found.base) == ("unsupported", 101)
