"""What a team would otherwise run: the 60-line aiohttp + sqlite forwarder, and syslog-ng with a reliable disk buffer.

syslog-ng 3.38 has no HTTP source: it gets one event a line over TCP, which nobody acknowledges, so what is compared is
the events a second that reach the receiver, all of them. nsqd is in no Debian 12 package.
"""

import json
import socket
import time
from collections.abc import Sequence
from contextlib import ExitStack
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
PATIENCE_S = 60.0


def run(bench: Bench) -> list[Row]:
    """Measure the peers that are installed."""
    need("wrk", "taskset")
    rows = _sqlite(bench)
    try:
        rows.append(_syslog(bench))
    except Missing as missing:
        rows.append(Row(case="syslog-ng, lines over TCP to http()", measured=str(missing)))
    try:
        need("nsqd")
    except Missing as missing:
        rows.append(Row(case="nsqd", measured=str(missing)))
    return rows


def _sqlite(bench: Bench) -> list[Row]:
    rows: list[Row] = []
    for name, wanted in LOADS.items():
        rates: dict[str, list[float]] = {each: [] for each in SUBJECTS}
        for _ in range(bench.rounds):
            for each, samples in rounds.measure(bench, SUBJECTS, wanted, "fsync").items():
                rates[each] += [sample.events for sample in samples]
        rows.append(told(f"{name}: aiohttp + sqlite FULL", rates["sqlite"], "{:,.0f} events/s"))
        times = rounds.ratios(rates["forwarder"], rates["sqlite"])
        rows.append(told(f"{name}: forwarder against it", times, "{:.1f} ×"))
    return rows


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
            for first in range(0, LINES, 1000):
                connection.sendall(b"".join(backlog.signal(first + each) + b"\n" for each in range(1000)))
            while (counts := receiver.counts(to)).events < LINES:
                if time.monotonic() - started > PATIENCE_S:
                    raise RuntimeError(f"syslog-ng delivered {counts.events} of {LINES}: {_tail(child.log)}")
                time.sleep(0.1)
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
