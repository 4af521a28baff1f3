"""Every case by name: what it measures and how it is called."""

from collections.abc import Callable

import msgspec

from benchmarks import (
    calls,
    ceiling,
    delivery,
    door,
    idle,
    instructions,
    latency,
    memory,
    metrics_cost,
    peers,
    sampling,
    steps,
    udp,
)
from benchmarks.results import Bench, Row


class Case(msgspec.Struct, frozen=True):
    """One case: what measures it, what it is, and options that suit it."""

    run: Callable[[Bench], list[Row]]
    what: str
    options: str = ""


CASES = {
    "door": Case(door.run, "HTTP against aiohttp.web and the bare prototype, delivering meanwhile", "--rounds 3"),
    "udp": Case(udp.run, "datagrams at 120 thousand a second and as fast as it goes", "--rounds 3 --seconds 2"),
    "latency": Case(latency.run, "one connection against a bare commit of the same bytes", "--rounds 3"),
    "delivery": Case(delivery.run, "a backlog on disk, to TelemetryDeck and Encharge", "--rounds 3"),
    "memory": Case(memory.run, "resident memory, idle and full; the stall by one 60 MiB body", "--rounds 1"),
    "idle": Case(idle.run, "wake-ups of a daemon with nothing to do", "--rounds 3"),
    "peers": Case(peers.run, "what a team would run otherwise: aiohttp with sqlite, syslog-ng, nsqd", "--rounds 1"),
    "ceiling": Case(ceiling.run, "`door` while nothing is delivered, against the prototype", "--rounds 3"),
    "calls": Case(calls.run, "system calls and processor time a request", "--seconds 2"),
    "profile": Case(sampling.run, "what holds the interpreter's lock, by part", "--seconds 5"),
    "instructions": Case(instructions.run, "instructions a request, event, datagram and batch (two minutes)"),
    "steps": Case(steps.run, "Python calls a batch delivered; processor time of a commit", "--rounds 5"),
    "metrics": Case(metrics_cost.run, "what the metrics cost a request", "--rounds 1"),
}


def explained() -> str:
    """Return a line and an example for each case."""
    width = max(map(len, CASES))
    lines = []
    for name, case in CASES.items():
        example = f"python -m benchmarks {name} {case.options}".rstrip()
        lines += [f"  {name:<{width}}  {case.what}", f"  {'':<{width}}    {example}"]
    return "\n".join(["cases:", *lines])
