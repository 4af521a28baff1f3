"""The HTTP door against the same door on aiohttp and the bare prototype, by turns each second, delivery going on."""

import msgspec

from benchmarks import rounds, subjects
from benchmarks.load import Load
from benchmarks.machine import need
from benchmarks.results import Bench, Row, at_least, at_most, spread, told
from benchmarks.rounds import Samples, ratios
from benchmarks.subjects import Starter

KEEPS_UP = 0.95
"""Delivered meanwhile, of what arrived: the rest is the batch being filled and the requests in flight."""


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """One load and what is demanded of it."""

    name: str
    load: Load
    durability: str = "fsync"
    of_aiohttp: float | None = None
    of_prototype: float
    delivered: float
    p99_ms: float | None = None


CASES = (
    Case(
        name="single, 256 connections, fsync",
        load=Load(256),
        of_aiohttp=5,
        of_prototype=0.85,
        delivered=KEEPS_UP,
        p99_ms=12,
    ),
    Case(name="single, 32 connections, fsync", load=Load(32), of_aiohttp=3, of_prototype=0.85, delivered=KEEPS_UP),
    Case(
        name="single, 32 connections, written",
        load=Load(32),
        durability="written",
        of_aiohttp=4,
        of_prototype=0.85,
        delivered=KEEPS_UP,
    ),
    Case(name="arrays of 100, 16 connections, fsync", load=Load(16, 100), of_prototype=0.7, delivered=0.2),
)
SUBJECTS: dict[str, Starter] = {
    "forwarder": subjects.forwarder,
    "prototype": subjects.prototype,
    "aiohttp": subjects.aiohttp_door,
}


def run(bench: Bench) -> list[Row]:
    """Measure every case and return its rows."""
    need("wrk", "taskset")
    measured: list[Samples] = [{name: [] for name in SUBJECTS} for _ in CASES]
    for _ in range(bench.rounds):
        for case, samples in zip(CASES, measured, strict=True):
            for name, each in rounds.measure(bench, SUBJECTS, case.load, case.durability).items():
                samples[name] += each
                bench.say(f"{case.name}: {name} {spread([sample.events for sample in each], '{:,.0f} events/s')}")
    return [row for case, samples in zip(CASES, measured, strict=True) for row in _rows(case, samples)]


def _rows(case: Case, samples: Samples) -> list[Row]:
    ours, bare = samples["forwarder"], samples["prototype"]
    rates = {name: [sample.events for sample in each] for name, each in samples.items()}
    rows = [told(f"{case.name}: {name}", each, "{:,.0f} events/s") for name, each in rates.items()]
    if case.of_aiohttp is not None:
        times = ratios(rates["forwarder"], rates["aiohttp"])
        rows.append(at_least(f"{case.name}: against aiohttp.web", times, case.of_aiohttp, "{:.2f} ×"))
    share = ratios(rates["forwarder"], rates["prototype"])
    rows.append(at_least(f"{case.name}: against the prototype", share, case.of_prototype, "{:.2f}"))
    used = ratios([sample.processor_us for sample in ours], [sample.processor_us for sample in bare])
    rows.append(told(f"{case.name}: processor an event, prototype = 1", used, "{:.2f}"))
    delivered = [min(sample.delivered, 1.0) for sample in ours]
    rows.append(at_least(f"{case.name}: delivered meanwhile", delivered, case.delivered, "{:.0%}"))
    if case.p99_ms is not None:
        late = [sample.p99_ms for sample in ours]
        rows.append(at_most(f"{case.name}: p99 while delivering", late, case.p99_ms, "{:.1f} ms"))
    return rows
