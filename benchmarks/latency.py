"""One connection: the median answer against the median of a bare commit of the same bytes, turn by turn."""

import os
import statistics
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

from benchmarks import load, subjects
from benchmarks.load import Load
from benchmarks.machine import DAEMON_CORE, need
from benchmarks.results import Bench, Row, at_most, told

SIZE = 480
"""Bytes of a frame with one stamped signal of 330 bytes."""
COMMITS = 2000


def run(bench: Bench) -> list[Row]:
    """Measure both in every round."""
    need("wrk", "taskset")
    answers: list[float] = []
    commits: list[float] = []
    for _ in range(bench.rounds):
        commits.append(_bare(bench))
        answers.append(_answer(bench))
        bench.say(f"1 connection: {answers[-1]:.3f} ms, bare commit {commits[-1]:.3f} ms")
    beyond = [answer - commit for answer, commit in zip(answers, commits, strict=True)]
    return [
        told("1 connection, fsync: p50", answers, "{:.3f} ms"),
        told(f"bare commit of {SIZE} bytes: p50", commits, "{:.3f} ms"),
        at_most("1 connection, fsync: p50 beyond the bare commit", beyond, 0.2, "{:.3f} ms"),
    ]


def _answer(bench: Bench) -> float:
    with subjects.scratch(bench.directory) as directory, ExitStack() as stack:
        to = stack.enter_context(subjects.receiver(directory))
        running = subjects.forwarder(stack, directory, "fsync", to)
        load.run(Load(1), url=running.url, seconds=1)
        answered = load.run(Load(1), url=running.url, seconds=bench.seconds)
        running.child.kill()
    return answered.p50_us / 1000


def _bare(bench: Bench) -> float:
    with subjects.scratch(bench.directory) as directory:
        command = ["taskset", "--cpu-list", str(DAEMON_CORE), sys.executable, "-m", "benchmarks.latency"]
        output = subprocess.run([*command, str(directory)], check=True, capture_output=True, text=True).stdout
    return float(output)


def commit(directory: Path) -> float:
    """Return the median of bare commits to a zero-written file in milliseconds."""
    descriptor = os.open(directory / "bare", os.O_RDWR | os.O_CREAT, 0o600)
    os.pwrite(descriptor, bytes(SIZE * COMMITS), 0)
    os.fdatasync(descriptor)
    data, times = os.urandom(SIZE), []
    for turn in range(COMMITS):
        started = time.perf_counter()
        os.pwritev(descriptor, [data], turn * SIZE, os.RWF_DSYNC)
        times.append(time.perf_counter() - started)
    os.close(descriptor)
    return statistics.median(times) * 1000


if __name__ == "__main__":
    print(commit(Path(sys.argv[1])))
