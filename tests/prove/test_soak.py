"""P1, P2, P9: minutes of load with kills, faults of the vendor, evictions and replays; in the end everything adds up.

FORWARDER_SOAK_S is how long (default: 60 seconds).
"""

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.clients import Numbered, Pounder
from tests.support.processes import Daemon, ReceiverProcess

pytestmark = pytest.mark.prove

SECONDS = float(os.environ.get("FORWARDER_SOAK_S", "60"))
CONFIG = """
[listen]
http = ["$HTTP"]
udp = []
admin = "$ADMIN"
max_event = "64KiB"

[spool]
directory = "$SPOOL"
min_free = "0B"
segment_size = "256KiB"
checkpoint_interval = "200ms"

[destinations.telemetrydeck]
kind = "telemetrydeck"
url = "$UPSTREAM"
max_size = "2MiB"
when_full = "evict_oldest"
flush = { interval = "100ms" }
retry = { initial = "50ms", max = "500ms" }

[destinations.encharge]
kind = "encharge"
url = "$UPSTREAM/v1"
write_key = { file = "$KEYFILE" }
retry = { initial = "50ms", max = "500ms" }
storm = { min = 1000000 }

[drain]
timeout = "5s"
"""
FAULTS: list[list[dict[str, Any]]] = [
    [],
    [{"status": 503}],
    [{"fail_rate": 0.3}],
    [{"latency": 0.3}],
    [{"refuse_types": ["numbered"], "refuse_status": 400, "vendor": "encharge"}],
]
MIB = 1024 * 1024


class Soak:
    def __init__(self, daemon: Daemon, receiver: ReceiverProcess) -> None:
        self.daemon = daemon
        self.receiver = receiver
        self.dice = random.Random()  # noqa: S311
        self.rss: list[int] = []
        self.kills = 0

    def round(self) -> None:
        """One fault of the vendor, a moment, and perhaps a kill, a stop or a replay."""
        self.receiver.order(*self.dice.choice(FAULTS))
        self.wait(self.dice.uniform(1.0, 3.0))
        self.rss.append(self.daemon.rss_bytes)
        match self.dice.randint(0, 3):
            case 0 | 1:
                self.daemon.kill9()
                self.kills += 1
                self.daemon.start()
            case 2:
                self.daemon.restart()
            case _:
                self.command("dead", "replay", "encharge", "--all")

    def wait(self, seconds: float) -> None:
        """Let the load go on for a while."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            time.sleep(0.05)

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "forwarder", *arguments, "--config", str(self.daemon.config)]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    def until(self, wanted: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + 120
        while not wanted():
            assert time.monotonic() < deadline, f"never {what}"
            time.sleep(0.2)

    def queued(self) -> float:
        return sum(value for name, value in self.daemon.metrics().items() if name.startswith("forwarder_spool_events"))


def test_p1_p2_a_soak_with_kills_faults_evictions_and_replays_adds_up_in_the_end(tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("key\n")
    with (
        ReceiverProcess(tmp_path) as receiver,
        Daemon(tmp_path, CONFIG, UPSTREAM=receiver.url, KEYFILE=key) as daemon,
    ):
        soak = Soak(daemon, receiver)
        pads = [
            Pounder(daemon.http, build=lambda n: Numbered.telemetrydeck(n, padding=800), batch=20),
            Pounder(
                daemon.http,
                path="/v1",
                build=lambda n: Numbered.encharge(n, person=f"p{n % 50}@example.com"),
                first=1_000_000_000,
                batch=1,
            ),
        ]
        for pounder in pads:
            pounder.start()
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            soak.round()
        many, singles = (pounder.stop() for pounder in pads)
        receiver.order()
        soak.until(lambda: soak.queued() == 0, "drained")
        soak.command("dead", "replay", "encharge", "--all")
        soak.until(lambda: soak.queued() == 0, "drained")
        report = {found["name"]: found for found in daemon.status()["destinations"]}
        assert daemon.terminate() == 0
        audit = soak.command("audit", "--json")

    arrived = receiver.numbers()
    ledger = report["telemetrydeck"]["spool"]["ledger"]
    print(  # noqa: T201 (the result)
        f"{SECONDS:.0f} s, {soak.kills} kills: {len(many) + len(singles)} acknowledged, {ledger['evicted']} evicted, "
        f"{report['encharge']['dead_letters']}, RSS {min(soak.rss) // MIB}..{max(soak.rss) // MIB} MiB"
    )
    assert audit.returncode == 0, audit.stdout + audit.stderr
    for line in audit.stdout.splitlines():
        found = json.loads(line)
        assert (found["imbalance"], found["dead_letter_imbalance"], found["queued"]) == (0, 0, 0)
    for found in report.values():
        assert found["spool"]["imbalance"] == 0
        assert found["dead_letter_imbalance"] == 0
        assert found["spool"]["ledger"]["unreadable"] == 0
    assert not singles - arrived, "where nothing may be evicted nothing acknowledged is missing"
    assert len(many - arrived) <= ledger["evicted"], "what is missing was evicted, and counted"
    assert max(soak.rss) < 120 * MIB
    assert soak.kills
