"""A destination's parts together: what one must know of the other at start."""

import shutil
from pathlib import Path

from forwarder.app.destination import LiveDestination
from forwarder.config.model import Destination, SpoolConfig
from forwarder.core.joining import Joining
from forwarder.core.seams import Outcome
from forwarder.metrics import Metrics
from forwarder.spool.directory import SpoolDirectory
from tests.app.test_replay import letter
from tests.support import spools
from tests.support.spools import SystemClock


def live(directory: SpoolDirectory) -> LiveDestination:
    return LiveDestination(
        Destination(name="td", kind="telemetrydeck", url="http://127.0.0.1:9"),
        SpoolConfig(directory=str(directory.root)),
        directory=directory,
        joining=Joining(),
        secret=lambda: None,
        clock=SystemClock(),
        metrics=Metrics(),
        dry_run=True,
    )


async def die(one: LiveDestination, event: bytes) -> int:
    """Accept an event, let it become a dead letter; return its sequence."""
    await spools.append(one.spool, [event])
    (span,) = await spools.lease_all(one.spool)
    await one.dead_letters.add([letter(span.first, bytes(span.data), span.frame.accepted_at)])
    one.spool.ack([span], Outcome.DIED)
    return span.first


async def test_letters_that_outlived_their_spool_swallow_no_letter_of_a_new_event(tmp_path: Path) -> None:
    directory = SpoolDirectory(tmp_path, max_total=1 << 40, min_free=0, version="1", clock=SystemClock())
    directory.open()
    async with live(directory) as one:
        old = [await die(one, spools.event(n)) for n in range(3)]
    shutil.rmtree(directory.spool("td"))
    async with live(directory) as two:
        new = await die(two, spools.event(99))
        assert new > max(old)
        kept = await two.dead_letters.read([*old, new])
        assert [found.event for found in kept] == [spools.event(n) for n in (0, 1, 2, 99)]
        assert two.spool.stats().imbalance == 0
    directory.close()
