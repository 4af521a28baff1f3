"""Group commit: what one turn of the loop brings is committed at once."""

import asyncio
from pathlib import Path

from forwarder.core.seams import Busy, Durability, Failed, Stored
from forwarder.spool.acceptance import GRANT
from forwarder.spool.space import cost
from forwarder.spool.spool import DiskSpool
from tests.support import spools
from tests.support.spools import append, event, group


async def fire(spool: DiskSpool, number: int) -> asyncio.Future[Stored | Failed]:
    """Append one event from a turn of its own."""
    done: asyncio.Future[Stored | Failed] = asyncio.get_running_loop().create_future()
    taken = group([event(number)])
    assert spool.reserve(taken.size, 1) is None
    spool.append(taken, Durability.FSYNC, done.set_result)
    return done


async def test_the_requests_of_one_turn_share_one_commit(tmp_path: Path) -> None:
    async with spools.spool(tmp_path) as one:
        before = one.stats().commits
        waiting = [await fire(one, number) for number in range(100)]
        await asyncio.gather(*waiting)
        assert one.stats().commits == before + 1


async def test_what_arrives_during_a_commit_is_committed_after_it_without_another_arrival(tmp_path: Path) -> None:
    async with spools.spool(tmp_path) as one:
        for number in range(50):
            first = await fire(one, number)
            await asyncio.sleep(0)  # handed over: the commit is under way
            second = await fire(one, number)
            assert [await first, await second] == [Stored(Durability.FSYNC)] * 2


async def test_jobs_and_commits_that_call_the_thread_together_are_all_done(tmp_path: Path) -> None:
    async with spools.spool(tmp_path) as one:
        for number in range(50):
            first = await fire(one, number)
            saving = asyncio.ensure_future(one.checkpoint())
            second = await fire(one, number)
            assert [await first, await second] == [Stored(Durability.FSYNC)] * 2
            await saving


async def test_a_closed_spool_leaves_no_descriptor_open(tmp_path: Path) -> None:
    def descriptors() -> int:
        return len(list(Path("/dev/fd").iterdir()))

    before = descriptors()
    for _ in range(3):
        async with spools.spool(tmp_path) as one:
            await append(one, [event(1)])
    assert descriptors() == before


async def test_closing_commits_what_was_appended_in_the_same_turn(tmp_path: Path) -> None:
    one = spools.spool(tmp_path)
    await one.open()
    done = await fire(one, 1)
    await one.close(one._clock.monotonic() + 5)
    assert done.result() == Stored(Durability.FSYNC)


async def test_a_commit_that_gathers_never_takes_more_than_the_limit(tmp_path: Path) -> None:
    limit = 4 * GRANT
    async with spools.spool(tmp_path, max_size=limit) as one:
        taken = group([event(1, 1000)])
        promised = 0
        while one.reserve(taken.size, 1) is None:
            one.append(taken, Durability.FSYNC, lambda _answer: None)
            promised += cost(taken.size, 1)
        assert limit - 2 * cost(taken.size, 1) - 8192 < promised <= limit
        assert isinstance(one.reserve(taken.size, 1), Busy)
        assert isinstance(await append(one, [event(2)]), Stored | Busy)


async def test_what_a_commit_did_not_need_is_not_kept_from_the_next_ones(tmp_path: Path) -> None:
    async with spools.spool(tmp_path, max_size=4 * GRANT) as one:
        for number in range(20):
            assert await append(one, [event(number)]) == Stored(Durability.FSYNC)
        large = group([event(99, 150_000)])
        assert one.reserve(large.size, 1) is None
