"""The HTTP door against the same door on aiohttp and the bare prototype, interleaved, delivery going on.

A round measures each load on each subject, freshly started on an empty directory; every other round turns the order
around. Ratios are taken within a round.
"""

from collections.abc import Sequence
from contextlib import ExitStack

import msgspec

from benchmarks import load, receiver, subjects
from benchmarks.load import Load
from benchmarks.machine import need
from benchmarks.results import Bench, Row, at_least, at_most, told
from benchmarks.subjects import Starter

WARM_UP_S = 1.0
KEEPS_UP = 0.95
"""Delivered meanwhile, of what arrived: the rest is the batch being filled and the requests in flight."""


class Sample(msgspec.Struct, frozen=True):
    """One subject under one load."""

    events: float
    """Answered a second."""
    delivered: float
    """Share of the arrivals that the receiver got within the same time."""
    p99_ms: float


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
Samples = dict[str, list[Sample]]


def run(bench: Bench) -> list[Row]:
    """Measure every case and return its rows."""
    need("wrk", "taskset")
    measured: list[Samples] = [{name: [] for name in SUBJECTS} for _ in CASES]
    for turn in range(bench.rounds):
        names = list(SUBJECTS)[:: 1 if turn % 2 == 0 else -1]
        for case, samples in zip(CASES, measured, strict=True):
            for name in names:
                sample = measure(bench, SUBJECTS[name], case.load, case.durability)
                samples[name].append(sample)
                bench.say(f"{case.name}: {name} {sample.events:,.0f} events/s, p99 {sample.p99_ms:.1f} ms")
    return [row for case, samples in zip(CASES, measured, strict=True) for row in _rows(case, samples)]


def measure(bench: Bench, start: Starter, wanted: Load, durability: str) -> Sample:
    """Return what one subject does under one load."""
    with subjects.scratch(bench.directory) as directory, ExitStack() as stack:
        receiver_port = stack.enter_context(subjects.receiver(directory))
        running = start(stack, directory, durability, receiver_port)
        load.run(wanted, url=running.url, seconds=WARM_UP_S)
        before = receiver.counts(receiver_port).events
        answered = load.run(wanted, url=running.url, seconds=bench.seconds)
        counts = receiver.counts(receiver_port)
        running.child.kill()
    if counts.broken:
        raise RuntimeError(f"{counts.broken} bodies arrived broken")
    return Sample(
        answered.per_second * wanted.events,
        (counts.events - before) / (answered.requests * wanted.events),
        answered.p99_us / 1000,
    )


def _rows(case: Case, samples: Samples) -> list[Row]:
    ours = samples["forwarder"]
    rows = [told(f"{case.name}: {name}", _rates(each), "{:,.0f} events/s") for name, each in samples.items()]
    if case.of_aiohttp is not None:
        ratios = _ratios(ours, samples["aiohttp"])
        rows.append(at_least(f"{case.name}: against aiohttp.web", ratios, case.of_aiohttp, "{:.2f} ×"))
    ratios = _ratios(ours, samples["prototype"])
    rows.append(at_least(f"{case.name}: against the prototype", ratios, case.of_prototype, "{:.2f}"))
    shares = [min(sample.delivered, 1.0) for sample in ours]
    rows.append(at_least(f"{case.name}: delivered meanwhile", shares, case.delivered, "{:.0%}"))
    if case.p99_ms is not None:
        late = [sample.p99_ms for sample in ours]
        rows.append(at_most(f"{case.name}: p99 while delivering", late, case.p99_ms, "{:.1f} ms"))
    return rows


def _rates(samples: Sequence[Sample]) -> list[float]:
    return [sample.events for sample in samples]


def _ratios(ours: Sequence[Sample], theirs: Sequence[Sample]) -> list[float]:
    return [our.events / their.events for our, their in zip(ours, theirs, strict=True)]
