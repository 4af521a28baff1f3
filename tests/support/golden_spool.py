"""Writes the golden spool of the present format: `python -m tests.support.golden_spool tests/data/spool-v1.tar.gz`.

Run it once for each released format, and never again for an old one: later code must read what earlier code wrote. The
daemon dies without closing it, so that segments, journal and checkpoint are what a SIGKILL leaves.
"""

import asyncio
import shutil
import sys
import tarfile
import tempfile
from pathlib import Path

from forwarder.config.model import DeadLetterLimits
from forwarder.core.seams import DeadLetter, Durability, Failed, Group, Held, Outcome, Stored
from forwarder.core.spool.frame import Span
from forwarder.core.spool.ledger import FIRST
from forwarder.metrics import Metrics
from forwarder.spool.dead_letters import DiskDeadLetters
from forwarder.spool.spool import DiskSpool, SpoolSettings
from tests.support.hand_clock import HandClock

NAME = "telemetrydeck"
TOTAL, ACKED, DIED = 300, 100, 10
SETTINGS = SpoolSettings(segment_size=64 * 1024, max_size=512 * 1024)


def event(number: int) -> bytes:
    """Return an event of the golden spool."""
    return b'{"appID":"golden","type":"numbered","payload":{"number":"%d","padding":"%s"}}' % (number, b"x" * 150)


class Nothing:
    """Holds nothing (seams.Held)."""

    def __bool__(self) -> bool:
        return False

    def key(self, batch_key: bytes) -> bool:
        return False

    def order(self, keys: tuple[int, ...]) -> bool:
        return False


def disk_spool(root: Path, clock: HandClock) -> DiskSpool:
    """Return the spool in `root`, not opened."""
    return DiskSpool(
        directory=root / "spool" / NAME,
        quarantine=root / "quarantine" / NAME,
        destination=NAME,
        settings=SETTINGS,
        clock=clock,
        metrics=Metrics(),
    )


def dead_letters(root: Path, clock: HandClock) -> DiskDeadLetters:
    """Return the dead letters in `root`, not opened."""
    return DiskDeadLetters(root / "dead" / NAME, NAME, DeadLetterLimits(), clock)


async def lease_all(spool: DiskSpool) -> list[Span]:
    """Lease everything that is queued, as single events in order."""
    held: Held = Nothing()
    found: list[Span] = []
    while spans := await spool.lease(1 << 20, held):
        found += spans
    return [single for span in found for single in span.singles()]


async def write(root: Path) -> None:
    """Write 300 events of two batch keys; 100 are delivered, 10 die, and the process is gone."""
    clock = HandClock()
    spool = disk_spool(root, clock)
    await spool.open()
    for number in range(TOTAL):
        await _append(spool, number)
    spans = await lease_all(spool)
    spool.ack(spans[:ACKED], Outcome.DELIVERED)
    (root / "dead").mkdir()
    died = spans[ACKED : ACKED + DIED]
    async with dead_letters(root, clock) as letters:
        await letters.add([_letter(span, clock.wall()) for span in died])
    spool.ack(died, Outcome.DIED)
    shutil.copytree(root, root.with_name("killed"))
    await spool.close(clock.monotonic() + 10)


async def _append(spool: DiskSpool, number: int) -> None:
    body = event(number)
    answer: asyncio.Future[Stored | Failed] = asyncio.get_running_loop().create_future()
    group = Group(destination=NAME, batch_key=b"v2/golden-%d" % (number % 2), events=[body], size=len(body))
    assert spool.reserve(group.size, 1) is None
    spool.append(group, Durability.FSYNC, answer.set_result)
    assert isinstance(await answer, Stored)


def _letter(span: Span, now: float) -> DeadLetter:
    return DeadLetter(
        sequence=span.first,
        event=event(span.first - FIRST),
        batch_key=b"v2/golden",
        reason="refused",
        status=400,
        answer="golden",
        attempts=1,
        accepted_at=now,
        died_at=now,
    )


def main() -> None:
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory) / "live"
        root.mkdir()
        asyncio.run(write(root))
        with tarfile.open(sys.argv[1], "w:gz") as archive:
            archive.add(root.with_name("killed"), "spool-directory")


if __name__ == "__main__":
    main()
