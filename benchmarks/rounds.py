"""One round: several subjects under the same load, second by second in turn.

A machine whose speed changes within seconds does not change it for one of them alone that way. All are started at
once, each on an empty directory with a receiver of its own; who is not under load is stopped (SIGSTOP), so that what it
would do on its own, like delivering what it has queued, takes nothing from the others.
"""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack

import msgspec

from benchmarks import load, receiver, subjects
from benchmarks.load import Load
from benchmarks.results import Bench
from benchmarks.subjects import Running, Starter

SLICE_S = 1.0
"""The shortest time that wrk knows. Neighbours differ by a third: the median of few slices says little."""


class Sample(msgspec.Struct, frozen=True):
    """One subject under load for one slice."""

    events: float
    """Answered a second."""
    delivered: float
    """Share of the arrivals that the receiver got within the same time."""
    p99_ms: float
    processor_us: float
    """Processor time an event."""


Samples = dict[str, list[Sample]]
"""Of each subject, slice by slice: those of one index are neighbours in time."""


def measure(bench: Bench, starters: Mapping[str, Starter], wanted: Load, durability: str) -> Samples:
    """Return what each subject does in `bench.seconds` under load, in slices of a second, after one that warms up."""
    with subjects.scratch(bench.directory) as directory, ExitStack() as stack:
        running: dict[str, Running] = {}
        for name, start in starters.items():
            home = directory / name
            home.mkdir()
            running[name] = start(stack, home, durability, stack.enter_context(subjects.receiver(home)))
            _slice(running[name], wanted)
        samples: Samples = {name: [] for name in starters}
        for turn in range(max(1, round(bench.seconds / SLICE_S))):
            for name in list(starters)[:: 1 if turn % 2 == 0 else -1]:
                samples[name].append(_slice(running[name], wanted))
        for each in running.values():
            if broken := receiver.counts(each.receiver_port).broken:
                raise RuntimeError(f"{broken} bodies arrived broken")
            each.child.kill()
    return samples


def _slice(running: Running, wanted: Load) -> Sample:
    """Put one subject under load; it is stopped again afterwards."""
    delivered = receiver.counts(running.receiver_port).events
    used_s = running.child.processor_s()
    with running.child.going():
        answered = load.run(wanted, url=running.url, seconds=SLICE_S)
    events = answered.requests * wanted.events
    return Sample(
        events=answered.per_second * wanted.events,
        delivered=(receiver.counts(running.receiver_port).events - delivered) / events,
        p99_ms=answered.p99_us / 1000,
        processor_us=(running.child.processor_s() - used_s) / events * 1e6,
    )


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> list[float]:
    """Return ours in theirs, neighbour by neighbour."""
    return [our / their for our, their in zip(ours, theirs, strict=True)]
