from pathlib import Path

import pytest

from benchmarks import backlog
from benchmarks.backlog import Backlog
from forwarder.core.lane.holds import HoldNothing
from forwarder.core.spool.frame import Span
from forwarder.metrics import Metrics
from forwarder.spool.spool import DiskSpool, SpoolSettings
from tests.support.hand_clock import HandClock


@pytest.mark.parametrize("per_frame", [1, 100])
async def test_a_backlog_is_what_the_spool_itself_would_have_written(tmp_path: Path, per_frame: int) -> None:
    directory = tmp_path / "spool" / "telemetrydeck"
    wanted = Backlog(events=250, per_frame=per_frame, event=backlog.signal, key=backlog.SIGNAL_KEY)
    backlog.write(directory, wanted)
    spool = DiskSpool(
        directory=directory,
        quarantine=tmp_path / "quarantine",
        destination="telemetrydeck",
        settings=SpoolSettings(),
        clock=HandClock(),
        metrics=Metrics(),
    )
    async with spool:
        assert (spool.stats().queued_events, spool.stats().imbalance) == (250, 0)
        spans: list[Span] = []
        while more := await spool.lease(1024 * 1024, HoldNothing()):
            spans += more
    payload = b",".join(bytes(span.data) for span in spans)
    assert payload == b",".join(backlog.signal(number) for number in range(1, 251))
