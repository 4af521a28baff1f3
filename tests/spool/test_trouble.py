"""A bad disk is a mode: fail who waits, seal, refuse, and go on when the disk does. Over the fault file system."""

import asyncio
import errno
from pathlib import Path

import pytest

from forwarder.core.seams import Durability, Failed, Outcome, Stored
from forwarder.core.spool.segment import HEADER_SIZE
from forwarder.spool.survey import survey
from tests.support import spools
from tests.support.fault_fs import FaultFs
from tests.support.spools import accepting, append, drain, event, group, lease_all

ROOT = Path("/root")
DIRECTORY = ROOT / "spool" / "td"


@pytest.mark.parametrize("operation", ["write", "sync"])
@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC, errno.EROFS])
async def test_a_failed_commit_fails_its_waiters_and_acceptance_returns(operation: str, code: int) -> None:
    fs = FaultFs()
    async with spools.spool(ROOT, fs) as one:
        assert await append(one, [event(1)]) == Stored(Durability.FSYNC)
        fs.failing[operation] = code
        answer = await append(one, [event(2)])
        assert isinstance(answer, Failed)
        assert "commit failed" in answer.message
        busy = one.reserve(1, 1)
        assert busy is not None
        assert busy.limit == "disk"
        stats = one.stats()
        assert stats.trouble is not None
        assert stats.trouble_since is not None
        assert stats.refusing
        fs.failing.clear()
        await accepting(one)
        assert one.stats().trouble is None
        assert await append(one, [event(3)]) == Stored(Durability.FSYNC)
        assert await drain(one) == [1, 3]
        assert one.stats().imbalance == 0


async def test_a_file_whose_sync_failed_is_never_synced_again() -> None:
    synced: list[int] = []

    class Watched(FaultFs):
        def sync(self, descriptor: int, only: tuple[int, bytes] | None = None) -> None:
            synced.append(descriptor)
            super().sync(descriptor, only)

    fs = Watched()
    async with spools.spool(ROOT, fs) as one:
        await append(one, [event(1)])
        fs.fail_once("sync", errno.EIO)
        assert isinstance(await append(one, [event(2)]), Failed)
        failed, synced[:] = synced[-1], []
        await accepting(one)
        await append(one, [event(3)])
    assert failed not in synced
    assert synced


async def test_the_frames_of_a_failed_commit_do_not_come_back_after_a_crash() -> None:
    fs = FaultFs()
    one = spools.spool(ROOT, fs)
    await one.open()
    await append(one, [event(1)])
    # the tail cannot even be cut, so the bytes stay in the file
    fs.failing["truncate"] = errno.EIO
    fs.fail_once("sync", errno.EIO)
    assert isinstance(await append(one, [event(2)]), Failed)
    await accepting(one)
    await append(one, [event(3)])
    new = fs.reborn()
    await one.close(one._clock.monotonic() + 1)
    assert b'{"n":2' in b"".join(new.files().values())
    async with spools.spool(ROOT, new) as two:
        assert await drain(two) == [1, 3]
        assert [segment.base for segment in survey(new, DIRECTORY).recovery.extents][:2] == [1, 2]


async def test_memory_level_events_wait_for_the_disk_and_are_written_then() -> None:
    fs = FaultFs()
    async with spools.spool(ROOT, fs) as one:
        answers: list[Stored | Failed] = []
        fs.failing["write"] = errno.EIO
        taken = group([event(1)])
        one.reserve(taken.size, 1)
        one.append(taken, Durability.MEMORY, answers.append)
        assert isinstance(await append(one, [event(2)]), Failed)
        assert answers == [Stored(Durability.MEMORY)]
        fs.failing.clear()
        await accepting(one)
        await append(one, [event(3)])
        assert sorted(await drain(one)) == [1, 3]


