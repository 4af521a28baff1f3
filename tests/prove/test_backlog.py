"""P3: a start on a backlog of 10 GiB takes about a second, and memory that does not depend on the backlog."""

import time
from array import array
from pathlib import Path

import pytest

from forwarder.core.spool import frame as frames
from forwarder.core.spool import segment
from forwarder.core.spool.frame import Frame
from forwarder.core.spool.segment import End, Header
from tests.support.processes import DAEMON, Daemon

pytestmark = pytest.mark.prove

CONFIG = """
[listen]
http = ["$HTTP"]
udp = []
admin = "$ADMIN"

[spool]
directory = "$SPOOL"
min_free = "0B"
max_size = "20GiB"
max_total = "40GiB"

[destinations.telemetrydeck]
kind = "telemetrydeck"
url = "http://127.0.0.1:9"
"""
GIB = 1024**3
EVENTS = 10_000
"""Events in one segment."""
LENGTH = 6_000
SALT = 4711


def fill(directory: Path, count: int) -> int:
    """Write `count` whole, valid segments; their payload is zeros, so that it takes no space. Return their bytes."""
    directory.mkdir(parents=True, mode=0o700)
    lengths = array("I", [LENGTH] * EVENTS)
    payload = bytes(EVENTS * (LENGTH + 1) - 1)
    previous = End()
    total = 0
    for number in range(1, count + 1):
        base = (number - 1) * EVENTS + 1
        frame = Frame(sequence=base, accepted_at=time.time(), batch_key=b"v2/app", lengths=lengths, payload=payload)
        header = Header(salt=SALT, number=number, base=base, created_at_ns=time.time_ns(), previous=previous)
        head, _ = frames.encode(frame, SALT)
        with directory.joinpath(f"{number:012d}.segment").open("wb") as file:
            file.write(segment.encode(header))
            file.write(head)
            end = file.tell() + len(payload)
            file.truncate(end)
        previous = End(number, end, base + EVENTS)
        total += end
    return total


def start(directory: Path, segments: int) -> tuple[float, int, int]:
    """Return (seconds until ready, resident bytes, bytes of the backlog) of a daemon on so many segments."""
    size = fill(directory / "spool" / "spool" / "telemetrydeck", segments)
    command = (*DAEMON[:-1], "--dry-run", DAEMON[-1])
    daemon = Daemon(directory, CONFIG, command=command)
    began = time.monotonic()
    with daemon:
        took = time.monotonic() - began
        queued = daemon.metrics()['forwarder_spool_events{destination="telemetrydeck"}']
        assert queued == segments * EVENTS
        return took, daemon.rss_bytes, size


def test_p3_a_start_on_10_gib_takes_about_a_second_and_no_memory(tmp_path: Path) -> None:
    small, large = tmp_path / "small", tmp_path / "large"
    small.mkdir()
    large.mkdir()
    took_small, rss_small, size_small = start(small, 2)
    took_large, rss_large, size_large = start(large, 180)
    print(f"{size_small / GIB:.1f} GiB: {took_small:.2f} s, {rss_small >> 20} MiB")  # noqa: T201 (the result)
    print(f"{size_large / GIB:.1f} GiB: {took_large:.2f} s, {rss_large >> 20} MiB")  # noqa: T201 (the result)
    assert size_large >= 10 * GIB
    assert took_large - took_small < 2.0
    assert rss_large - rss_small < 8 * 1024 * 1024
