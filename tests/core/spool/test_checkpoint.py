import pytest

from forwarder.core.spool import checkpoint, journal
from forwarder.core.spool.checkpoint import BadCheckpoint, Checkpoint
from forwarder.core.spool.ledger import Balance

STATE = Checkpoint(
    next=1201,
    balance=Balance(1001, (998, 2, 0, 0, 0, 0, 0)),
    intervals=[(1050, 1060, 1)],
    journal=42,
    active=8,
    segments=[(7, 1001, 734003)],
    damaged=[],
    remembered={"limit": 50},
)
LINE = (
    b'{"next":1201,"watermark":1001,"totals":{"delivered":998,"died":2,"expired":0,"evicted":0,"unreadable":0,'
    b'"erased":0,"skipped":0},"intervals":[[1050,1060,1]],"journal":42,"active":8,"segments":[[7,1001,734003]],'
    b'"damaged":[],"remembered":{"limit":50}}'
)
GOLDEN = b"forwarder-checkpoint 1 02b44914\n" + LINE + b"\n"


def test_a_checkpoint_is_two_lines_as_the_format_page_says() -> None:
    assert checkpoint.encode(STATE) == GOLDEN


def test_the_golden_checkpoint_is_read_back() -> None:
    assert checkpoint.decode(GOLDEN) == STATE


def test_no_prefix_of_a_checkpoint_is_taken_for_one() -> None:
    for cut in range(len(GOLDEN) - 1):
        assert isinstance(checkpoint.decode(GOLDEN[:cut]), BadCheckpoint), cut


def test_no_flipped_bit_alters_a_checkpoint() -> None:
    for bit in range((len(GOLDEN) - 1) * 8):
        data = bytearray(GOLDEN)
        data[bit // 8] ^= 1 << bit % 8
        found = checkpoint.decode(bytes(data))
        assert isinstance(found, BadCheckpoint) or found == STATE, f"bit {bit}"


def test_a_newer_checkpoint_is_unsupported() -> None:
    found = checkpoint.decode(GOLDEN.replace(b"checkpoint 1 ", b"checkpoint 2 "))
    assert isinstance(found, BadCheckpoint)
    assert found.kind == "unsupported"


@pytest.mark.parametrize(
    "line", [b"[]", b"{}", LINE.replace(b"998", b"997"), LINE.replace(b'"next":1201', b'"next":"x"')]
)
def test_a_checkpoint_that_makes_no_sense_is_corrupt(line: bytes) -> None:
    from zlib import crc32

    found = checkpoint.decode(b"forwarder-checkpoint 1 %08x\n%s\n" % (crc32(line), line))
    assert isinstance(found, BadCheckpoint)
    assert found.kind == "corrupt"


JOURNAL = (
    bytes.fromhex("46574441434b530a" "0500000000000000" "01000000" "68f42c93")
    + bytes.fromhex("0a00000000000000" "1400000000000000" "01000000" "4a5ae8c4")
)  # fmt: skip


def test_a_journal_is_written_as_the_format_page_says() -> None:
    assert journal.encode_header(5) + journal.encode(10, 20, 1, 5) == JOURNAL


def test_the_golden_journal_is_read_back() -> None:
    assert journal.decode(JOURNAL) == journal.Journal(5, [(10, 20, 1)], 0)


def test_a_torn_journal_keeps_its_whole_records() -> None:
    data = journal.encode_header(5) + journal.encode(1, 2, 1, 5) + journal.encode(2, 3, 1, 5)
    for cut in range(len(data)):
        found = journal.decode(data[:cut])
        whole = cut // journal.RECORD_SIZE - 1
        assert (found is None) == (whole < 0)
        assert found is None or list(found.acks) == [(1, 2, 1), (2, 3, 1)][:whole]


def test_a_damaged_record_costs_only_itself() -> None:
    records = [journal.encode(n, n + 1, 1, 5) for n in range(1, 4)]
    data = journal.encode_header(5) + b"".join(records)
    for bit in range(len(records[1]) * 8):
        flipped = bytearray(data)
        flipped[2 * journal.RECORD_SIZE + bit // 8] ^= 1 << bit % 8
        assert journal.decode(bytes(flipped)) == journal.Journal(5, [(1, 2, 1), (3, 4, 1)], 1)


def test_records_of_another_generation_do_not_count() -> None:
    found = journal.decode(journal.encode_header(5) + journal.encode(1, 2, 1, 4))
    assert found == journal.Journal(5, [], 1)


def test_a_file_that_is_no_journal_is_not_read() -> None:
    assert journal.decode(b"x" * 480) is None
