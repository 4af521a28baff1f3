"""Delivery from a backlog on disk, written before the daemon starts; nothing arrives meanwhile.

Settings are the defaults but for `LIMITS`, which hold the backlog, and Encharge's concurrency; a row says so.
"""

import time
from contextlib import ExitStack
from pathlib import Path

import msgspec

from benchmarks import backlog, receiver, subjects
from benchmarks.backlog import Backlog
from benchmarks.results import Bench, Row, at_least

PATIENCE_S = 120.0
CONCURRENCY = 32
"""Of Encharge: what a team sets whose vendor allows it; TelemetryDeck runs with its default, 4."""
LIMITS = ('max_size = "4GiB"', 'max_total = "8GiB"')
"""Of `[spool]`, in place of the defaults."""


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """One backlog."""

    name: str
    destination: str
    backlog: Backlog
    demanded: float


CASES = (
    Case(
        name="backlog, TelemetryDeck, 100-event frames, batches of 100",
        destination="telemetrydeck",
        backlog=Backlog(events=1_000_000, per_frame=100, event=backlog.signal, key=backlog.SIGNAL_KEY),
        demanded=400_000,
    ),
    Case(
        name="backlog, TelemetryDeck, single-event frames, batches of 100",
        destination="telemetrydeck",
        backlog=Backlog(events=500_000, per_frame=1, event=backlog.signal, key=backlog.SIGNAL_KEY),
        demanded=250_000,
    ),
    Case(
        name=f"backlog, Encharge, concurrency {CONCURRENCY}, calls",
        destination="encharge",
        backlog=Backlog(events=20_000, per_frame=1, event=backlog.person, key=b"", ordered=True),
        demanded=8_000,
    ),
)


def run(bench: Bench) -> list[Row]:
    """Measure every case."""
    rates: list[list[float]] = [[] for _ in CASES]
    for _ in range(bench.rounds):
        for case, seen in zip(CASES, rates, strict=True):
            seen.append(measure(bench, case))
            bench.say(f"{case.name}: {seen[-1]:,.0f} events/s")
    rows = [
        at_least(case.name, seen, case.demanded, "{:,.0f} events/s") for case, seen in zip(CASES, rates, strict=True)
    ]
    return [*rows, Row(case="backlog: settings that are not the default", measured=changed())]


def changed() -> str:
    """Return the settings that are not the default."""
    return ", ".join((*LIMITS, f"Encharge's concurrency = {CONCURRENCY}"))


def config(receiver_port: int, directory: str) -> str:
    """Return defaults, but for limits that hold the backlog, and an Encharge destination beside TelemetryDeck."""
    base = subjects.daemon_config(Path(directory), receiver_port=receiver_port, extra="\n".join(LIMITS))
    key = Path(directory, "key")
    key.write_text("benchmark", encoding="utf-8")
    key.chmod(0o600)
    return f"""{base}
[destinations.encharge]
kind = "encharge"
url = "http://127.0.0.1:{receiver_port}/v1"
write_key = {{ file = "{key}" }}
concurrency = {CONCURRENCY}
"""


def measure(bench: Bench, case: Case) -> float:
    """Return the events a second between the first request's arrival and the last one's."""
    with subjects.scratch(bench.directory) as directory, ExitStack() as stack:
        to = stack.enter_context(subjects.receiver(directory))
        backlog.write(directory / "spool" / "spool" / case.destination, case.backlog)
        running = subjects.start_daemon(stack, directory, config(to, str(directory)))
        counts = wait(to, case.backlog.events)
        running.child.kill()
    return counts.events / (counts.last_at - counts.first_at)


def wait(to: int, events: int) -> receiver.Counts:
    """Return the receiver's counts once it has so many events; exactly so many, or this is no measurement."""
    deadline = time.monotonic() + PATIENCE_S
    while (counts := receiver.counts(to)).events < events:
        if time.monotonic() > deadline:
            raise RuntimeError(f"only {counts.events} of {events} arrived in {PATIENCE_S:.0f} s")
        time.sleep(0.05)
    if counts.events != events or counts.broken:
        raise RuntimeError(f"{counts.events} events arrived, {events} were there; {counts.broken} bodies broken")
    return counts