async def test_memory_level_events_of_several_commits_wait_for_the_disk_together() -> None:
    fs = FaultFs()
    async with spools.spool(ROOT, fs) as one:
        fs.failing["write"] = errno.EIO
        for number in (1, 2):
            taken = group([event(number)])
            assert one.reserve(taken.size, 1) is None
            one.append(taken, Durability.MEMORY, lambda _answer: None)
            if number == 1:
                await asyncio.sleep(0)  # the first is handed over, and the second gathers while that commit fails
        assert isinstance(await append(one, [event(9)]), Failed)
        fs.failing.clear()
        await accepting(one)
        await append(one, [event(3)])
        assert sorted(await drain(one)) == [1, 2, 3]


async def test_a_full_disk_refuses_and_takes_events_again_once_there_is_room() -> None:
    fs = FaultFs()
    async with spools.spool(ROOT, fs, segment_size=16384) as one:
        fs.capacity = 60_000
        stored = 0
        while isinstance(await append(one, [event(stored, 2000)]), Stored):
            stored += 1
        assert stored > 10
        assert one.stats().trouble is not None
        assert len(await lease_all(one)) == stored
        fs.capacity = 1 << 30
        await accepting(one)
        assert await append(one, [event(99)]) == Stored(Durability.FSYNC)
        assert one.stats().imbalance == 0


async def test_a_small_volume_is_not_eaten_by_reserved_space() -> None:
    fs = FaultFs()
    fs.capacity = 1 << 20
    async with spools.spool(ROOT, fs) as one:
        await append(one, [event(1)])
        await one.checkpoint()
        assert one.stats().bytes < (1 << 20) // 16


async def test_trouble_from_the_first_append_on_leaves_no_half_made_segments() -> None:
    fs = FaultFs()
    async with spools.spool(ROOT, fs) as one:
        fs.failing["sync_directory"] = errno.EIO
        assert isinstance(await append(one, [event(1)]), Failed)
        fs.failing.clear()
        await accepting(one)
        await append(one, [event(2)])
        assert len([path for path in fs.files() if path.endswith(".segment")]) == 1
        assert await drain(one) == [2]


async def test_acks_that_cannot_be_journalled_are_covered_by_the_next_checkpoint() -> None:
    fs = FaultFs()
    one = spools.spool(ROOT, fs)
    await one.open()
    await append(one, [event(1), event(2)])
    fs.failing["append"] = errno.ENOSPC
    await drain(one)
    fs.failing.clear()
    await one.checkpoint()
    new = fs.reborn()
    await one.close(one._clock.monotonic() + 1)
    async with spools.spool(ROOT, new) as two:
        assert await drain(two) == []


async def test_a_failing_checkpoint_is_reported_and_deletes_nothing() -> None:
    fs = FaultFs()
    async with spools.spool(ROOT, fs, segment_size=16384) as one:
        for number in range(12):
            await append(one, [event(number, 4000)])
        await drain(one)
        before = one.stats().segments
        fs.failing["replace"] = errno.EIO
        await one.checkpoint()
        assert one.stats().segments == before
        assert len([path for path in fs.files() if path.endswith(".segment")]) == before
        assert "checkpoint" in str(one.stats().trouble)
        assert not one.stats().refusing
        assert await append(one, [event(50)]) == Stored(Durability.FSYNC)
        fs.failing.clear()
        await one.checkpoint()
        assert one.stats().segments == 1
        assert one.stats().trouble is None


async def test_acks_survive_a_failed_checkpoint_and_a_crash() -> None:
    fs = FaultFs()
    one = spools.spool(ROOT, fs)
    await one.open()
    await append(one, [event(1), event(2)])
    await drain(one)
    fs.failing["replace"] = errno.EIO
    await one.checkpoint()
    fs.failing.clear()
    new = fs.reborn()
    await one.close(one._clock.monotonic() + 1)
    async with spools.spool(ROOT, new) as two:
        assert await drain(two) == []


