"""A wall clock that jumps (libfaketime) neither expires the spool nor corrupts its order; P7 holds meanwhile."""

import http.client
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.clients import Numbered, Poster
from tests.support.processes import Daemon, ReceiverProcess

pytestmark = pytest.mark.prove

LIBRARIES = ("/usr/lib/x86_64-linux-gnu/faketime", "/usr/lib/aarch64-linux-gnu/faketime", "/usr/lib/faketime")
CONFIG = """
[listen]
http = ["$HTTP"]
udp = []
admin = "$ADMIN"

[spool]
directory = "$SPOOL"
min_free = "0B"
max_age = "1h"

[destinations.encharge]
kind = "encharge"
url = "$UPSTREAM/v1"
max_age = "1h"
profile_max_age = "1h"
expired = "drop"
retry = { initial = "50ms", max = "200ms" }
write_key = { file = "$KEYFILE" }
"""
DAYS = ("+0", "+30d", "-30d", "+2h", "-2h", "+0")


def library() -> Path:
    found = [Path(place, "libfaketimeMT.so.1") for place in LIBRARIES if Path(place, "libfaketimeMT.so.1").exists()]
    if not found:
        pytest.skip("needs libfaketime (apt-get install faketime)")
    return found[0]


def test_a_wall_clock_that_jumps_expires_nothing_and_keeps_the_order(tmp_path: Path) -> None:
    jump = tmp_path / "jump"
    jump.write_text("+0\n")
    key = tmp_path / "key"
    key.write_text("key\n")
    env = {
        "LD_PRELOAD": str(library()),
        "FAKETIME_TIMESTAMP_FILE": str(jump),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "DONT_FAKE_MONOTONIC": "1",
    }
    with (
        ReceiverProcess(tmp_path) as receiver,
        Daemon(tmp_path, CONFIG, env=env, UPSTREAM=receiver.url, KEYFILE=key) as daemon,
        closing(Poster(daemon.http)) as poster,
    ):
        receiver.order({"status": 503})
        for step, offset in enumerate(DAYS):
            jump.write_text(offset + "\n")
            for number in range(step * 20, step * 20 + 20):
                assert poster.post("/v1", [number], Numbered.encharge) == http.client.OK
            daemon.wait_for_line(lambda line: '"request_failed"' in line or "backing_off" in line or "503" in line)
        year = daemon.status()["now"]
        jump.write_text("-30d\n")
        assert daemon.status()["now"] < year - 29 * 86400, "the daemon does see the wrong time"
        daemon.restart()  # the clock is behind the newest record
        receiver.order()
        receiver.wait_for_numbers(range(len(DAYS) * 20))
        metrics = daemon.metrics()

    arrived = [Numbered.of(row.event) for row in receiver.events()]
    assert list(dict.fromkeys(arrived)) == sorted(set(arrived)), "one person's events stay in order"
    assert metrics['forwarder_ledger_events{destination="encharge",outcome="expired"}'] == 0
    assert metrics['forwarder_ledger_imbalance_events{destination="encharge"}'] == 0
