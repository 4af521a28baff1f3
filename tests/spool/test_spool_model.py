"""The spool against a plain model, through crashes and faults, in whatever order hypothesis thinks of.

What is drawn never depends on the state: two threads make the order of disk operations vary from run to run.
"""

import asyncio
import errno
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from forwarder.core.seams import Durability, Outcome, Stored
from forwarder.core.spool.frame import Span
from tests.support import spools
from tests.support.fault_fs import FaultFs
from tests.support.spools import NOTHING, event, group

ROOT = Path("/root")
T = TypeVar("T")


class SpoolMachine(RuleBasedStateMachine):
    """`stored` are the events somebody was promised, by number; `ended` those that must not come again.

    `sequences` remembers under which sequence an event was seen: one sequence never stands for two events.
    """

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.number = 0
        self.events: dict[int, bytes] = {}
        self.stored: dict[int, Durability] = {}
        self.ended: dict[int, Outcome] = {}
        self.ended_before: set[int] = set()
        """Ended before a power cut: they may come again, or not."""
        self.sequences: dict[int, int] = {}
        self.leased: list[Span] = []

    def run(self, what: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(asyncio.wait_for(what, 20))

    @initialize(seed=st.integers(0, 1 << 20), evict=st.booleans())
    def begin(self, seed: int, *, evict: bool) -> None:
        self.evict = evict
        self.fs = FaultFs(seed)
        self.open()

    def open(self) -> None:
        policy = "evict_oldest" if self.evict else "refuse"
        size = 200_000 if self.evict else 1 << 30
        self.spool = spools.spool(ROOT, self.fs, segment_size=16384, max_size=size, when_full=policy)
        self.run(self.spool.open())

    async def _append(self, count: int, size: int, level: Durability, key: bytes) -> None:
        numbers = range(self.number, self.number + count)
        self.number += count
        events = [event(number, size) for number in numbers]
        self.events |= dict(zip(numbers, events, strict=True))
        taken = group(events, key)
        if self.spool.reserve(taken.size, count) is not None:
            return
        answer: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        self.spool.append(taken, level, answer.set_result)
        found = await answer
        if isinstance(found, Stored):
            self.stored |= dict.fromkeys(numbers, found.level)

    # ---- ordinary life

    @rule(
        count=st.integers(1, 5),
        size=st.sampled_from([0, 100, 3000, 9000]),
        level=st.sampled_from([Durability.WRITTEN, Durability.FSYNC]),
        key=st.sampled_from([b"a", b"b"]),
    )
    def append(self, count: int, size: int, level: Durability, key: bytes) -> None:
        self.run(self._append(count, size, level, key))

    @rule(sizes=st.lists(st.sampled_from([0, 100, 3000]), min_size=2, max_size=5))
    def append_together(self, sizes: list[int]) -> None:
        async def all_at_once() -> None:
            appends = (
                self._append(2, size, Durability.FSYNC, b"ab"[n % 2 : n % 2 + 1]) for n, size in enumerate(sizes)
            )
            await asyncio.gather(*appends)

        self.run(all_at_once())

    @rule(size=st.sampled_from([1, 5000, 1 << 20]))
    def lease(self, size: int) -> None:
        spans = self.run(self.spool.lease(size, NOTHING))
        for span in spans:
            self._see(span)
        self.leased += spans

    def _see(self, span: Span) -> None:
        for one, number in zip(span.singles(), spools.numbers([span]), strict=True):
            assert bytes(one.data) == self.events[number], "an event was altered"
            assert number not in self.ended, "an ended event came back"
            assert self.sequences.setdefault(one.first, number) == number, "a sequence stands for two events"

    @rule(pattern=st.integers(0, 255), outcome=st.sampled_from([Outcome.DELIVERED, Outcome.DIED]))
    def ack_some(self, pattern: int, outcome: Outcome) -> None:
        singles = [one for span in self.leased for one in span.singles()]
        done = [one for at, one in enumerate(singles) if pattern >> at % 8 & 1]
        self.leased = [one for at, one in enumerate(singles) if not pattern >> at % 8 & 1]
        self.spool.ack(done, outcome)
        self.ended |= dict.fromkeys(spools.numbers(done), outcome)

    @rule()
    def ack_all(self) -> None:
        self.spool.ack(self.leased, Outcome.DELIVERED)
        self.ended |= dict.fromkeys(spools.numbers(self.leased), Outcome.DELIVERED)
        self.leased = []

    @rule()
    def release(self) -> None:
        self.spool.release(self.leased)
        self.leased = []
        self.spool.rewind()

    @rule()
    def checkpoint(self) -> None:
        self.run(self.spool.checkpoint())

    # ---- ends of a process

    def _ended_process(self) -> None:
        self.leased = []

    @rule()
    def close_and_open(self) -> None:
        self.run(self.spool.close(self.spool._clock.monotonic() + 10))
        self.fs = self.fs.reborn()
        self._ended_process()
        self.open()

    @rule()
    def kill(self) -> None:
        """SIGKILL: what was written stays, acks included."""
        old, self.fs = self.spool, self.fs.reborn()
        if old._checkpointing._journal.missed:
            # the disk did not take the ack records
            self.ended_before |= self.ended.keys()
            self.ended = {}
        self.run(old.close(old._clock.monotonic() + 10))
        self._ended_process()
        self.open()

    @rule()
    def power_cut(self) -> None:
        """What was not synced is lost by luck: acks since the checkpoint (they come again), events below `fsync`."""
        old, self.fs = self.spool, self.fs.power_cut()
        self.run(old.close(old._clock.monotonic() + 10))
        self._ended_process()
        self.ended_before |= self.ended.keys()
        self.ended = {}
        self.stored = {n: level for n, level in self.stored.items() if level >= Durability.FSYNC}
        self.sequences = {s: n for s, n in self.sequences.items() if n in self.stored}
        self.open()

    # ---- faults

    @rule(
        operation=st.sampled_from(
            ["write", "sync", "create", "sync_directory", "truncate", "append", "replace", "rename"]
        ),
        nth=st.integers(1, 4),
        code=st.sampled_from([errno.EIO, errno.ENOSPC]),
    )
    def fail(self, operation: str, nth: int, code: int) -> None:
        self.fs.fail_once(operation, code, nth=nth)

    @rule()
    def heal(self) -> None:
        self.fs.once.clear()
        self.run(self._accepting())

    async def _accepting(self) -> None:
        await spools.accepting(self.spool)

    # ---- what always holds

    @invariant()
    def the_ledger_balances(self) -> None:
        if hasattr(self, "spool"):
            stats = self.spool.stats()
            assert stats.imbalance == 0
            assert stats.next_sequence - stats.first_sequence == stats.queued_events + sum(stats.ledger.values())

    def teardown(self) -> None:
        if hasattr(self, "spool"):
            self.heal()
            self.spool.release(self.leased)
            self.spool.rewind()
            left = self.run(spools.lease_all(self.spool))
            for span in left:
                self._see(span)
            found = spools.numbers(left)
            assert len(found) == len(set(found)), "an event was leased twice"
            missing = self.stored.keys() - self.ended.keys() - set(found) - self.ended_before
            gone = self.spool.stats().ledger
            assert len(missing) <= gone["evicted"], f"lost: {sorted(missing)}"
            assert gone["evicted"] == 0 or self.evict
            self.run(self.spool.close(self.spool._clock.monotonic() + 10))
        self.loop.close()


SpoolMachine.TestCase.settings = settings(
    max_examples=30,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
TestSpoolAgainstTheModel = SpoolMachine.TestCase
