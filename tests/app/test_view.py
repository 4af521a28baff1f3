"""What the view makes of a disk in trouble: refusing is one thing, an old segment that cannot be read another."""

import errno
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from forwarder.app.view import View
from forwarder.core.seams import ListenerStatus
from forwarder.metrics import Metrics
from forwarder.spool.directory import SpoolDirectory
from forwarder.spool.samples import RefusedSamples
from forwarder.spool.spool import DiskSpool
from tests.support import spools
from tests.support.fault_fs import FaultFs
from tests.support.hand_clock import HandClock
from tests.support.spools import append, event, lease_all

ROOT = Path("/root")


class OpenDoors:
    notes: Sequence[str] = ()

    def status(self) -> list[ListenerStatus]:
        return [ListenerStatus(label="127.0.0.1:8765", kind="http", accepting=True)]


def view(tmp_path: Path, spool: DiskSpool) -> View:
    clock = HandClock()
    directory = SpoolDirectory(tmp_path, max_total=1 << 40, min_free=0, version="1", clock=clock)
    directory.open()
    try:
        return View(
            destinations=cast("Any", {"td": SimpleNamespace(spool=spool)}),
            doors=cast("Any", OpenDoors()),
            directory=directory,
            metrics=Metrics(),
            samples=RefusedSamples(tmp_path / "refused", clock),
            clock=clock,
            notes=list,
        )
    finally:
        directory.close()


async def test_an_old_segment_that_cannot_be_read_does_not_make_it_unready_but_is_told(tmp_path: Path) -> None:
    fs = FaultFs()
    async with spools.spool(ROOT, fs) as one:
        await append(one, [event(1)])
    async with spools.spool(ROOT, fs) as two:
        fs.failing["read"] = errno.EIO
        assert await lease_all(two) == []
        seen = view(tmp_path, two)
        assert seen.not_accepting() is None
        assert "td: cannot read segment 1: Input/output error (since " in str(seen.degraded())
        await append(two, [event(2)])
        fs.failing.clear()
        two._leases.read_again()
        assert seen.degraded() is None


async def test_a_disk_that_takes_no_commit_makes_it_unready(tmp_path: Path) -> None:
    fs = FaultFs()
    async with spools.spool(ROOT, fs) as one:
        seen = view(tmp_path, one)
        assert seen.not_accepting() is None
        fs.failing["write"] = errno.EIO
        await append(one, [event(1)])
        assert "td: commit failed: Input/output error (since " in str(seen.not_accepting())
        assert seen.degraded() is None
        fs.failing.clear()
        await spools.accepting(one)