async def test_a_synced_commit_makes_the_written_ones_before_it_durable() -> None:
    for seed in range(5):
        fs = FaultFs(seed)
        one = spools.spool(ROOT, fs)
        await one.open()
        await append(one, [event(1, 2000)], Durability.WRITTEN)
        await append(one, [event(2)], Durability.FSYNC)
        new = fs.power_cut()
        await one.close(one._clock.monotonic() + 1)
        async with spools.spool(ROOT, new) as two:
            assert await drain(two) == [1, 2]


async def test_the_newest_segment_is_kept_though_drained_since_it_keeps_the_sequences() -> None:
    fs = FaultFs()
    async with spools.spool(ROOT, fs) as one:
        await append(one, [event(1), event(2)])
    async with spools.spool(ROOT, fs) as two:
        assert await drain(two) == [1, 2]
        await two.checkpoint()
    for path in [path for path in fs.files() if not path.endswith(".segment")]:
        fs.remove(Path(path))
    async with spools.spool(ROOT, fs) as three:
        assert three.stats().next_sequence == 3


async def test_a_segment_that_cannot_be_read_now_is_passed_over_and_kept() -> None:
    fs = FaultFs()
    async with spools.spool(ROOT, fs) as one:
        await append(one, [event(1)])
    async with spools.spool(ROOT, fs) as two:
        fs.failing["read"] = errno.EIO
        assert await lease_all(two) == []
        assert "cannot read segment" in str(two.stats().trouble)
        assert not two.stats().refusing
        assert two.stats().queued_events == 1
        await append(two, [event(2)])
        assert spools.numbers(await lease_all(two)) == [2]
        fs.failing.clear()
        two._leases.read_again()
        assert spools.numbers(await lease_all(two)) == [1]


async def test_a_segment_deleted_by_hand_under_a_live_spool_is_reported_exactly() -> None:
    fs = FaultFs()
    async with spools.spool(ROOT, fs) as one:
        await append(one, [event(n) for n in range(4)])
    async with spools.spool(ROOT, fs) as two:
        await append(two, [event(4)])
        fs.remove(DIRECTORY / "000000000001.segment")
        assert await drain(two) == [4]
        assert list(two.stats().unreadable) == [(1, 5)]
        assert two.stats().imbalance == 0


async def test_damage_found_while_reading_is_counted_and_the_file_kept() -> None:
    fs = FaultFs()
    async with spools.spool(ROOT, fs) as one:
        for number in range(3):
            await append(one, [event(number)])
    path = DIRECTORY / "000000000001.segment"
    data = bytearray(fs.files()[str(path)])
    data[HEADER_SIZE + 67 + 60] ^= 1
    fs.put(path, bytes(data))
    async with spools.spool(ROOT, fs) as two:
        await append(two, [event(9)])
        assert await drain(two) == [0, 2, 9]
        assert two._dropped[Outcome.UNREADABLE].value == 1
        await two.checkpoint()
    assert fs.files()[str(ROOT / "quarantine" / "td" / path.name)] == bytes(data)


async def test_a_start_on_a_disk_that_takes_nothing_reads_and_refuses() -> None:
    fs = FaultFs()
    async with spools.spool(ROOT, fs) as one:
        await append(one, [event(1)])
    for operation in ("write", "create", "append", "sync", "truncate", "remove", "replace", "move"):
        fs.failing[operation] = errno.EROFS
    async with spools.spool(ROOT, fs) as two:
        assert isinstance(await append(two, [event(2)]), Failed)
        assert await drain(two) == [1]
        assert two.reserve(1, 1) is not None
        fs.failing.clear()
        await accepting(two)
        assert await append(two, [event(3)]) == Stored(Durability.FSYNC)


async def test_closing_with_a_dead_disk_ends_and_says_what_was_never_written() -> None:
    fs = FaultFs()
    one = spools.spool(ROOT, fs)
    await one.open()
    fs.failing["write"] = errno.EIO
    taken = group([event(1), event(2)])
    one.reserve(taken.size, 2)
    one.append(taken, Durability.MEMORY, lambda _answer: None)
    await one.close(one._clock.monotonic() + 5)
    assert one._lost_in_memory.value == 2
