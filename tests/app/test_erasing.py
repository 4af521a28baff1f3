"""Erasing beside what moves: burials that wait for the disk, replays under way."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from forwarder.app.erasing import Erasing, person_of
from forwarder.app.replay import Replay
from forwarder.config.model import DeadLetterLimits
from forwarder.core.lane.effect import Bury
from forwarder.core.seams import DeadLetter, Outcome
from forwarder.core.spool.frame import Span
from forwarder.errors import DiskTrouble
from forwarder.flusher.herald import Herald
from forwarder.flusher.undertaker import Undertaker
from forwarder.spool.dead_letters import Announcement, DiskDeadLetters
from forwarder.spool.directory import SpoolDirectory
from forwarder.spool.samples import RefusedSamples
from forwarder.vendors.encharge.delivery import Encharge
from tests.support import spools
from tests.support.hand_clock import HandClock
from tests.support.spools import SystemClock

ANNA = b'{"name":"x","user":{"email":"anna@example.com"},"n":1}'
BOB = b'{"name":"x","user":{"email":"bob@example.com"},"n":2}'


class GatedLetters(DiskDeadLetters):
    """Letters whose disk fails while `failing`, and that stop between the announcement of a replay and the append."""

    failing = False

    async def add(self, letters: Sequence[DeadLetter]) -> None:
        if self.failing:
            raise DiskTrouble(operation="write", path="dead", reason="test")
        await super().add(letters)

    async def announce(self, replay: Announcement | None) -> None:
        await super().announce(replay)
        if replay is not None:
            self.announced_now.set()
            await self.go_on.wait()

    def gate(self) -> None:
        self.announced_now = asyncio.Event()
        self.go_on = asyncio.Event()


class Place:
    """One destination's spool and letters with all that moves events between them."""

    def __init__(self, root: Path) -> None:
        clock = SystemClock()
        self.root = root
        self.spool = spools.spool(root)
        self.dead = GatedLetters(root / "dead" / "td", "td", DeadLetterLimits(), clock)
        self.replay = Replay(spool=self.spool, dead_letters=self.dead, vendor=Encharge(), clock=clock)
        self.undertaker = Undertaker(
            self.dead,
            clock=clock,
            herald=Herald("td", clock),
            buried=lambda spans, _reason: self.spool.ack(spans, Outcome.DIED),
            unerased=self.spool.unerased,
        )
        directory = SpoolDirectory(root, max_total=1 << 40, min_free=0, version="1", clock=HandClock())
        self.erasing = Erasing(
            directory=directory,
            live={"td": cast("Any", SimpleNamespace(spool=self.spool, dead_letters=self.dead))},
            samples=RefusedSamples(root / "refused", clock),
            clock=clock,
        )

    async def bury(self) -> Sequence[Span]:
        spans = await spools.lease_all(self.spool)
        order = Bury(spans=spans, reason="refused", status=400, answer="no", attempts=1)
        self.undertaker.bury(order)
        return spans

    async def bury_all(self) -> None:
        while self.undertaker.waiting:
            await self.undertaker._bury_some()

    async def erase(self) -> None:
        await self.erasing.run(person_of("email", "anna@example.com"), dry_run=False)

    def assert_erased_and_balanced(self) -> None:
        for path in self.root.rglob("*"):
            assert not path.is_file() or b"anna@example.com" not in path.read_bytes(), path
        stats, letters = self.spool.stats(), self.dead.status()
        assert stats.imbalance == 0
        assert stats.ledger["died"] == letters.present + letters.replayed + letters.purged


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    (tmp_path / "dead").mkdir()
    one = Place(tmp_path)
    async with one.dead, one.spool:
        yield one


async def test_a_letter_that_waits_to_be_written_is_not_written_after_its_person_was_erased(place: Place) -> None:
    await spools.append(place.spool, [ANNA, BOB])
    place.dead.failing = True
    await place.bury()
    assert not await place.undertaker._bury_some()
    await place.erase()
    place.dead.failing = False
    assert await place.undertaker._bury_some()
    assert place.undertaker.waiting == 0
    assert [letter.event for letter in await place.dead.read([1, 2])] == [BOB]
    assert place.spool.stats().ledger["erased"] == 1
    place.assert_erased_and_balanced()


async def test_a_burial_of_nobody_but_the_erased_person_writes_nothing(place: Place) -> None:
    await spools.append(place.spool, [ANNA])
    await place.bury()
    await place.erase()
    assert await place.undertaker._bury_some()
    assert place.dead.status().present == 0
    place.assert_erased_and_balanced()


async def test_an_erasure_beside_burials_in_whatever_order_they_come_leaves_nothing(place: Place) -> None:
    for _ in range(10):
        await spools.append(place.spool, [ANNA, BOB])
        await place.bury()
        await asyncio.gather(place.bury_all(), place.erase())
        place.assert_erased_and_balanced()


async def test_a_replay_under_way_does_not_carry_a_person_past_their_erasure(place: Place) -> None:
    await spools.append(place.spool, [ANNA, BOB])
    await place.bury()
    assert await place.undertaker._bury_some()
    place.dead.gate()
    replay = asyncio.create_task(place.replay.run([1, 2], keep_age=False))
    await place.dead.announced_now.wait()
    erase = asyncio.create_task(place.erase())
    while not (place.dead.moving._waiters or erase.done()):  # noqa: ASYNC110 (no event tells)
        await asyncio.sleep(0)
    place.dead.go_on.set()
    assert await replay == 2
    await erase
    place.assert_erased_and_balanced()
    assert spools.events_of(await spools.lease_all(place.spool)) == [BOB]
