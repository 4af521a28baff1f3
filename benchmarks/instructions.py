"""Instructions a request, an event, a datagram and a batch, in user space: callgrind over the shipped daemon.

Nothing is replaced: real sockets, uvloop, a real directory, every sync. Requests come in bursts, all of them there when
the loop looks; nothing is delivered meanwhile (nobody listens). Batches are sent from a backlog to a receiver that
stops the daemon by not answering. The kernel's part is not counted.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import msgspec

from benchmarks import backlog, bursts, callgrind, subjects, udp
from benchmarks.backlog import SIGNAL_KEY, Backlog
from benchmarks.bursts import Connections
from benchmarks.callgrind import Counter
from benchmarks.gate import Gate
from benchmarks.machine import need
from benchmarks.process import free_port
from benchmarks.results import Bench, Row, told

LOOKS = 5
"""Times that each thing is counted; there is no need of rounds."""
WARM_UP = 6
DATAGRAMS = 256
"""Sent at once."""
RUNS = 4
BATCH = 100
BATCHES = 40
"""Counted at once."""
FIRST_BATCHES = 40
"""Until the lane sends as many at once as it may."""
REST = 200
"""Batches that stay in the backlog, so that reading goes on to the last look."""
IN_FLIGHT = 4
"""The default `concurrency`."""


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """Requests that come at once, and in how many bursts they are counted."""

    name: str
    connections: int
    events: int = 1
    bursts: int = 8

    @property
    def counted(self) -> int:
        """Return the events between two looks."""
        return self.connections * self.events * self.bursts


LOADS = (
    Load(name="single, bursts of 256: a request", connections=256),
    Load(name="single, bursts of 32: a request", connections=32, bursts=32),
    Load(name="arrays of 100, bursts of 16: an event", connections=16, events=100),
)
FRAMES = {1: "single-event frames", BATCH: "100-event frames"}


class Counted(msgspec.Struct, frozen=True):
    """A program being counted, and the port it listens on."""

    counter: Counter
    pid: int
    port: int
    admin_port: int = 0


def run(bench: Bench) -> list[Row]:
    """Count the door, the prototype beside it, datagrams and delivery."""
    need("valgrind", "vgdb", "taskset")
    rows = _doors(bench)
    return [*rows, *(_delivery(bench, events, name) for events, name in FRAMES.items())]


def _doors(bench: Bench) -> list[Row]:
    with _daemon(bench, receiver_port=free_port()) as daemon:
        ours = [_counts(bench, "forwarder", daemon, load) for load in LOADS]
        datagrams = _datagrams(daemon)
    with _prototype(bench) as prototype:
        theirs = [_counts(bench, "prototype", prototype, load) for load in LOADS]
    rows: list[Row] = []
    for load, our, their in zip(LOADS, ours, theirs, strict=True):
        ratios = [mine / other for mine, other in zip(our, their, strict=True)]
        rows += [
            told(f"{load.name}: forwarder", our, "{:,.0f} instructions"),
            told(f"{load.name}: prototype", their, "{:,.0f} instructions"),
            told(f"{load.name}: of the prototype's", ratios, "{:.2f} ×"),
        ]
    return [*rows, told(f"a datagram, runs of {DATAGRAMS}", datagrams, "{:,.0f} instructions")]


def _counts(bench: Bench, name: str, program: Counted, load: Load) -> list[float]:
    with Connections(program.pid, program.port, load.connections, load.events) as connections:
        for _ in range(WARM_UP):
            connections.burst()
        counts = [_between(program.counter, connections.burst, load.bursts) / load.counted for _ in range(LOOKS)]
    bench.say(f"{load.name}: {name} {', '.join(f'{count:,.0f}' for count in counts)}")
    return counts


def _between(counter: Counter, act: Callable[[], None], times: int) -> int:
    counter.start()
    for _ in range(times):
        act()
    return counter.taken()


def _datagrams(daemon: Counted) -> list[float]:
    """Count datagrams; raises RuntimeError unless every one of them was received."""
    already, _ = udp.counted(daemon.admin_port)

    def send() -> None:
        bursts.datagrams(daemon.pid, daemon.port, DATAGRAMS)
        daemon.counter.settle()

    for _ in range(WARM_UP):
        send()
    counts = [_between(daemon.counter, send, RUNS) / RUNS / DATAGRAMS for _ in range(LOOKS)]
    received, dropped = udp.counted(daemon.admin_port)
    if received - already != (sent := (WARM_UP + RUNS * LOOKS) * DATAGRAMS):
        raise RuntimeError(f"{received - already} of {sent} datagrams were received, the kernel dropped {dropped}")
    return counts


def _delivery(bench: Bench, per_frame: int, name: str) -> Row:
    """Count batches of a backlog of TelemetryDeck signals."""
    events = (FIRST_BATCHES + LOOKS * BATCHES + REST) * BATCH
    wanted = Backlog(events=events, per_frame=per_frame, event=backlog.signal, key=SIGNAL_KEY)
    with Gate() as gate, _daemon(bench, receiver_port=gate.port, wanted=wanted) as daemon:
        gate.let(FIRST_BATCHES, waiting=IN_FLIGHT)

        def deliver() -> None:
            gate.let(BATCHES, waiting=IN_FLIGHT)

        counts = [_between(daemon.counter, deliver, 1) / BATCHES for _ in range(LOOKS)]
    bench.say(f"{name}: {', '.join(f'{count:,.0f}' for count in counts)}")
    return told(f"a batch of {BATCH} delivered, {name}", counts, "{:,.0f} instructions")


@contextmanager
def _daemon(bench: Bench, *, receiver_port: int, wanted: Backlog | None = None) -> Iterator[Counted]:
    with subjects.scratch(bench.directory) as directory, ExitStack() as stack:
        if wanted is not None:
            backlog.write(directory / "spool" / "spool" / "telemetrydeck", wanted)
        config = directory / "forwarder.toml"
        text = subjects.daemon_config(directory, receiver_port=receiver_port)
        config.write_text(text, encoding="utf-8")
        port, admin = (int(subjects.port_in(text, key)) for key in ("http = [", "admin = "))
        daemon = _counted(stack, directory, port, "forwarder", "run", "--config", str(config))
        yield msgspec.structs.replace(daemon, admin_port=admin)


@contextmanager
def _prototype(bench: Bench) -> Iterator[Counted]:
    with subjects.scratch(bench.directory) as directory, ExitStack() as stack:
        port = free_port()
        yield _counted(stack, directory, port, "benchmarks.prototype", str(port), str(directory), "fsync")


def _counted(stack: ExitStack, directory: Path, port: int, module: str, *arguments: str) -> Counted:
    child = stack.enter_context(callgrind.child(module, *arguments, directory=directory))
    stack.callback(child.kill)
    child.wait_for_port(port, patience_s=callgrind.START_S)
    return Counted(Counter(child, directory), child.pid, port)
