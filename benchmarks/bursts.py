"""Load that comes all at once: a process is stopped, gets a request on every connection, and goes on.

So one turn of its loop sees them all, which is what happens under `door`'s load at full speed; a program that is slowed
down by a tool would meet them one by one.
"""

import os
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.client import HTTPResponse
from itertools import cycle
from pathlib import Path
from typing import Self

from benchmarks import signals

ANSWER_S = 60.0
STOP_S = 10.0


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    """Stop a process meanwhile, all its threads."""
    os.kill(pid, signal.SIGSTOP)
    try:
        _await_stop(pid)
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


class Connections:
    """So many connections to a process, each with one request at a time; `with` closes them."""

    def __init__(self, pid: int, port: int, connections: int, events: int) -> None:
        self._pid = pid
        self._requests = cycle(signals.requests(port, events))
        self._stack = ExitStack()
        self._sockets = [
            self._stack.enter_context(socket.create_connection(("127.0.0.1", port), ANSWER_S))
            for _ in range(connections)
        ]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def burst(self) -> None:
        """Post a request on every connection at once; raises RuntimeError when any answer is not 2xx."""
        with stopped(self._pid):
            for sock, request in zip(self._sockets, self._requests, strict=False):
                sock.sendall(request)
        statuses = [_status(sock) for sock in self._sockets]
        if any(status // 100 != 2 for status in statuses):
            raise RuntimeError(f"answers were no 2xx: {sorted(set(statuses))}")


def datagrams(pid: int, port: int, count: int) -> None:
    """Send so many datagrams at once."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock, stopped(pid):
        sock.connect(("127.0.0.1", port))
        for number in range(count):
            sock.send(signals.signal(number))


def _await_stop(pid: int) -> None:
    """Return when every thread has come to rest: the signal is sent long before that."""
    deadline = time.monotonic() + STOP_S
    while any(_state(task) != "T" for task in Path(f"/proc/{pid}/task").iterdir()):
        if time.monotonic() > deadline:
            raise RuntimeError(f"process {pid} does not stop")


def _state(task: Path) -> str:
    return (task / "stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]


def _status(sock: socket.socket) -> int:
    answer = HTTPResponse(sock)
    answer.begin()
    answer.read()
    return answer.status
