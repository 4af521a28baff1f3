"""Resident memory: idle, and under full load with ten million events queued; and how long one 60 MiB body stalls.

Full load is measured twice: while nobody listens at the vendor, so that all of it stays queued, and while a receiver
answers, so that lanes read the backlog and send it. Both with `LIMITS`, because the default ones would not hold it.
"""

import http.client
import os
import socket
import threading
import time
from contextlib import ExitStack
from pathlib import Path

from benchmarks import backlog, load, receiver, subjects
from benchmarks.backlog import Backlog
from benchmarks.load import Load
from benchmarks.machine import LOAD_CORE, MIB, need
from benchmarks.process import free_port
from benchmarks.results import Bench, Row, at_most, told
from benchmarks.subjects import Running

QUEUED = 10_000_000
LIMITS = ('max_size = "16GiB"', 'max_total = "32GiB"')
"""Of `[spool]`, in place of the defaults."""
BOUND = 120.0
"""MiB under full load, delivering or not."""
SETTLE_S = 3.0
LARGE = 60 * MIB
PING_S = 0.002


def run(bench: Bench) -> list[Row]:
    """Measure idle, loaded and the stall."""
    need("wrk", "taskset")
    return [
        at_most("memory, idle: RSS", [_idle(bench) for _ in range(bench.rounds)], 60, "{:.0f} MiB"),
        at_most(f"memory, full load, {QUEUED:,} events queued: peak RSS", [_loaded(bench)], BOUND, "{:.0f} MiB"),
        *_delivering(bench),
        Row(case="memory, full load: settings that are not the default", measured=changed()),
        at_most("one 60 MiB body: longest stall of the loop", _stalls(bench), 0.4, "{:.2f} s"),
    ]


def changed() -> str:
    """Return the settings that are not the default."""
    return ", ".join(LIMITS)


def _idle(bench: Bench) -> float:
    with subjects.scratch(bench.directory) as directory, ExitStack() as stack:
        to = stack.enter_context(subjects.receiver(directory))
        running = subjects.forwarder(stack, directory, "fsync", to)
        time.sleep(SETTLE_S)
        size = running.child.memory() / MIB
        running.child.kill()
    return size


def _loaded(bench: Bench) -> float:
    """Return the peak with a backlog that cannot be delivered (nobody listens there), singles and arrays coming in."""
    with subjects.scratch(bench.directory) as directory, ExitStack() as stack:
        running = _start(stack, directory, receiver_port=free_port())
        peak = _peak(bench, running)
        running.child.kill()
    return peak


def _delivering(bench: Bench) -> list[Row]:
    """Return the peak while the backlog is read and sent, and how fast that went; there must be some left at the end.

    Raises RuntimeError when nothing was delivered, or all: neither is what this measures.
    """
    with subjects.scratch(bench.directory) as directory, ExitStack() as stack:
        to = stack.enter_context(subjects.receiver(directory))
        running = _start(stack, directory, receiver_port=to)
        started, before = time.monotonic(), receiver.counts(to).events
        peak = _peak(bench, running)
        after, took_s = receiver.counts(to), time.monotonic() - started
        running.child.kill()
    if not before < after.events < QUEUED or after.broken:
        raise RuntimeError(
            f"{after.events} of {QUEUED} queued events delivered meanwhile, {after.broken} bodies broken"
        )
    case = f"memory, full load, {QUEUED:,} events queued and being delivered"
    return [
        at_most(f"{case}: peak RSS", [peak], BOUND, "{:.0f} MiB"),
        told(f"{case}: delivered meanwhile", [(after.events - before) / took_s], "{:,.0f} events/s"),
    ]


def _start(stack: ExitStack, directory: Path, *, receiver_port: int) -> Running:
    """Start the daemon on a directory that holds the backlog."""
    queued = Backlog(events=QUEUED, per_frame=1000, event=_same, key=backlog.SIGNAL_KEY)
    backlog.write(directory / "spool" / "spool" / "telemetrydeck", queued)
    config = subjects.daemon_config(directory, receiver_port=receiver_port, extra="\n".join(LIMITS))
    return subjects.start_daemon(stack, directory, config)


def _peak(bench: Bench, running: Running) -> float:
    """Return the highest resident memory in MiB after singles, arrays and large arrays, each for `bench.seconds`."""
    for wanted in (Load(256), Load(16, 100), Load(16, 2500)):
        load.run(wanted, url=running.url, seconds=bench.seconds)
    return running.child.memory("VmHWM") / MIB


_EVENT = backlog.signal(1)


def _same(number: int) -> bytes:
    del number
    return _EVENT


def _stalls(bench: Bench) -> list[float]:
    event = _EVENT.replace(b'"receivedAt":"2026-06-05T10:11:12.123Z",', b"")
    body = b"[" + b",".join([event] * (LARGE // (len(event) + 1))) + b"]"
    stalls: list[float] = []
    for _ in range(bench.rounds):
        with subjects.scratch(bench.directory) as directory, ExitStack() as stack:
            to = stack.enter_context(subjects.receiver(directory))
            running = subjects.forwarder(stack, directory, "fsync", to)
            stalls.append(_stall(running.port, body))
            running.child.kill()
        bench.say(f"60 MiB body: longest stall {stalls[-1]:.2f} s")
    return stalls


def _stall(port: int, body: bytes) -> float:
    """Return the longest answer of `GET /` on one connection while another one posts `body`."""
    os.sched_setaffinity(0, {LOAD_CORE})
    try:
        statuses: list[int] = []
        poster = threading.Thread(target=_post, args=(port, body, statuses))
        longest = 0.0
        with socket.create_connection(("127.0.0.1", port)) as ping:
            poster.start()
            while poster.is_alive():
                started = time.perf_counter()
                ping.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
                ping.recv(4096)
                longest = max(longest, time.perf_counter() - started)
                time.sleep(PING_S)
        poster.join()
        if statuses != [200]:
            raise RuntimeError(f"the 60 MiB body was answered {statuses}")
        return longest
    finally:
        os.sched_setaffinity(0, range(os.cpu_count() or 1))


def _post(port: int, body: bytes, statuses: list[int]) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("POST", "/v2/", body, {"Content-Type": "application/json"})
    statuses.append(connection.getresponse().status)
    connection.close()
