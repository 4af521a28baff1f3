"""Wake-ups of a daemon that has nothing to do."""

import time
from contextlib import ExitStack

from benchmarks import subjects
from benchmarks.results import Bench, Row, at_most

SETTLE_S = 4.0
WATCH_S = 10.0


def run(bench: Bench) -> list[Row]:
    """Count how often its threads went to sleep."""
    return [at_most("idle: wake-ups a second", [_round(bench) for _ in range(bench.rounds)], 2, "{:.1f}")]


def _round(bench: Bench) -> float:
    with subjects.scratch(bench.directory) as directory, ExitStack() as stack:
        to = stack.enter_context(subjects.receiver(directory))
        running = subjects.forwarder(stack, directory, "fsync", to)
        time.sleep(SETTLE_S)
        before = running.child.wake_ups()
        time.sleep(WATCH_S)
        after = running.child.wake_ups()
        running.child.kill()
    return (after - before) / WATCH_S
