"""One life of a process that works with a spool until it is killed, and the diary by which its lives are judged.

The diary is a file beside the spool (on another file system, where the spool's loses power), appended to with one
system call a line, so it tells what the process knew at the moment of its death:

    A n…    these events were acknowledged
    D n…    these were sent (leased, and about to be acked)
    K n…    the ack of these was given
    c i     checkpoint i begins; C i: it is durable
    X n     the event n came back altered
    Z {…}   the spool's figures at a good end
"""

import asyncio
import json
import os
import random
import re
import sys
import time
from collections.abc import Sequence
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path

import msgspec
import structlog

from forwarder.core.seams import Durability, Group, Outcome, Stored
from forwarder.errors import SpoolNotWritable
from forwarder.metrics import Metrics
from forwarder.spool.spool import DiskSpool, SpoolSettings

IN_FLIGHT = 4096
"""Bytes leased at once: what may be sent twice after a kill."""
LIFE = 1_000_000
"""Events of life k have numbers from k × LIFE on."""
_LAG = 0.5
"""How often the sender pauses, so that acknowledged events wait."""
_NUMBER = re.compile(rb'^\{"n":(\d+)')


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What a life does."""

    spool: Path
    diary: Path
    life: int = 0
    levels: tuple[Durability, ...] = (Durability.FSYNC,)
    producers: int = 3
    events: int | None = None
    """After so many events it ends well, everything delivered; None: it never ends by itself."""
    segment_size: int = 16 * 1024
    checkpoint_every: int = 8
    evict: bool = False


class _Clock:
    def monotonic(self) -> float:
        return time.monotonic()

    def wall(self) -> float:
        return time.time()


class _Nothing:
    def __bool__(self) -> bool:
        return False

    def key(self, batch_key: bytes) -> bool:
        return False

    def order(self, keys: tuple[int, ...]) -> bool:
        return False


def event(number: int) -> bytes:
    """Return the event that has this number; its length differs from number to number."""
    return b'{"n":%d,"pad":"%s"}' % (number, b"x" * (number * 7919 % 1500))


def open_spool(plan: Plan) -> DiskSpool:
    """Return the spool of a plan, not yet open."""
    return DiskSpool(
        directory=plan.spool / "spool" / "one",
        quarantine=plan.spool / "quarantine" / "one",
        destination="one",
        settings=SpoolSettings(
            segment_size=plan.segment_size,
            checkpoint_interval=0.02,
            max_size=512 * 1024 if plan.evict else 1 << 30,
            when_full="evict_oldest" if plan.evict else "refuse",
        ),
        clock=_Clock(),
        metrics=Metrics(),
    )


class _Life:
    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._diary = os.open(plan.diary, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._dice = random.Random()  # noqa: S311 (every life is another one)
        self._next = plan.life * LIFE
        self._stored = 0
        self._news = asyncio.Event()
        self._produced = False

    def _say(self, kind: str, *words: object) -> None:
        os.write(self._diary, f"{kind} {' '.join(map(str, words))}\n".encode())

    async def run(self) -> None:
        self._spool = open_spool(self._plan)
        try:
            await self._spool.open()
        except SpoolNotWritable:
            await asyncio.Event().wait()  # its disk is gone already: nothing is left but to be killed
        self._spool.on_arrival(self._news.set)
        async with asyncio.TaskGroup() as tasks:
            producers = [tasks.create_task(self._produce()) for _ in range(self._plan.producers)]
            tasks.create_task(self._consume())
            await asyncio.gather(*producers)
            self._produced = True
            self._news.set()
        await self._spool.checkpoint()
        stats = self._spool.stats()
        if stats.queued_events:
            self._say("!", self._spool._segments.sealed, self._spool._segments.active, self._spool._segments.foreign)
            self._say("!", self._spool._ledger.balance, self._spool._ledger.intervals, self._spool._leases._cursor)
            self._say("!", list(self._spool._leases._leased), self._spool._leases._blocked, self._spool._next)
        await self._spool.close(time.monotonic() + 10)
        self._say("Z", json.dumps({"queued": stats.queued_events, "imbalance": stats.imbalance, **stats.ledger}))

    async def _produce(self) -> None:
        limit = self._plan.events
        while limit is None or self._next < self._plan.life * LIFE + limit:
            numbers = range(self._next, self._next + self._dice.randint(1, 4))
            self._next = numbers.stop
            if await self._append(numbers):
                self._say("A", *numbers)

    async def _append(self, numbers: Sequence[int]) -> bool:
        events = [event(number) for number in numbers]
        key = b"key%d" % self._dice.randint(0, 2)
        group = Group("one", key, events, sum(map(len, events)))
        if self._spool.reserve(group.size, len(events)) is not None:
            await asyncio.sleep(0.005)
            return False
        answer: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        self._spool.append(group, self._dice.choice(self._plan.levels), answer.set_result)
        return isinstance(await answer, Stored)

    async def _consume(self) -> None:
        rounds = 0
        while True:
            spans = await self._spool.lease(IN_FLIGHT, _Nothing())
            if not spans and self._produced:
                return
            if not spans:
                self._news.clear()
                await self._news.wait()
                continue
            numbers = [self._check(bytes(one.data)) for span in spans for one in span.singles()]
            self._say("D", *numbers)
            await asyncio.sleep(0)
            self._spool.ack(spans, Outcome.DELIVERED)
            self._say("K", *numbers)
            rounds += 1
            if not self._produced and self._dice.random() < _LAG:
                # what waits in the spool at the moment of death is what can be lost
                await asyncio.sleep(self._dice.uniform(0.0, 0.05))
            if rounds % self._plan.checkpoint_every == 0:
                await self._checkpoint(rounds)

    def _check(self, data: bytes) -> int:
        match = _NUMBER.match(data)
        number = int(match[1]) if match else -1
        if data != event(number):
            self._say("X", number)
        return number

    async def _checkpoint(self, name: int) -> None:
        self._say("c", name)
        await self._spool.checkpoint()
        if self._spool.stats().trouble is None:
            self._say("C", name)


def live(plan: Plan) -> None:
    """Live; called in a process of its own."""
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory())
    asyncio.run(_Life(plan).run())


def begin(plan: Plan) -> BaseProcess:
    """Start a life in a process forked from a small server, so that a birth takes milliseconds."""
    context = get_context("forkserver")
    context.set_forkserver_preload([__name__])
    process = context.Process(target=live, args=(plan,))
    process.start()
    return process


def let_work(process: BaseProcess, diary: Path, lines: int, then_s: float) -> None:
    """Return when the life has written so many more lines, and `then_s` later; it must not end by itself."""
    seen = diary.stat().st_size if diary.exists() else 0
    while lines and process.exitcode is None:
        process.join(0.002)
        if diary.exists():
            with diary.open("rb") as file:
                file.seek(seen)
                if file.read().count(b"\n") >= lines:
                    break
    process.join(then_s)
    assert process.exitcode is None, "it ended by itself"


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What the diary of all lives says."""

    lives: int
    acknowledged: int
    lost: list[int]
    altered: list[int]
    waiting: int
    """Acknowledged events that had not been sent when their life ended: the ones at stake."""
    twice: int
    """Events sent again by a later life."""
    most_twice: int
    """The most of them in one life."""
    acked_twice: list[int]
    """Events sent again though an earlier life had given their ack (a crash of the process must not do that)."""
    covered_twice: list[int]
    """Events sent again though a durable checkpoint covered their ack (nothing may do that)."""
    figures: dict[str, int]

    @property
    def words(self) -> str:
        """Return the line for the table of results."""
        return (
            f"{self.lives} lives, {self.acknowledged} events acknowledged, {self.waiting} times one was "
            f"not yet sent at a death, {len(self.lost)} lost, "
            f"{len(self.altered)} altered, {self.twice} sent twice (at most {self.most_twice} in one life), "
            f"of these {len(set(self.acked_twice))} acked before and {len(self.covered_twice)} covered by a checkpoint"
        )


