"""What a flusher relies on in any spool. Subclass it with a `spool` fixture that opens an empty spool and is committed
when `accept` returns; override `accept` where committing takes more than `append`."""

import asyncio
from collections.abc import Sequence

from forwarder.core.seams import Durability, Failed, Group, Outcome, Spool, Stored, Trait
from forwarder.core.spool.frame import Span

MUCH = 1 << 20


class Holding:
    def __init__(self, keys: Sequence[bytes] = (), order: Sequence[int] = ()) -> None:
        self.keys = set(keys)
        self.orders = set(order)

    def __bool__(self) -> bool:
        return bool(self.keys or self.orders)

    def key(self, batch_key: bytes) -> bool:
        return batch_key in self.keys

    def order(self, keys: tuple[int, ...]) -> bool:
        return bool(self.orders.intersection(keys))


NOTHING = Holding()


def sequences(spans: Sequence[Span]) -> list[int]:
    return [sequence for span in spans for sequence in range(span.first, span.end)]


class SpoolContract:
    async def accept(
        self, spool: Spool, events: Sequence[bytes], *, key: bytes = b"k", traits: list[Trait] | None = None
    ) -> None:
        done: asyncio.Future[Stored | Failed] = asyncio.get_running_loop().create_future()
        size = sum(map(len, events))
        assert spool.reserve(size, len(events)) is None
        group = Group(spool.destination, key, list(events), size, traits)
        spool.append(group, Durability.FSYNC, done.set_result)
        assert isinstance(await done, Stored)

    async def lease_all(self, spool: Spool, held: Holding = NOTHING) -> list[Span]:
        spans: list[Span] = []
        while step := await spool.lease(MUCH, held):
            spans += step
        return spans

    async def test_an_empty_spool_leases_nothing(self, spool: Spool) -> None:
        assert await spool.lease(MUCH, NOTHING) == []

    async def test_what_is_leased_is_the_bytes_that_were_accepted_in_order(self, spool: Spool) -> None:
        await self.accept(spool, [b'{"a":1}', b'{"b":22}'])
        await self.accept(spool, [b'{"c":3}'], key=b"other")
        spans = await self.lease_all(spool)
        assert [bytes(single.data) for span in spans for single in span.singles()] == [
            b'{"a":1}',
            b'{"b":22}',
            b'{"c":3}',
        ]
        assert sequences(spans) == list(range(spans[0].first, spans[0].first + 3))
        assert spans[-1].frame.batch_key == b"other"

    async def test_a_record_is_leased_once(self, spool: Spool) -> None:
        await self.accept(spool, [b"{}"])
        assert len(await self.lease_all(spool)) == 1
        spool.rewind()
        assert await self.lease_all(spool) == []

    async def test_a_lease_is_about_as_large_as_asked_for(self, spool: Spool) -> None:
        for _ in range(8):
            await self.accept(spool, [b"1" * 1000])
        first = await spool.lease(2500, NOTHING)
        assert 1 <= len(sequences(first)) < 8
        assert len(sequences(first + await self.lease_all(spool))) == 8

    async def test_released_records_come_back_in_order_after_rewind(self, spool: Spool) -> None:
        for n in range(4):
            await self.accept(spool, [b"%d" % n])
        spans = await self.lease_all(spool)
        base = spans[0].first
        singles = [single for span in spans for single in span.singles()]
        spool.release([singles[2], singles[0]])
        spool.rewind()
        assert sequences(await self.lease_all(spool)) == [base, base + 2]

    async def test_acked_records_never_come_back(self, spool: Spool) -> None:
        await self.accept(spool, [b"1", b"2", b"3"])
        spans = await self.lease_all(spool)
        one, two, three = (single for span in spans for single in span.singles())
        spool.ack([two], Outcome.DELIVERED)
        spool.release([one, three])
        spool.rewind()
        assert sequences(await self.lease_all(spool)) == [one.first, three.first]

    async def test_the_ledger_counts_each_outcome(self, spool: Spool) -> None:
        await self.accept(spool, [b"1", b"2", b"3"])
        spans = await self.lease_all(spool)
        one, two, three = (single for span in spans for single in span.singles())
        spool.ack([one, two], Outcome.DELIVERED)
        spool.ack([three], Outcome.DIED)
        stats = spool.stats()
        assert (stats.ledger["delivered"], stats.ledger["died"]) == (2, 1)
        assert (stats.queued_events, stats.imbalance) == (0, 0)

    async def test_held_keys_are_passed_over_until_rewind(self, spool: Spool) -> None:
        await self.accept(spool, [b"1"], key=b"a")
        await self.accept(spool, [b"2"], key=b"b")
        free = await self.lease_all(spool, Holding(keys=[b"a"]))
        assert [span.frame.batch_key for span in free] == [b"b"]
        spool.rewind()
        assert [span.frame.batch_key for span in await self.lease_all(spool)] == [b"a"]

    async def test_held_persons_are_passed_over_record_by_record(self, spool: Spool) -> None:
        traits = [Trait(0, (7,)), Trait(1, (8, 9)), Trait(0, (7, 8)), Trait(0, ())]
        await self.accept(spool, [b"1", b"2", b"3", b"4"], traits=traits)
        free = await self.lease_all(spool, Holding(order=[7]))
        assert [bytes(single.data) for span in free for single in span.singles()] == [b"2", b"4"]
        singles = [single for span in free for single in span.singles()]
        assert [single.order() for single in singles] == [(8, 9), ()]
        assert [single.aged() for single in singles] == [1, 0]
        spool.rewind()
        assert [bytes(s.data) for span in await self.lease_all(spool) for s in span.singles()] == [b"1", b"3"]

    async def test_an_arrival_after_an_empty_lease_is_announced(self, spool: Spool) -> None:
        arrived = asyncio.Event()
        spool.on_arrival(arrived.set)
        assert await spool.lease(MUCH, NOTHING) == []
        arrived.clear()
        await self.accept(spool, [b"1"])
        await asyncio.wait_for(arrived.wait(), 5)
        assert len(await self.lease_all(spool)) == 1
        arrived.clear()
        await self.accept(spool, [b"2"])
        await asyncio.wait_for(arrived.wait(), 5)
        assert len(await self.lease_all(spool)) == 1

    async def test_what_is_remembered_can_be_recalled_and_forgotten(self, spool: Spool) -> None:
        spool.remember("limit:6b", 4096)
        spool.remember("gone", 1)
        spool.remember("gone", None)
        assert dict(spool.recall()) == {"limit:6b": 4096}
