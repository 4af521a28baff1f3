"""The spool as its users see it, on a real file system."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from forwarder.core.seams import Busy, Durability, Failed, Outcome, Stored, Trait
from forwarder.metrics import Metrics
from forwarder.spool.spool import DiskSpool
from forwarder.spool.waiting import LIMIT, DeliveryWaiters
from tests.support import spools
from tests.support.spool_contract import SpoolContract
from tests.support.spools import NOTHING, append, drain, event, group, lease_all, numbers

BIG = 4096


class TestContract(SpoolContract):
    @pytest.fixture
    async def spool(self, tmp_path: Path) -> AsyncIterator[DiskSpool]:
        async with spools.spool(tmp_path) as one:
            yield one


async def test_a_commit_survives_a_restart_byte_for_byte(tmp_path: Path) -> None:
    events = [event(1), b'{"n":2,  "odd" : "\xc3\xa9"}', event(3, BIG)]
    async with spools.spool(tmp_path) as one:
        assert await append(one, events) == Stored(Durability.FSYNC)
    async with spools.spool(tmp_path) as two:
        assert spools.events_of(await lease_all(two)) == events


async def test_an_answer_states_the_level_that_was_reached(tmp_path: Path) -> None:
    async with spools.spool(tmp_path) as one:
        answers: list[Stored | Failed] = []
        for level in (Durability.MEMORY, Durability.WRITTEN):
            taken = group([event(1)])
            assert one.reserve(taken.size, 1) is None
            one.append(taken, level, answers.append)
        assert answers == [Stored(Durability.MEMORY)]
        assert await append(one, [event(2)], Durability.WRITTEN) == Stored(Durability.WRITTEN)
        assert await append(one, [event(3)], Durability.FSYNC) == Stored(Durability.FSYNC)
        assert len(answers) == 2
        assert sorted(await drain(one)) == [1, 1, 2, 3]


async def test_waiters_of_one_commit_are_woken_in_order(tmp_path: Path) -> None:
    async with spools.spool(tmp_path) as one:
        woken: list[int] = []
        for number in range(50):
            taken = group([event(number)])
            one.reserve(taken.size, 1)
            one.append(taken, Durability.FSYNC, lambda _answer, number=number: woken.append(number))  # type: ignore[misc]
        await append(one, [event(99)])
        assert woken == list(range(50))


COMMITTED = Stored(Durability.FSYNC)
"""What whoever waits for delivery hears first."""


async def test_delivered_is_answered_at_the_commit_and_when_all_records_were_delivered(
    tmp_path: Path,
) -> None:
    async with spools.spool(tmp_path) as one:
        answers: list[Stored | Failed] = []
        taken = group([event(1), event(2)])
        one.reserve(taken.size, 2)
        one.append(taken, Durability.DELIVERED, answers.append)
        await append(one, [event(3)])
        first, *rest = [single for span in await lease_all(one) for single in span.singles()]
        one.ack([first], Outcome.DELIVERED)
        await asyncio.sleep(0)
        assert answers == [COMMITTED]
        one.ack(rest, Outcome.DELIVERED)
        await asyncio.sleep(0)
        assert answers == [COMMITTED, Stored(Durability.DELIVERED)]
    assert len(answers) == 2  # and nothing at the end


async def test_delivered_names_the_outcome_when_a_record_ends_otherwise(tmp_path: Path) -> None:
    async with spools.spool(tmp_path) as one:
        answers: list[Stored | Failed] = []
        taken = group([event(1)])
        one.reserve(taken.size, 1)
        one.append(taken, Durability.DELIVERED, answers.append)
        await append(one, [event(2)])
        one.ack(await lease_all(one), Outcome.DIED)
        await asyncio.sleep(0)
        assert answers == [COMMITTED, Failed("not delivered: died")]


async def test_whoever_comes_when_too_many_wait_hears_at_once_that_nothing_more_will_be_known() -> None:
    waiters = DeliveryWaiters()
    answers: list[Stored | Failed] = []
    for number in range(LIMIT):
        waiters.add(lambda _answer: None, [(number, number + 1)])
    waiters.add(answers.append, [(LIMIT, LIMIT + 1)])
    waiters.ended(0, 1, Outcome.DELIVERED)
    waiters.ended(LIMIT, LIMIT + 1, Outcome.DELIVERED)
    waiters.give_up()
    await asyncio.sleep(0)
    assert answers == [COMMITTED]
    waiters.add(answers.append, [(LIMIT + 1, LIMIT + 2)])
    await asyncio.sleep(0)
    assert answers == [COMMITTED]


async def test_a_frame_holds_one_batch_key_and_keeps_the_order_of_arrival(tmp_path: Path) -> None:
    async with spools.spool(tmp_path) as one:
        for number in range(6):
            taken = group([event(number)], key=b"ab"[number % 2 : number % 2 + 1])
            one.reserve(taken.size, 1)
            one.append(taken, Durability.WRITTEN, lambda _answer: None)
        await append(one, [event(6)], key=b"a")
        by_key: dict[bytes, list[int]] = {}
        for span in await lease_all(one):
            by_key.setdefault(span.frame.batch_key, []).extend(numbers([span]))
        assert by_key == {b"a": [0, 2, 4, 6], b"b": [1, 3, 5]}


async def test_traits_come_back_from_disk(tmp_path: Path) -> None:
    traits = [Trait(1, (7, 9)), Trait(0, ())]
    async with spools.spool(tmp_path) as one:
        taken = group([event(1), event(2)], traits=traits)
        one.reserve(taken.size, 2)
        one.append(taken, Durability.FSYNC, lambda _answer: None)
    async with spools.spool(tmp_path) as two:
        first, second = [s for span in await lease_all(two) for s in span.singles()]
        assert (first.aged(), first.order(), second.aged(), second.order()) == (1, (7, 9), 0, ())


async def test_a_group_larger_than_a_frame_is_spread_over_several(tmp_path: Path) -> None:
    events = [event(number, 300_000) for number in range(8)]
    answers: list[Stored | Failed] = []
    async with spools.spool(tmp_path) as one:
        taken = group(events)
        one.reserve(taken.size, len(events))
        one.append(taken, Durability.DELIVERED, answers.append)
        await append(one, [event(8)])
        spans = await lease_all(one)
        assert len(spans) > 2
        assert spools.events_of(spans) == [*events, event(8)]
        one.ack(spans, Outcome.DELIVERED)
        await asyncio.sleep(0)
        assert answers == [COMMITTED, Stored(Durability.DELIVERED)]


async def test_what_was_acked_is_not_leased_again_after_a_restart(tmp_path: Path) -> None:
    async with spools.spool(tmp_path) as one:
        await append(one, [event(n) for n in range(10)])
        singles = [s for span in await lease_all(one) for s in span.singles()]
        one.ack([singles[2], singles[3], singles[7]], Outcome.DELIVERED)
    async with spools.spool(tmp_path) as two:
        assert await drain(two) == [0, 1, 4, 5, 6, 8, 9]
        assert two.stats().ledger["delivered"] == 10
        assert two.stats().imbalance == 0


async def test_released_records_come_back_in_order_after_rewind(tmp_path: Path) -> None:
    async with spools.spool(tmp_path) as one:
        await append(one, [event(n) for n in range(6)])
        singles = [s for span in await lease_all(one) for s in span.singles()]
        one.release([singles[4], singles[1]])
        assert await lease_all(one) == []
        one.rewind()
        assert numbers(await lease_all(one)) == [1, 4]


class _Held:
    def __init__(self, key: bytes, order: int) -> None:
        self.held_key, self.held_order = key, order

    def __bool__(self) -> bool:
        return True

    def key(self, batch_key: bytes) -> bool:
        return batch_key == self.held_key

    def order(self, keys: tuple[int, ...]) -> bool:
        return self.held_order in keys


async def test_held_keys_and_persons_are_passed_over_and_come_back_after_rewind(tmp_path: Path) -> None:
    async with spools.spool(tmp_path) as one:
        await append(one, [event(1), event(2)], key=b"parked")
        taken = group([event(n) for n in range(3, 7)], traits=[Trait(0, (n % 2 + 1,)) for n in range(3, 7)])
        one.reserve(taken.size, 4)
        one.append(taken, Durability.FSYNC, lambda _answer: None)
        await append(one, [event(7)])
        assert numbers(await one.lease(1 << 20, _Held(b"parked", 1))) == [3, 5, 7]
        assert await lease_all(one) == []
        one.rewind()
        assert numbers(await lease_all(one)) == [1, 2, 4, 6]


async def test_arrivals_are_told_once_after_there_was_nothing(tmp_path: Path) -> None:
    async with spools.spool(tmp_path) as one:
        told: list[int] = []
        one.on_arrival(lambda: told.append(1))
        await append(one, [event(1)])
        await append(one, [event(2)])
        assert len(told) == 1
        await drain(one)
        await append(one, [event(3)])
        assert len(told) == 2


async def test_a_backlog_beyond_the_memory_tail_is_read_from_disk_in_order(tmp_path: Path) -> None:
    async with spools.spool(tmp_path, segment_size=2 << 20) as one:
        for start in range(0, 3000, 250):
            await append(one, [event(n, BIG) for n in range(start, start + 250)], Durability.WRITTEN)
        assert one.stats().segments > 3
        assert await drain(one) == list(range(3000))
        assert one.stats().queued_events == 0
        await one.checkpoint()
        assert one.stats().segments == 1


async def test_segments_are_deleted_only_by_the_checkpoint_that_covers_them(tmp_path: Path) -> None:
    async with spools.spool(tmp_path, segment_size=16384) as one:
        for number in range(12):
            await append(one, [event(number, BIG)])
        await drain(one)
        files = sorted((tmp_path / "spool" / "td").glob("*.segment"))
        assert len(files) > 2
        await one.checkpoint()
        assert sorted((tmp_path / "spool" / "td").glob("*.segment")) == files[-1:]


async def test_sequences_are_never_reused_after_everything_was_delivered(tmp_path: Path) -> None:
    async with spools.spool(tmp_path) as one:
        await append(one, [event(n) for n in range(5)])
        await drain(one)
    async with spools.spool(tmp_path) as two:
        await append(two, [event(5)])
        assert [span.first for span in await lease_all(two)] == [6]


async def test_remembered_values_survive_and_can_be_forgotten(tmp_path: Path) -> None:
    async with spools.spool(tmp_path) as one:
        one.remember("limit", {"max_events": 50})
        one.remember("gone", 1)
        one.remember("gone", None)
    async with spools.spool(tmp_path) as two:
        assert two.recall() == {"limit": {"max_events": 50}}


async def test_a_full_spool_refuses_and_names_the_key(tmp_path: Path) -> None:
    async with spools.spool(tmp_path, max_size=200_000) as one:
        busy = None
        while busy is None:
            taken = group([event(0, BIG)])
            busy = one.reserve(taken.size, 1)
            if busy is None:
                one.cancel(taken.size, 1)
                await append(one, [event(0, BIG)])
        assert (busy.destination, busy.limit) == ("td", "max_size")
        assert "destinations.td.max_size" in busy.message
        assert busy.retry_after_s > 0
        assert one.stats().bytes <= 200_000
        await drain(one)
        await one.checkpoint()
        assert one.reserve(BIG, 1) is None


async def test_a_request_larger_than_the_whole_limit_is_refused(tmp_path: Path) -> None:
    async with spools.spool(tmp_path, max_size=200_000, when_full="evict_oldest") as one:
        await append(one, [event(1)])
        busy = one.reserve(300_000, 1)
        assert busy is not None
        assert "more than destinations.td.max_size" in busy.message
        assert await drain(one) == [1]


async def test_a_reservation_that_is_cancelled_gives_its_room_back(tmp_path: Path) -> None:
    async with spools.spool(tmp_path, max_size=200_000) as one:
        assert one.reserve(150_000, 1) is None
        assert one.reserve(150_000, 1) is not None
        one.cancel(150_000, 1)
        assert one.reserve(150_000, 1) is None


async def test_limits_beyond_this_spool_are_asked(tmp_path: Path) -> None:
    one = spools.spool(tmp_path)
    one._space._room = lambda need: Busy("td", "min_free", f"no room for {need}", 7)
    async with one:
        busy = one.reserve(100, 1)
        assert busy is not None
        assert busy.limit == "min_free"


async def test_eviction_drops_the_oldest_counts_them_and_keeps_what_is_leased(tmp_path: Path) -> None:
    metrics = Metrics()
    async with spools.spool(tmp_path, max_size=400_000, when_full="evict_oldest", metrics=metrics) as one:
        await append(one, [event(0, BIG)])
        (leased,) = await one.lease(1, NOTHING)
        for number in range(1, 200):
            await append(one, [event(number, BIG)])
        stats = one.stats()
        evicted = stats.ledger["evicted"]
        assert evicted > 50
        assert metrics.dropped.at("td", "evicted").value == evicted
        assert stats.imbalance == 0
        await one.checkpoint()
        assert one.stats().bytes <= 400_000
        one.rewind()
        left = await drain(one)
        gone = sorted(set(range(1, 200)) - set(left))
        assert (left[0], left[-1]) == (1, 199)
        assert gone == list(range(gone[0], gone[0] + evicted))
        one.ack([leased], Outcome.DELIVERED)
        assert one.stats().ledger["delivered"] == len(left) + 1


async def test_an_episode_of_evictions_is_logged_once_when_it_begins_and_once_with_its_total(tmp_path: Path) -> None:
    with capture_logs() as lines:
        async with spools.spool(tmp_path, max_size=400_000, when_full="evict_oldest") as one:
            for number in range(200):
                await append(one, [event(number, BIG)])
            first = one.stats().ledger["evicted"]
            one._eviction.close()  # as after a minute without evictions
            for number in range(200, 300):
                await append(one, [event(number, BIG)])
            evicted = one.stats().ledger["evicted"]
    began = [line for line in lines if line["event"] == "spool_evicting"]
    ended = [line for line in lines if line["event"] == "spool_evicted"]
    assert len(began) == 2
    assert [line["events"] for line in ended] == [first, evicted - first]
    assert {line["log_level"] for line in (*began, *ended)} == {"error"}


async def test_a_late_ack_after_eviction_is_ignored(tmp_path: Path) -> None:
    async with spools.spool(tmp_path, segment_size=16384) as one:
        for number in range(8):
            await append(one, [event(number, BIG)])
        spans = await lease_all(one)
        one.release(spans)
        one.evict(1)
        evicted = one.stats().ledger["evicted"]
        assert evicted > 0
        one.ack(spans, Outcome.DELIVERED)
        assert one.stats().ledger == {**one.stats().ledger, "evicted": evicted, "delivered": 8 - evicted}


async def test_files_and_directories_are_private(tmp_path: Path) -> None:
    async with spools.spool(tmp_path) as one:
        await append(one, [event(1)])
        await one.checkpoint()
        for path in [tmp_path / "spool", *(tmp_path / "spool").rglob("*")]:
            assert path.stat().st_mode & 0o777 == (0o700 if path.is_dir() else 0o600), path


async def test_closing_releases_what_was_written_ahead(tmp_path: Path) -> None:
    async with spools.spool(tmp_path) as one:
        await append(one, [event(1)])
    (segment,) = (tmp_path / "spool" / "td").glob("*.segment")
    assert segment.stat().st_size < 2048


async def test_closing_refuses_what_comes_later_and_answers_who_waits_for_delivery(tmp_path: Path) -> None:
    one = spools.spool(tmp_path)
    await one.open()
    answers: list[Stored | Failed] = []
    taken = group([event(1)])
    one.reserve(taken.size, 1)
    one.append(taken, Durability.DELIVERED, answers.append)
    await one.close(one._clock.monotonic() + 5)
    await asyncio.sleep(0)
    assert answers == [COMMITTED, COMMITTED]
    busy = one.reserve(1, 1)
    assert busy is not None
    assert busy.limit == "closing"


async def test_the_age_of_the_oldest_record_is_known_without_reading_it(tmp_path: Path) -> None:
    async with spools.spool(tmp_path) as one:
        assert one.stats().oldest_accepted_at is None
        await append(one, [event(1)])
        (span,) = await lease_all(one)
        assert one.stats().oldest_accepted_at == pytest.approx(span.frame.accepted_at, abs=1)
        one.ack([span], Outcome.DELIVERED)
        assert one.stats().oldest_accepted_at is None


async def test_a_waiter_that_raises_costs_no_other_its_answer(tmp_path: Path) -> None:
    seen: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: seen.append(context["exception"]))

    def broken(_answer: Stored | Failed) -> None:
        raise ZeroDivisionError

    async with spools.spool(tmp_path) as one:
        taken = group([event(1)])
        one.reserve(taken.size, 1)
        one.append(taken, Durability.FSYNC, broken)
        assert await append(one, [event(2)]) == Stored(Durability.FSYNC)
        assert [type(problem) for problem in seen] == [ZeroDivisionError]


async def test_records_whose_waiter_raises_are_leased_all_the_same(tmp_path: Path) -> None:
    asyncio.get_running_loop().set_exception_handler(lambda _loop, _context: None)
    told = asyncio.Event()

    def broken(_answer: Stored | Failed) -> None:
        told.set()
        raise ZeroDivisionError

    async with spools.spool(tmp_path) as one:
        taken = group([event(1)])
        one.reserve(taken.size, 1)
        one.append(taken, Durability.FSYNC, broken)
        await told.wait()
        assert await drain(one) == [1]
        assert one.stats().queued_events == 0


async def test_a_waiter_for_delivery_that_raises_costs_no_record_its_ack(tmp_path: Path) -> None:
    seen: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: seen.append(context["exception"]))

    def broken(answer: Stored | Failed) -> None:
        if answer == Stored(Durability.DELIVERED):
            raise ZeroDivisionError

    async with spools.spool(tmp_path) as one:
        for number in (0, 2):
            taken = group([event(number)])
            one.reserve(taken.size, 1)
            one.append(taken, Durability.DELIVERED, broken)
            await append(one, [event(number + 1)], key=b"another")
        one.ack(await lease_all(one), Outcome.DELIVERED)
        one.rewind()
        assert await lease_all(one) == []
        assert one.stats().queued_events == 0
        await asyncio.sleep(0)
        assert [type(problem) for problem in seen] == [ZeroDivisionError] * 2
        shutil.copytree(tmp_path / "spool", tmp_path / "killed" / "spool")
    async with spools.spool(tmp_path / "killed") as two:
        assert await drain(two) == [], "every ack was in the journal"


async def test_a_lease_that_is_cancelled_leaks_no_record(tmp_path: Path) -> None:
    async with spools.spool(tmp_path) as one:
        await append(one, [event(n) for n in range(10)])
    async with spools.spool(tmp_path) as two:
        task = asyncio.ensure_future(two.lease(1 << 20, NOTHING))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await drain(two) == list(range(10))