def judge(diary: Path) -> Verdict:
    """Read the diary of all lives; the last one must have ended well."""
    acknowledged: set[int] = set()
    sent: set[int] = set()
    acked: set[int] = set()
    covered: set[int] = set()
    altered: list[int] = []
    again: dict[int, int] = {}
    acked_twice: list[int] = []
    covered_twice: list[int] = []
    figures: dict[str, int] = {}
    waiting = 0
    for life, lines in enumerate(_lives(diary)):
        sent_now: set[int] = set()
        acked_now: set[int] = set()
        begun: dict[str, set[int]] = {}
        covered_now: set[int] = set()
        for kind, _, rest in (line.partition(" ") for line in lines):
            numbers = {int(word) for word in rest.split()} if kind in "ADKX" else set()
            match kind:
                case "A":
                    acknowledged |= numbers
                case "D":
                    sent_now |= numbers
                case "K":
                    acked_now |= numbers
                case "X":
                    altered += numbers
                case "c":
                    begun[rest] = set(acked_now)
                case "C":
                    covered_now |= begun[rest]
                case "Z":
                    figures = json.loads(rest)
        again[life] = len(sent_now & sent)
        acked_twice += sent_now & acked
        covered_twice += sent_now & covered
        sent |= sent_now
        waiting += len(acknowledged - sent)
        acked |= acked_now
        covered |= covered_now
    return Verdict(
        lives=len(again),
        acknowledged=len(acknowledged),
        lost=sorted(acknowledged - sent),
        altered=altered,
        waiting=waiting,
        twice=sum(again.values()),
        most_twice=max(again.values(), default=0),
        acked_twice=acked_twice,
        covered_twice=covered_twice,
        figures=figures,
    )


def _lives(diary: Path) -> list[list[str]]:
    """Return the whole lines of each life; `kill` writes a line `-` after each."""
    lives: list[list[str]] = [[]]
    for line in diary.read_text().splitlines():
        if line == "-":
            lives.append([])
        elif line:
            lives[-1].append(line)
    return [lines for lines in lives if lines]


def bury(diary: Path) -> None:
    """Note that a life has ended."""
    with diary.open("a") as file:
        file.write("-\n")


if __name__ == "__main__":
    live(msgspec.json.decode(sys.argv[1], type=Plan, dec_hook=lambda kind, value: kind(value)))
