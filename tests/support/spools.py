"""Builders for spools: a spool in a directory, events with a number, and everything that a spool still holds."""

import asyncio
import json
import time
from collections.abc import Sequence
from pathlib import Path

from forwarder.core.joining import Joining
from forwarder.core.lane.holds import HoldNothing
from forwarder.core.seams import Durability, Failed, Group, Outcome, Stored, Trait
from forwarder.core.spool.frame import Span
from forwarder.metrics import Metrics
from forwarder.spool.fs import Fs
from forwarder.spool.spool import DiskSpool, SpoolSettings

KEY = b"v2/app"


class SystemClock:
    """The real time; tests never look at it."""

    def monotonic(self) -> float:
        return time.monotonic()

    def wall(self) -> float:
        return time.time()


NOTHING = HoldNothing()


def spool(
    root: Path,
    fs: Fs | None = None,
    metrics: Metrics | None = None,
    joining: Joining | None = None,
    **settings: object,
) -> DiskSpool:
    return DiskSpool(
        directory=root / "spool" / "td",
        quarantine=root / "quarantine" / "td",
        destination="td",
        settings=SpoolSettings(**{"checkpoint_interval": 3600.0, **settings}),  # type: ignore[arg-type]
        clock=SystemClock(),
        metrics=metrics or Metrics(),
        joining=joining,
        fs=fs,
    )


def event(number: int, size: int = 0) -> bytes:
    return b'{"n":%d,"pad":"%s"}' % (number, b"x" * size)


def group(events: Sequence[bytes], key: bytes = KEY, traits: list[Trait] | None = None) -> Group:
    return Group("td", key, list(events), sum(map(len, events)), traits)


async def append(
    to: DiskSpool,
    events: Sequence[bytes],
    level: Durability = Durability.FSYNC,
    key: bytes = KEY,
    *,
    accepted_at: float | None = None,
) -> Stored | Failed:
    """Reserve, append, and wait for the answer."""
    taken = group(events, key)
    taken.accepted_at = accepted_at
    busy = to.reserve(taken.size, len(events))
    assert busy is None, busy
    answer: asyncio.Future[Stored | Failed] = asyncio.get_running_loop().create_future()
    to.append(taken, level, answer.set_result)
    return await answer


async def lease_all(of: DiskSpool) -> list[Span]:
    found: list[Span] = []
    while spans := await of.lease(1 << 20, NOTHING):
        found += spans
    return found


def events_of(spans: Sequence[Span]) -> list[bytes]:
    return [bytes(one.data) for span in spans for one in span.singles()]


def numbers(spans: Sequence[Span]) -> list[int]:
    return [json.loads(one)["n"] for one in events_of(spans)]


async def drain(of: DiskSpool) -> list[int]:
    """Deliver everything; return the events' numbers."""
    spans = await lease_all(of)
    of.ack(spans, Outcome.DELIVERED)
    return numbers(spans)


async def accepting(of: DiskSpool) -> None:
    """Wait until the disk's trouble, if any, is over: the spool probes by itself."""
    while True:
        busy = of.reserve(1, 1)
        if busy is None:
            of.cancel(1, 1)
        if busy is None or busy.limit != "disk":
            return
        await asyncio.sleep(0.005)
