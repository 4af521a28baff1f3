"""Datagrams at a fixed rate, and a flood: what the kernel drops is counted, and nothing else is missing.

No drops means none in any round. What receive buffer the daemon got is told: root may exceed the kernel's limit.
"""

import re
import subprocess
import time
import urllib.request
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import msgspec

from benchmarks import subjects
from benchmarks.machine import LOAD_CORE, need
from benchmarks.results import Bench, Row, told

SOURCE = Path(__file__).with_name("udp_send.c")
RATE = 120_000
FLOOD = 1_000_000
RMEM_MAX = Path("/proc/sys/net/core/rmem_max")


class Outcome(msgspec.Struct, frozen=True):
    """One run."""

    sent: int
    rate: float
    received: int
    dropped: int
    core: float
    """Share of its core that the daemon used meanwhile."""
    buffer: int
    """Bytes of receive buffer that the daemon says it was granted."""

    @property
    def exact(self) -> bool:
        """Return whether every datagram was received or counted as dropped."""
        return self.sent == self.received + self.dropped


def run(bench: Bench) -> list[Row]:
    """Measure the demanded rate and a flood."""
    need("cc", "taskset")
    sender = bench.directory / "udp_send"
    subprocess.run(["cc", "-O2", "-o", str(sender), str(SOURCE)], check=True)
    steady = [measure(bench, sender, int(RATE * bench.seconds), RATE) for _ in range(bench.rounds)]
    floods = [measure(bench, sender, FLOOD, 0) for _ in range(bench.rounds)]
    for each in (*steady, *floods):
        bench.say(f"udp: sent {each.sent:,} at {each.rate:,.0f}/s, received {each.received:,}, drops {each.dropped:,}")
    return rows(steady, floods, limit=int(RMEM_MAX.read_text(encoding="ascii")))


def rows(steady: Sequence[Outcome], floods: Sequence[Outcome], *, limit: int) -> list[Row]:
    """Return the rows of the runs at the demanded rate and as fast as it goes; `limit` is net.core.rmem_max in bytes.

    The worst round decides: a drop in any of them is a drop.
    """
    dropped = max(each.dropped for each in steady)
    held = min(each.rate for each in steady) > 0.95 * RATE
    seen = ", ".join(f"{each.dropped:,}" for each in steady)
    return [
        Row(
            case=f"UDP, 330 bytes, {RATE:,}/s: kernel drops",
            demanded="0",
            measured=f"{seen} of {steady[0].sent:,}" + ("" if held else " (the sender did not hold the rate)"),
            reached=dropped == 0 and held,
        ),
        Row(
            case="UDP: received + counted drops = sent, always",
            demanded="exactly",
            measured=", ".join(str(each.sent - each.received - each.dropped) for each in (*steady, *floods)) + " off",
            reached=all(each.exact for each in (*steady, *floods)),
        ),
        Row(case="UDP: receive buffer", measured=granted(min(each.buffer for each in (*steady, *floods)), limit)),
        told(f"UDP, 330 bytes, {RATE:,}/s: of the core", [each.core for each in steady], "{:.0%}"),
        told("UDP, as fast as it goes: taken", [e.received / (e.sent / e.rate) for e in floods], "{:,.0f}/s"),
        told("UDP, as fast as it goes: sent", [each.rate for each in floods], "{:,.0f}/s"),
    ]


def granted(buffer: int, limit: int) -> str:
    """Return what was granted, and whether that took a privilege; `limit` is net.core.rmem_max, both in bytes."""
    how = "needs no privilege"
    if buffer > limit:
        how = "by SO_RCVBUFFORCE, which needs root or CAP_NET_ADMIN"
    return f"{buffer:,} bytes granted, net.core.rmem_max {limit:,}: {how}"


def measure(bench: Bench, sender: Path, count: int, rate: int) -> Outcome:
    """Send so many datagrams to a fresh daemon."""
    with subjects.scratch(bench.directory) as directory, ExitStack() as stack:
        to = stack.enter_context(subjects.receiver(directory))
        running = subjects.forwarder(stack, directory, "fsync", to)
        command = ["taskset", "--cpu-list", str(LOAD_CORE), str(sender), str(running.port), str(count), str(rate)]
        before, started = running.child.processor_s(), time.monotonic()
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
        core = (running.child.processor_s() - before) / (time.monotonic() - started)
        buffer = buffer_in(_get(running.admin_port, "/status"))
        received = dropped = -1
        deadline = time.monotonic() + 30
        while received + dropped < count and time.monotonic() < deadline:
            time.sleep(0.3)
            received, dropped = counted(running.admin_port)
        running.child.kill()
    return Outcome(int(output[0]), float(output[1]), received, dropped, core, buffer)


def counted(admin_port: int) -> tuple[int, int]:
    """Return how many events the daemon says it has received, and datagrams dropped by the kernel."""
    return counts(_get(admin_port, "/metrics").decode())


def counts(text: str) -> tuple[int, int]:
    """Return the same from the text of the metrics."""
    return _sum(text, "forwarder_received_events_total"), _sum(text, "forwarder_udp_kernel_drops_total")


def buffer_in(status: bytes) -> int:
    """Return the receive buffer of the UDP listener in bytes, from the answer of /status."""
    listeners = msgspec.json.decode(status, type=_Status).listeners
    return next(each.receive_buffer for each in listeners if each.kind == "udp")


class _Listener(msgspec.Struct):
    kind: str
    receive_buffer: int = 0


class _Status(msgspec.Struct):
    listeners: list[_Listener]


def _get(admin_port: int, path: str) -> bytes:
    with urllib.request.urlopen(f"http://127.0.0.1:{admin_port}{path}", timeout=10) as response:
        return bytes(response.read())


def _sum(text: str, name: str) -> int:
    return int(sum(float(value) for value in re.findall(rf"^{name}\{{[^}}]*\}} (\S+)$", text, re.MULTILINE)))
