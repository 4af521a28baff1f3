"""Group commit: what one turn of the loop brings is committed at once."""

import asyncio
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from forwarder.core.joining import Joining
from forwarder.core.seams import Busy, Durability, Failed, Stored
from forwarder.spool.acceptance import GRANT
from forwarder.spool.company import LOOKS
from forwarder.spool.fs import Buffer, RealFs
from forwarder.spool.space import cost
from forwarder.spool.spool import DiskSpool
from forwarder.spool.writer import MUCH
from tests.support import spools
from tests.support.keeper import Keeper
from tests.support.spools import append, event, group


def fire_now(
    spool: DiskSpool, number: int, *, size: int = 0, then: Callable[[], None] | None = None
) -> asyncio.Future[Stored | Failed]:
    """Append one event; `then` is called in the turn after its answer, in which the sender's next request is read."""
    loop = asyncio.get_running_loop()
    answered: asyncio.Future[Stored | Failed] = loop.create_future()

    def done(answer: Stored | Failed) -> None:
        answered.set_result(answer)
        if then is not None:
            loop.call_soon(then)

    taken = group([event(number, size)])
    assert spool.reserve(taken.size, 1) is None
    spool.append(taken, Durability.FSYNC, done)
    return answered


async def fire(spool: DiskSpool, number: int) -> asyncio.Future[Stored | Failed]:
    """Append one event from a turn of its own."""
    return fire_now(spool, number)


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


async def test_who_asks_again_at_once_shares_the_next_commit_with_those_who_came_meanwhile(tmp_path: Path) -> None:
    async with spools.spool(tmp_path) as one:
        again: list[asyncio.Future[Stored | Failed]] = []
        first = fire_now(one, 1, then=lambda: again.append(fire_now(one, 3)))
        await asyncio.sleep(0)  # handed over: the commit is under way
        second = fire_now(one, 2)
        await asyncio.gather(first, second)
        await again[0]
        assert one.stats().commits == 2


async def handed_over(spool: DiskSpool) -> None:
    """Let the loop turn until nothing is gathered."""
    while not spool._writer.empty:  # noqa: ASYNC110 - every turn of the loop is looked at
        await asyncio.sleep(0)


async def test_it_is_so_again_after_a_large_commit_and_after_one_of_as_many_bytes(tmp_path: Path) -> None:
    async with spools.spool(tmp_path) as one:
        await fire_now(one, 0, size=MUCH)
        again: list[asyncio.Future[Stored | Failed]] = []
        first = fire_now(one, 1, then=lambda: again.append(fire_now(one, 3)))
        await handed_over(one)
        second = fire_now(one, 2, then=lambda: again.append(fire_now(one, 6)))
        await first
        while not again:  # noqa: ASYNC110 - every turn of the loop is looked at
            await asyncio.sleep(0)
        await handed_over(one)
        await asyncio.gather(second, fire_now(one, 4), fire_now(one, 5))  # as many as the commit under way
        await asyncio.gather(*again)
        assert one.stats().commits == 4


async def test_what_is_worth_a_commit_of_its_own_waits_for_nobody(tmp_path: Path) -> None:
    joining = Joining()
    async with spools.spool(tmp_path, joining=joining) as one:
        gathered: list[bool] = []
        taken = group([event(1)])
        assert one.reserve(taken.size, 1) is None
        one.append(taken, Durability.FSYNC, lambda _answer: gathered.append(not one._writer.empty or joining.waiting))
        await handed_over(one)
        await fire_now(one, 2, size=MUCH)
        assert gathered == [False]  # on its way before those before it were answered
        assert one.stats().commits == 2


async def test_what_has_become_worth_a_commit_of_its_own_waits_for_nobody_more(tmp_path: Path) -> None:
    async with spools.spool(tmp_path) as one:
        again: list[asyncio.Future[Stored | Failed]] = []

        def large() -> None:
            again.append(fire_now(one, 2, size=MUCH))
            asyncio.get_running_loop().call_soon(lambda: again.append(fire_now(one, 3)))

        await asyncio.gather(fire_now(one, 0), fire_now(one, 1, then=large))  # the first one does not ask again
        while len(again) < 2:  # noqa: ASYNC110 - every turn of the loop is looked at
            await asyncio.sleep(0)
        await asyncio.gather(*again)
        assert one.stats().commits == 3


