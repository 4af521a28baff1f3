"""Whatever happened to a spool's files: once it has been drained nothing is queued, and that stays so after a restart.

A record that recovery counts but nobody ever leases again would wait for ever; lives, deaths and damage are drawn.
"""

import asyncio
import errno
import random
from pathlib import Path

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from forwarder.core.seams import Durability, Outcome
from forwarder.core.spool.frame import Span
from forwarder.spool.spool import DiskSpool
from tests.support import spools
from tests.support.fault_fs import FaultFs, Node
from tests.support.spools import NOTHING, event, group

ROOT = Path("/root")
_KEYS = (b"a", b"b", b"c")
_FORMAT = slice(8, 10)
"""Bytes of a header that say which version a file is of: a newer one stays queued on purpose."""


class Held(msgspec.Struct, frozen=True):
    """A lane that holds one batch key for now."""

    batch_key: bytes

    def __bool__(self) -> bool:
        return True

    def key(self, batch_key: bytes) -> bool:
        return batch_key == self.batch_key

    def order(self, keys: tuple[int, ...]) -> bool:
        return False


class Life:
    """One process: what it appends, leases, acks and gives back is luck."""

    def __init__(self, lots: random.Random, one: DiskSpool, fs: FaultFs) -> None:
        self._lots = lots
        self._one = one
        self._fs = fs
        self._leased: list[Span] = []

    async def live(self, turns: int) -> None:
        steps = (self._append, self._append, self._lease, self._ack, self._release, self._save, self._fail)
        for _ in range(turns):
            # up to three at once: commits, reads and checkpoints end while the others are under way
            together = self._lots.choices(steps, k=self._lots.randint(1, 3))
            await asyncio.gather(*(step() for step in dict.fromkeys(together)))

    async def _append(self) -> None:
        taken = []
        for _ in range(self._lots.randint(1, 3)):
            events = [event(n, self._lots.choice((0, 100, 3000))) for n in range(self._lots.randint(1, 4))]
            one = group(events, self._lots.choice(_KEYS))
            if self._one.reserve(one.size, len(events)) is None:
                answer: asyncio.Future[object] = asyncio.get_running_loop().create_future()
                self._one.append(one, self._lots.choice((Durability.WRITTEN, Durability.FSYNC)), answer.set_result)
                taken.append(answer)
        await asyncio.gather(*taken)

    async def _lease(self) -> None:
        held = self._lots.choice((NOTHING, Held(self._lots.choice(_KEYS))))
        taken = await self._one.lease(self._lots.choice((1, 5000, 1 << 20)), held)
        self._leased += taken

    async def _ack(self) -> None:
        singles = [one for span in self._leased for one in span.singles()]
        self._lots.shuffle(singles)
        cut = self._lots.randint(0, len(singles))
        self._one.ack(sorted(singles[:cut], key=lambda span: span.first), Outcome.DELIVERED)
        self._leased = singles[cut:]

    async def _release(self) -> None:
        self._one.release(self._leased)
        self._leased = []
        if self._lots.random() < 0.5:
            self._one.rewind()

    async def _save(self) -> None:
        await self._one.checkpoint()

    async def _fail(self) -> None:
        operation = self._lots.choice(("write", "sync", "create", "sync_directory", "truncate", "append", "replace"))
        self._fs.fail_once(operation, errno.EIO, nth=self._lots.randint(1, 4))

    async def drain(self) -> None:
        """Deliver everything: give back what was held, then lease to the end."""
        self._fs.once.clear()
        await spools.accepting(self._one)
        await self._release()
        self._one.rewind()
        while spans := await self._one.lease(self._lots.choice((1, 5000)), NOTHING):
            self._one.ack(spans, Outcome.DELIVERED)


def damage(fs: FaultFs, lots: random.Random) -> None:
    """Do one thing to one file."""
    path = lots.choice(sorted(fs.names_now))
    node = fs.names_now[path]
    match lots.choice(("flip", "flip", "cut", "zeros", "tail", "delete")):
        case "delete":
            del fs.names_now[path]
        case "cut":
            put(fs, path, node.data[: lots.randint(0, len(node.data))])
        case "zeros":
            at = lots.randint(0, len(node.data))
            put(fs, path, node.data[:at] + bytes(min(4096, len(node.data) - at)) + node.data[at + 4096 :])
        case "tail":
            put(fs, path, node.data + lots.choice((bytes(5000), lots.randbytes(300))))
        case _ if node.data:
            at = lots.randrange(len(node.data))
            put(fs, path, node.data[:at] + bytes([node.data[at] ^ (1 << lots.randrange(8))]) + node.data[at + 1 :])


def put(fs: FaultFs, path: Path, data: bytes | bytearray) -> None:
    changed = bytearray(data)
    if path.suffix == ".segment":
        changed[_FORMAT] = fs.names_now[path].data[_FORMAT][: len(changed[_FORMAT])]
    fs.names_now[path] = Node(bytes(changed))


async def lives(seed: int) -> None:
    lots = random.Random(seed)  # noqa: S311 (a test draws lots)
    fs = FaultFs(seed)
    for _ in range(lots.randint(1, 5)):
        one = spools.spool(ROOT, fs, segment_size=16384)
        await one.open()
        await Life(lots, one, fs).live(lots.randint(0, 25))
        old, fs = fs, lots.choice((FaultFs.reborn, FaultFs.power_cut))(fs)
        assert old.dead
        await one.close(one._clock.monotonic() + 10)
        for _ in range(lots.choice((0, 0, 1, 3))):
            if fs.names_now:
                damage(fs, lots)
    one = spools.spool(ROOT, fs, segment_size=16384)
    await one.open()
    last = Life(lots, one, fs)
    await last.live(lots.randint(0, 10))
    await last.drain()
    assert_empty(one)
    await one.close(one._clock.monotonic() + 10)
    again = spools.spool(ROOT, fs, segment_size=16384)
    await again.open()
    assert await again.lease(1, NOTHING) == []
    assert_empty(again)
    await again.checkpoint()
    assert again.stats().segments <= 1, "only the newest file stays, for its sequences"
    await again.close(again._clock.monotonic() + 10)


def assert_empty(one: DiskSpool) -> None:
    stats = one.stats()
    assert (stats.queued_events, stats.imbalance) == (0, 0), (one._segments.sealed, one._ledger.intervals, one.notes())


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.integers(0, 1 << 32))
def test_a_drained_spool_is_empty_whatever_was_done_to_its_files(seed: int) -> None:
    asyncio.run(lives(seed))
