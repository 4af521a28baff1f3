"""The door alone: nobody listens at the vendor's address, so nothing is delivered; the bare prototype beside it.

What `door` shows in addition is the price of delivering at the same time on the same core.
"""

from contextlib import ExitStack
from pathlib import Path

from benchmarks import door, subjects
from benchmarks.door import CASES, Case
from benchmarks.machine import need
from benchmarks.process import free_port
from benchmarks.results import Bench, Row, told
from benchmarks.subjects import Running, Starter


def _undelivered(stack: ExitStack, directory: Path, durability: str, receiver_port: int) -> Running:
    """Start the daemon with the address of nobody."""
    del receiver_port
    return subjects.forwarder(stack, directory, durability, free_port())


SUBJECTS: dict[str, Starter] = {"forwarder": _undelivered, "prototype": subjects.prototype}


def run(bench: Bench) -> list[Row]:
    """Measure the loads of `door`, order alternating."""
    need("wrk", "taskset")
    return [row for case in CASES for row in _rows(bench, case)]


def _rows(bench: Bench, case: Case) -> list[Row]:
    rates: dict[str, list[float]] = {name: [] for name in SUBJECTS}
    for turn in range(bench.rounds):
        for name in list(SUBJECTS)[:: 1 if turn % 2 == 0 else -1]:
            sample = door.measure(bench, SUBJECTS[name], case.load, case.durability)
            rates[name].append(sample.events)
            bench.say(f"{case.name}, undelivered: {name} {sample.events:,.0f} events/s")
    ratios = [our / their for our, their in zip(rates["forwarder"], rates["prototype"], strict=True)]
    return [
        *(told(f"{case.name}, undelivered: {name}", each, "{:,.0f} events/s") for name, each in rates.items()),
        told(f"{case.name}, undelivered: against the prototype", ratios, "{:.2f}"),
    ]