class Source(Keeper):
    """Asks a spool to store what it keeps."""

    def __init__(self, spool: DiskSpool, joining: Joining) -> None:
        super().__init__(joining)
        self.answered: list[asyncio.Future[Stored | Failed]] = []
        self._spool = spool

    def keep(self) -> None:
        """Read a request, and keep it if it is asked to."""
        self.requests += 1
        if not self.joining.waiting:
            self.join()

    def join(self) -> None:
        self.answered += [fire_now(self._spool, number) for number in range(self.requests)]
        super().join()


async def test_what_sources_keep_is_in_the_commit_that_waits_for_it(tmp_path: Path) -> None:
    joining = Joining()
    async with spools.spool(tmp_path, joining=joining) as one:
        keeper, kept = Source(one, joining), list[int]()
        again: list[asyncio.Future[Stored | Failed]] = []

        def keep() -> None:
            keeper.keep()
            kept.append(keeper.requests)

        for number in range(2):
            fire_now(one, number, then=keep)
        fire_now(one, 2, then=lambda: again.append(fire_now(one, 3)))  # of which the spool knows at once
        while len(keeper.answered) < 2:  # noqa: ASYNC110 - every turn of the loop is looked at
            await asyncio.sleep(0)
        await asyncio.gather(*keeper.answered, *again)
        assert kept == [1, 2]
        assert one.stats().commits == 2
        await handed_over(one)
        while joining.waiting:  # noqa: ASYNC110 - every turn of the loop is looked at
            await asyncio.sleep(0)


async def test_a_source_with_a_bug_does_not_keep_the_next_commit_from_beginning(tmp_path: Path) -> None:
    class Broken(Source):
        def join(self) -> None:
            self.requests = 0
            raise ZeroDivisionError

    joining, raised = Joining(), list[object]()
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: raised.append(context["exception"]))
    async with spools.spool(tmp_path, joining=joining) as one:
        keeper = Broken(one, joining)
        again: list[asyncio.Future[Stored | Failed]] = []

        def both() -> None:
            again.append(fire_now(one, 2))
            keeper.keep()

        await fire_now(one, 1, then=both)
        while not again:  # noqa: ASYNC110 - every turn of the loop is looked at
            await asyncio.sleep(0)
        assert await again[0] == Stored(Durability.FSYNC)
    assert [type(each) for each in raised] == [ZeroDivisionError]


async def test_jobs_under_way_do_not_let_what_is_gathered_go_before_its_company(tmp_path: Path) -> None:
    async with spools.spool(tmp_path) as one:
        again: list[asyncio.Future[Stored | Failed]] = []
        first = fire_now(one, 1, then=lambda: again.append(fire_now(one, 3)))
        await handed_over(one)
        one._writer.submit(lambda: None)
        second = fire_now(one, 2)
        await asyncio.gather(first, second)
        await again[0]
        assert one.stats().commits == 2


async def test_a_commit_does_not_wait_for_ever_while_each_turn_brings_another_event(tmp_path: Path) -> None:
    async with spools.spool(tmp_path) as one:
        await fire_now(one, 1)
        fire_now(one, 2)
        turns = 0
        while not one._writer.empty:
            fire_now(one, 3)
            await asyncio.sleep(0)
            turns += 1
        assert turns <= LOOKS + 2


async def test_when_all_who_were_answered_are_there_nobody_else_is_waited_for(tmp_path: Path) -> None:
    async with spools.spool(tmp_path) as one:
        again: list[asyncio.Future[Stored | Failed]] = []
        for number in range(3):
            fire_now(one, number, then=lambda: again.append(fire_now(one, 9)))
        while len(again) < 3:  # noqa: ASYNC110 - every turn of the loop is looked at
            await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert one._writer.empty


