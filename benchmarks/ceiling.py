"""The door alone: nobody listens at the vendor's address, so nothing is delivered; the bare prototype beside it.

What `door` shows in addition is the price of delivering at the same time on the same core.
"""

from contextlib import ExitStack
from pathlib import Path

import msgspec

from benchmarks import rounds, subjects
from benchmarks.door import CASES, Case
from benchmarks.machine import need
from benchmarks.process import free_port
from benchmarks.results import Bench, Row, spread, told
from benchmarks.subjects import Running, Starter


def _undelivered(stack: ExitStack, directory: Path, durability: str, receiver_port: int) -> Running:
    """Start the daemon with the address of nobody."""
    running = subjects.forwarder(stack, directory, durability, free_port())
    return msgspec.structs.replace(running, receiver_port=receiver_port)


SUBJECTS: dict[str, Starter] = {"forwarder": _undelivered, "prototype": subjects.prototype}


def run(bench: Bench) -> list[Row]:
    """Measure the loads of `door`."""
    need("wrk", "taskset")
    return [row for case in CASES for row in _rows(bench, case)]


def _rows(bench: Bench, case: Case) -> list[Row]:
    rates: dict[str, list[float]] = {name: [] for name in SUBJECTS}
    for _ in range(bench.rounds):
        for name, samples in rounds.measure(bench, SUBJECTS, case.load, case.durability).items():
            rates[name] += [sample.events for sample in samples]
            bench.say(f"{case.name}, undelivered: {name} {spread(rates[name], '{:,.0f} events/s')}")
    share = rounds.ratios(rates["forwarder"], rates["prototype"])
    return [
        *(told(f"{case.name}, undelivered: {name}", each, "{:,.0f} events/s") for name, each in rates.items()),
        told(f"{case.name}, undelivered: against the prototype", share, "{:.2f}"),
    ]
