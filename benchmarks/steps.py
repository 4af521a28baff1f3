"""Python calls that delivering a batch takes, and the processor time of a commit: what each step costs by itself.

Calls are counted by cProfile on the loop's thread, over two backlogs: the longer one's minus the shorter one's, so that
the start is not among them. A commit is one group of 16 events handed to a real spool, each after the last one's end.
"""

import asyncio
import pstats
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import uvloop

from benchmarks import backlog, delivery, signals, subjects
from benchmarks.machine import DAEMON_CORE, need
from benchmarks.process import Child
from benchmarks.results import Bench, Row, told
from forwarder.app.clock import SystemClock
from forwarder.core.seams import Durability, Failed, Group, Stored
from forwarder.metrics import Metrics
from forwarder.spool.spool import DiskSpool, SpoolSettings

BATCH = 100
BATCHES = (500, 2500)
EVENTS = 16
COMMITS = 4000
WARM_UP = 200
LEVELS = (Durability.WRITTEN, Durability.FSYNC)


def run(bench: Bench) -> list[Row]:
    """Count the calls, and time commits at both durabilities."""
    need("taskset")
    return [
        *(_calls(bench, case) for case in delivery.CASES if case.destination == "telemetrydeck"),
        *(_commits(bench, level) for level in LEVELS),
    ]


def _calls(bench: Bench, case: delivery.Case) -> Row:
    few, many = (_called(bench, case, batches) for batches in BATCHES)
    each = (many - few) / (BATCHES[1] - BATCHES[0])
    return Row(case=f"{case.name}: Python calls a batch", measured=f"{each:,.0f} on the loop")


def _called(bench: Bench, case: delivery.Case, batches: int) -> int:
    """Return the calls of a daemon's life in which it delivered so many batches."""
    with subjects.scratch(bench.directory) as directory, ExitStack() as stack:
        to = stack.enter_context(subjects.receiver(directory))
        wanted = backlog.Backlog(
            events=batches * BATCH, per_frame=case.backlog.per_frame, event=backlog.signal, key=backlog.SIGNAL_KEY
        )
        backlog.write(directory / "spool" / "spool" / case.destination, wanted)
        config, calls = directory / "forwarder.toml", directory / "calls"
        config.write_text(delivery.config(to, str(directory)), encoding="utf-8")
        command = [sys.executable, "-m", "cProfile", "-o", str(calls), "-m", "forwarder", "run", "--config"]
        child = stack.enter_context(Child([*command, str(config)], core=DAEMON_CORE, log=directory / "daemon.log"))
        delivery.wait(to, wanted.events)
        child.stop()
        total = int(vars(pstats.Stats(str(calls)))["total_calls"])
    bench.say(f"{case.name}: {total:,} calls with {batches} batches")
    return total


def _commits(bench: Bench, level: Durability) -> Row:
    used: list[float] = []
    for _ in range(bench.rounds):
        with subjects.scratch(bench.directory) as directory:
            command = ["taskset", "--cpu-list", str(DAEMON_CORE), sys.executable, "-m", "benchmarks.steps"]
            command += [str(directory), level.name]
            used.append(float(subprocess.run(command, check=True, capture_output=True, text=True).stdout))
        bench.say(f"commit of {EVENTS} events, {level.word}: {used[-1]:.0f} µs")
    return told(f"commit of {EVENTS} events, {level.word}: processor", used, "{:.0f} µs")


# --- as a program: commits, one after another


async def commit(directory: Path, level: Durability) -> float:
    """Return the microseconds of processor time that a commit takes, both threads together."""
    spool = DiskSpool(
        directory=directory / "spool",
        quarantine=directory / "quarantine",
        destination="telemetrydeck",
        settings=SpoolSettings(durability="fsync" if level is Durability.FSYNC else "written"),
        clock=SystemClock(),
        metrics=Metrics(),
    )
    loop = asyncio.get_running_loop()
    events = [signals.signal(number) for number in range(EVENTS)]
    async with spool:
        for turn in range(WARM_UP + COMMITS):
            if turn == WARM_UP:
                before = time.process_time()
            done: asyncio.Future[Stored | Failed] = loop.create_future()
            _append(spool, events, level, done)
            await done
        return (time.process_time() - before) / COMMITS * 1e6


def _append(spool: DiskSpool, events: list[bytes], level: Durability, done: asyncio.Future[Stored | Failed]) -> None:
    size = signals.SIZE * EVENTS
    group = Group(destination=spool.destination, batch_key=backlog.SIGNAL_KEY, events=events, size=size)
    busy = spool.reserve(group.size, EVENTS)
    if busy is not None:
        raise RuntimeError(busy.message)
    spool.append(group, level, done.set_result)


if __name__ == "__main__":
    print(uvloop.run(commit(Path(sys.argv[1]), Durability[sys.argv[2]])))
