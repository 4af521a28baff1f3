"""What a team would otherwise run: the 60-line aiohttp + sqlite forwarder, and syslog-ng with a reliable disk buffer.

syslog-ng 3.38 has no HTTP source: it gets one event a line over TCP, which nobody acknowledges, so what is compared is
the events a second that reach the receiver, all of them. The forwarder gets the same lines over one connection, in
bodies of 1,000 on /events, each of them synced and acknowledged before the next. nsqd is not measured: it is in no
Debian 12 package, and delivers nothing by itself.
"""

import json
import socket
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from http import HTTPStatus
from http.client import HTTPConnection
from pathlib import Path

from benchmarks import backlog, receiver, rounds, subjects
from benchmarks.load import Load
from benchmarks.machine import DAEMON_CORE, Missing, need
from benchmarks.process import Child, free_port
from benchmarks.results import Bench, Row, told
from benchmarks.subjects import Starter

LOADS = {"single, 32 connections": Load(32), "arrays of 100, 16 connections": Load(16, 100)}
SUBJECTS: dict[str, Starter] = {"forwarder": subjects.forwarder, "sqlite": subjects.sqlite_forwarder}
LINES = 100_000
PIECE = 1_000
"""Lines that are sent at once."""
PATIENCE_S = 60.0


def run(bench: Bench) -> list[Row]:
    """Measure the peers that are installed."""
    need("wrk", "taskset")
    rows = _sqlite(bench)
    rates = [_lines_round(bench) for _ in range(bench.rounds)]
    rows.append(told(f"forwarder, {LINES:,} lines over HTTP, acknowledged: delivered", rates, "{:,.0f} events/s"))
    try:
        rows.append(_syslog(bench))
    except Missing as missing:
        rows.append(Row(case="syslog-ng, lines over TCP to http()", measured=f"not measured: {missing}"))
    return [*rows, nsqd()]


def nsqd() -> Row:
    """Return the row of nsqd, which says why there is no number, installed or not."""
    try:
        need("nsqd")
    except Missing as missing:
        return Row(case="nsqd", measured=f"not measured: {missing}")
    return Row(case="nsqd", measured="not measured, though it is installed: alone it delivers nothing")


def _sqlite(bench: Bench) -> list[Row]:
    rows: list[Row] = []
    for name, wanted in LOADS.items():
        rates: dict[str, list[float]] = {each: [] for each in SUBJECTS}
        for _ in range(bench.rounds):
            for each, samples in rounds.measure(bench, SUBJECTS, wanted, "fsync").items():
                rates[each] += [sample.events for sample in samples]
        rows += compared(name, rates)
    return rows


def compared(name: str, rates: Mapping[str, Sequence[float]]) -> list[Row]:
    """Return our own rate, the peer's, and how often the one holds the other, neighbour by neighbour."""
    times = rounds.ratios(rates["forwarder"], rates["sqlite"])
    return [
        told(f"{name}: forwarder", rates["forwarder"], "{:,.0f} events/s"),
        told(f"{name}: aiohttp + sqlite FULL", rates["sqlite"], "{:,.0f} events/s"),
        told(f"{name}: forwarder against it", times, "{:.1f} ×"),
    ]


def _lines_round(bench: Bench) -> float:
    """Return the events a second from the first line sent to the last one delivered, as of syslog-ng."""
    with subjects.scratch(bench.directory) as directory, ExitStack() as stack:
        to = stack.enter_context(subjects.receiver(directory))
        running = subjects.forwarder(stack, directory, "fsync", to)
        connection = HTTPConnection("127.0.0.1", running.port, timeout=PATIENCE_S)
        stack.callback(connection.close)
        started = time.monotonic()
        for first in range(0, LINES, PIECE):
            connection.request("POST", "/events", _piece(first))
            answer = connection.getresponse()
            said = answer.read()
            if answer.status != HTTPStatus.ACCEPTED:
                raise RuntimeError(f"the forwarder answered {answer.status}: {said.decode()}")
        _wait(to, "forwarder", running.child.log, started)
        running.child.kill()
    return LINES / (time.monotonic() - started)


def _piece(first: int) -> bytes:
    return b"".join(backlog.signal(first + each) + b"\n" for each in range(PIECE))


def _wait(to: int, name: str, log: Path, started: float) -> None:
    """Wait until every line has been delivered; raises RuntimeError with the end of the log when it takes too long."""
    while (counts := receiver.counts(to)).events < LINES:
        if time.monotonic() - started > PATIENCE_S:
            raise RuntimeError(f"{name} delivered {counts.events} of {LINES}: {_tail(log)}")
        time.sleep(0.1)


def _syslog(bench: Bench) -> Row:
    need("syslog-ng")
    rates = [_syslog_round(bench) for _ in range(bench.rounds)]
    return told(f"syslog-ng, {LINES:,} lines over TCP to http(): delivered", rates, "{:,.0f} events/s")


def _syslog_round(bench: Bench) -> float:
    with subjects.scratch(bench.directory) as directory, ExitStack() as stack:
        to = stack.enter_context(subjects.receiver(directory))
        port = free_port()
        config = directory / "syslog-ng.conf"
        config.write_text(_config(directory, port, to), encoding="utf-8")
        command = ["syslog-ng", "-F", "-f", str(config), *_places(directory)]
        child = stack.enter_context(Child(command, core=DAEMON_CORE, log=directory / "syslog-ng.log"))
        child.wait_for_port(port)
        started = time.monotonic()
        with socket.create_connection(("127.0.0.1", port)) as connection:
            for first in range(0, LINES, PIECE):
                connection.sendall(_piece(first))
            _wait(to, "syslog-ng", child.log, started)
        child.kill()
    return LINES / (time.monotonic() - started)


def _places(directory: Path) -> Sequence[str]:
    return [
        f"--persist-file={directory}/persist",
        f"--pidfile={directory}/pid",
        f"--control={directory}/control",
    ]


def _config(directory: Path, port: int, to: int) -> str:
    return f"""@version: 3.38
source s {{ network(ip("127.0.0.1") port({port}) transport("tcp") flags(no-parse) log-iw-size(10000)); }};
destination d {{
  http(url({json.dumps(f"http://127.0.0.1:{to}/v2/")}) method("POST") body("$MSG") batch-lines(100) batch-timeout(1000)
    body-prefix("[") body-suffix("]") delimiter(",")
    disk-buffer(reliable(yes) disk-buf-size(1073741824) dir({json.dumps(str(directory))})));
}};
log {{ source(s); destination(d); flags(flow-control); }};
"""


def _tail(log: Path) -> str:
    return log.read_text(errors="replace")[-500:]
