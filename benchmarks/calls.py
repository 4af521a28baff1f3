"""Where the time goes: system calls a request by `strace -c`, and processor time a request, under each load."""

import subprocess
from contextlib import ExitStack

from benchmarks import load, subjects
from benchmarks.door import CASES, Case
from benchmarks.machine import LOAD_CORE, need
from benchmarks.results import Bench, Row

SHOWN = 6


def run(bench: Bench) -> list[Row]:
    """Count for the three fsync cases."""
    need("wrk", "taskset", "strace")
    return [_row(bench, case) for case in CASES if case.durability == "fsync"]


def _row(bench: Bench, case: Case) -> Row:
    with subjects.scratch(bench.directory) as directory, ExitStack() as stack:
        to = stack.enter_context(subjects.receiver(directory))
        running = subjects.forwarder(stack, directory, case.durability, to)
        load.run(case.load, url=running.url, seconds=1)
        before = running.child.processor_s()
        plain = load.run(case.load, url=running.url, seconds=bench.seconds)
        used = (running.child.processor_s() - before) / plain.requests * 1e6
        table = directory / "strace"
        tracer = subprocess.Popen(
            ["taskset", "-c", str(LOAD_CORE), "strace", "-f", "-c", "-o", str(table), "-p", str(running.child.pid)],
            stderr=subprocess.DEVNULL,
        )
        traced = load.run(case.load, url=running.url, seconds=bench.seconds)
        tracer.terminate()
        tracer.wait()
        found = counts(table.read_text(encoding="utf-8"))
        running.child.kill()
    calls = ", ".join(f"{name} {count / traced.requests:.2f}" for name, count in found[:SHOWN])
    return Row(case=f"{case.name}: a request", measured=f"{used:.0f} µs processor; system calls: {calls}")


def counts(table: str) -> list[tuple[str, int]]:
    """Return the calls of strace's summary, most frequent first."""
    found = []
    for line in table.splitlines():
        fields = line.split()
        if len(fields) >= 5 and fields[3].isdigit() and fields[-1] != "total":
            found.append((fields[-1], int(fields[3])))
    return sorted(found, key=lambda each: -each[1])
