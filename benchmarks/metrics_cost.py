"""What the metrics cost a request: how often a request touches one, times what a touch takes, of a request's cost.

A round runs the same load on the plain daemon, for its processor time a request, and on one whose metrics count how
often they are touched (this module as a program). The difference between two daemons would drown in the noise of
either; the product does not. A scrape is told beside it: the loop does nothing else meanwhile.
"""

import http.client
import itertools
import runpy
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import msgspec

from benchmarks import load, subjects
from benchmarks.door import CASES, Case
from benchmarks.machine import DAEMON_CORE, need
from benchmarks.process import Child
from benchmarks.results import Bench, Row, at_most, told
from forwarder import metrics

NEGLIGIBLE = 0.02
TOUCHES = 200_000
SCRAPES = 20
ARRAYS_OR_FEW = 32
"""Cases of at most so many connections are measured: a single event each, and arrays."""


class Touches(msgspec.Struct):
    """How often metrics were touched: cells added to, histograms observed."""

    added: int = 0
    observed: int = 0


class Cost(msgspec.Struct, frozen=True, kw_only=True):
    """The metrics of one request."""

    touches: float
    share: float
    """Of its processor time."""
    scrape_ms: float


def run(bench: Bench) -> list[Row]:
    """Measure single events and arrays, both answered when synced."""
    need("wrk", "taskset")
    rows: list[Row] = []
    for case in CASES:
        if case.durability == "fsync" and case.load.connections <= ARRAYS_OR_FEW:
            rows += _rows(case.name, [_round(bench, case) for _ in range(bench.rounds)])
    return rows


def _rows(name: str, costs: list[Cost]) -> list[Row]:
    return [
        at_most(f"metrics, {name}: of a request", [cost.share for cost in costs], NEGLIGIBLE, "{:.2%}"),
        told(f"metrics, {name}: touched a request", [cost.touches for cost in costs], "{:.2f} times"),
        told(f"metrics, {name}: one scrape", [cost.scrape_ms for cost in costs], "{:.1f} ms"),
    ]


def _round(bench: Bench, case: Case) -> Cost:
    with _daemon(bench, "-m", "forwarder", "run", "--config") as (child, config):
        requests, used = _loaded(bench, case, child, config)
        scrape_ms = _scrape_ms(config)
    request_s = used / requests
    with _daemon(bench, "-m", "benchmarks.metrics_cost") as (child, config):
        requests, _ = _loaded(bench, case, child, config)
        child.stop()
        touches = msgspec.json.decode(_counted(config).read_bytes(), type=Touches)
    add_s, observe_s = _bare_s()
    cost = Cost(
        touches=(touches.added + touches.observed) / requests,
        share=(touches.added * add_s + touches.observed * observe_s) / requests / request_s,
        scrape_ms=scrape_ms,
    )
    bench.say(f"{case.name}: {request_s * 1e6:.0f} µs a request, {cost.touches:.2f} touches, {cost.share:.2%} of it")
    return cost


@contextmanager
def _daemon(bench: Bench, *command: str) -> Iterator[tuple[Child, Path]]:
    """Start `python COMMAND CONFIG`, all defaults, delivering."""
    with subjects.scratch(bench.directory) as directory, ExitStack() as stack:
        to = stack.enter_context(subjects.receiver(directory))
        config = directory / "forwarder.toml"
        config.write_text(subjects.daemon_config(directory, receiver_port=to), encoding="utf-8")
        log = directory / "daemon.log"
        child = stack.enter_context(Child([sys.executable, *command, str(config)], core=DAEMON_CORE, log=log))
        child.wait_for_port(_port(config, "http = ["))
        yield child, config


def _loaded(bench: Bench, case: Case, child: Child, config: Path) -> tuple[int, float]:
    """Return the requests answered and the processor time used for them, in seconds."""
    url = f"http://127.0.0.1:{_port(config, 'http = [')}"
    before = child.processor_s()
    answered = load.run(case.load, url=url, seconds=bench.seconds)
    return answered.requests, child.processor_s() - before


def _scrape_ms(config: Path) -> float:
    """Return how long one scrape takes, connection included."""
    connection = http.client.HTTPConnection("127.0.0.1", _port(config, "admin = "), timeout=10)
    took = []
    for _ in range(SCRAPES):
        started = time.perf_counter()
        connection.request("GET", "/metrics")
        connection.getresponse().read()
        took.append(time.perf_counter() - started)
    connection.close()
    return statistics.median(took) * 1000


def _port(config: Path, key: str) -> int:
    """Return the port of the address that follows `key`."""
    line = config.read_text(encoding="utf-8").partition(key)[2].partition("\n")[0]
    return int(line.rpartition(":")[2].strip('"]'))


def _bare_s() -> tuple[float, float]:
    """Return the processor seconds of adding to a cell, and of observing a histogram."""
    cell, histogram = metrics.Cell(), metrics.Histogram(metrics.LATENCY_BOUNDS)
    started = time.process_time()
    for _ in itertools.repeat(None, TOUCHES):
        cell.value += 1
    added = time.process_time()
    for _ in itertools.repeat(None, TOUCHES):
        histogram.observe(0.003)
    return (added - started) / TOUCHES, (time.process_time() - added) / TOUCHES


# --- as a program: the daemon with metrics that count


def _counted(config: Path) -> Path:
    return config.with_name("touches.json")


def main() -> None:
    """Run the daemon on the configuration named first; write the touches beside it at the end."""
    config = Path(sys.argv[1])
    touches = Touches()

    class CountingCell(metrics.Cell):
        __slots__ = ("_value",)

        @property
        def value(self) -> float:
            return self._value

        @value.setter
        def value(self, value: float) -> None:
            touches.added += 1
            self._value = value

    class CountingHistogram(metrics.Histogram):
        __slots__ = ()

        def observe(self, value: float, times: int = 1) -> None:
            touches.observed += 1
            super().observe(value, times)

    vars(metrics).update(Cell=CountingCell, Histogram=CountingHistogram)
    sys.argv[:] = ["forwarder", "run", "--config", str(config)]
    try:
        runpy.run_module("forwarder", run_name="__main__")
    finally:
        _counted(config).write_bytes(msgspec.json.encode(touches))


if __name__ == "__main__":
    main()
