"""Journals and segments that cannot be read at start: told, kept, and nothing is given twice."""

import errno
from pathlib import Path

import structlog.testing

from forwarder.core.spool.journal import RECORD_SIZE
from tests.support import spools
from tests.support.fault_fs import FaultFs
from tests.support.spools import append, drain, event

ROOT = Path("/root")
DIRECTORY = ROOT / "spool" / "td"


async def acked(fs: FaultFs) -> FaultFs:
    """Return a disk on which events 1 to 3 are delivered according to the journal alone, and 4 is queued."""
    one = spools.spool(ROOT, fs)
    await one.open()
    await append(one, [event(1), event(2), event(3)])
    await drain(one)
    await append(one, [event(4)])
    new = fs.reborn()
    await one.close(one._clock.monotonic() + 5)
    return new


def journal(fs: FaultFs) -> Path:
    return next(Path(path) for path, data in fs.files().items() if "/acks." in path and len(data) > RECORD_SIZE)


async def test_a_journal_with_a_damaged_header_is_told_and_kept_and_costs_duplicates_only() -> None:
    fs = await acked(FaultFs())
    path = journal(fs)
    data = fs.files()[str(path)]
    fs.put(path, b"\xff" + data[1:])
    with structlog.testing.capture_logs() as logs:
        async with spools.spool(ROOT, fs) as two:
            assert await drain(two) == [1, 2, 3, 4]
            assert any("header" in note for note in two.notes())
    assert [line["log_level"] for line in logs if line["event"] == "spool_journal"] == ["warning"]
    assert b"\xff" + data[1:] in [kept for name, kept in fs.files().items() if "/quarantine/" in name]


async def test_a_journal_of_a_newer_format_is_left_alone() -> None:
    fs = await acked(FaultFs())
    path = journal(fs)
    newer = fs.files()[str(path)][:16] + b"\x09" + fs.files()[str(path)][17:]
    fs.put(path, newer)
    async with spools.spool(ROOT, fs) as two:
        assert await drain(two) == [1, 2, 3, 4]
        await two.checkpoint()
        assert fs.files()[str(path)] == newer


async def test_a_cut_last_record_of_a_journal_is_what_a_kill_leaves_and_no_trouble() -> None:
    fs = await acked(FaultFs())
    path = journal(fs)
    fs.put(path, fs.files()[str(path)] + b"half a record")
    async with spools.spool(ROOT, fs) as two:
        assert await drain(two) == [4]
        assert two.notes() == []


class Blind(FaultFs):
    """A disk that cannot read some bytes of segments."""

    bad = range(0)

    def read(self, descriptor: int, offset: int, size: int) -> bytes:
        if offset < self.bad.stop and self.bad.start < offset + size:
            raise OSError(errno.EIO, "Input/output error")
        return super().read(descriptor, offset, size)


async def test_a_page_at_the_end_of_the_log_that_cannot_be_read_costs_no_other_record_and_no_number_twice() -> None:
    fs = FaultFs()
    one = spools.spool(ROOT, fs)
    await one.open()
    for number in range(1, 9):
        await append(one, [event(number, 1000)])
    given = one.stats().next_sequence
    reborn = fs.reborn()
    await one.close(one._clock.monotonic() + 5)
    new = Blind()
    for path, data in reborn.files().items():
        new.put(Path(path), data)
    new.bad = range(8192, 12288)
    async with spools.spool(ROOT, new) as two:
        stats = two.stats()
        assert stats.unreadable
        assert stats.next_sequence >= given
        assert stats.imbalance == 0
        new.bad = range(0)
        assert (await drain(two))[:6] == [1, 2, 3, 4, 5, 6]