class HeldFs(RealFs):
    """Waits before it writes events, once it is told so."""

    def __init__(self) -> None:
        super().__init__()
        self.held = False
        self.writing, self.go_on = threading.Event(), threading.Event()

    def write(self, descriptor: int, buffers: Sequence[Buffer], offset: int, *, sync: bool) -> None:
        if self.held:
            self.held = False
            self.writing.set()
            assert self.go_on.wait(10)
        super().write(descriptor, buffers, offset, sync=sync)


async def two_commits_and_a_job(one: DiskSpool, fs: HeldFs, job: Callable[[], None]) -> None:
    """Append twice and submit a job, all while the first commit is under way; return when all are done but answered."""
    await fire_now(one, 0)
    fs.held = True
    fire_now(one, 1)
    await handed_over(one)
    assert fs.writing.wait(10)
    fire_now(one, 2)
    done = threading.Event()

    def run() -> None:
        job()
        done.set()

    one._writer.submit(run)
    fs.go_on.set()
    assert done.wait(10)


async def test_a_job_is_done_after_what_was_appended_before_it_though_a_commit_was_under_way(tmp_path: Path) -> None:
    fs, ends = HeldFs(), list[int]()
    async with spools.spool(tmp_path, fs=fs) as one:
        await two_commits_and_a_job(one, fs, lambda: ends.append(one._writer._next))
        assert ends == [one.next_sequence + 2]  # neither of the two is told of yet


async def test_two_commits_that_end_in_one_turn_are_one_wait_for_company(tmp_path: Path) -> None:
    fs, joining, waits = HeldFs(), Joining(), list[bool]()
    async with spools.spool(tmp_path, fs=fs, joining=joining) as one:
        await two_commits_and_a_job(one, fs, lambda: None)
        for _ in range(2 * LOOKS):
            await asyncio.sleep(0)
            waits.append(joining.waiting)
        assert waits == sorted(waits, reverse=True)
        assert (waits[0], waits[-1]) == (True, False)


async def test_a_spool_that_closes_while_a_commit_is_under_way_keeps_no_source_waiting(tmp_path: Path) -> None:
    fs, joining, loop = HeldFs(), Joining(), asyncio.get_running_loop()
    async with spools.spool(tmp_path, fs=fs, joining=joining) as one:
        await fire_now(one, 0)
        await handed_over(one)
        fs.held = True
        fire_now(one, 1)
        await handed_over(one)
        assert fs.writing.wait(10)
        loop.call_soon(fs.go_on.set)  # not before closing has begun
    for _ in range(LOOKS + 1):
        await asyncio.sleep(0)
    assert not joining.waiting


async def test_what_becomes_much_while_it_waits_goes_in_that_turn_and_ends_the_wait(tmp_path: Path) -> None:
    joining = Joining()
    async with spools.spool(tmp_path, joining=joining) as one:
        fire_now(one, 0)
        await fire_now(one, 1)
        before = joining.waiting
        large = fire_now(one, 2, size=MUCH)
        await asyncio.sleep(0)
        assert (before, joining.waiting, one._writer.empty) == (True, False, True)
        await large


async def test_what_comes_while_a_commit_is_under_way_that_waited_is_joined_by_those_it_answers(tmp_path: Path) -> None:
    fs, again = HeldFs(), list[asyncio.Future[Stored | Failed]]()
    async with spools.spool(tmp_path, fs=fs) as one:
        await fire_now(one, 0)
        fs.held = True
        second = fire_now(one, 1, then=lambda: again.append(fire_now(one, 3)))
        await handed_over(one)
        assert fs.writing.wait(10)
        third = fire_now(one, 2)
        await asyncio.sleep(0)
        fs.go_on.set()
        await asyncio.gather(second, third)
        await again[0]
        assert one.stats().commits == 3


async def test_after_a_wait_that_brought_nobody_the_next_one_is_stored(tmp_path: Path) -> None:
    joining = Joining()
    async with spools.spool(tmp_path, joining=joining) as one:
        await fire_now(one, 1)
        for _ in range(LOOKS + 1):
            await asyncio.sleep(0)
        assert not joining.waiting
        async with asyncio.timeout(10):
            assert await fire_now(one, 2) == Stored(Durability.FSYNC)


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
