"""How long a daemon keeps others waiting, told apart from how long a busy machine does.

A probe asks for something that needs the loop and no disk (`GET /`), again and again on one connection. What it waited
for an answer is at least the time for which the loop stood still. On a machine that is busy with other work it may wait
longer than that; but a loop that stands still because of the daemon's own work uses processor time meanwhile, all
threads together. So a stall is the lesser of the two: time that passed, and processor time that the daemon used.
"""

import http.client
import threading
import time
from typing import Self

import msgspec

_PAUSE_S = 0.01
_PATIENCE_S = 60


class Wait(msgspec.Struct, frozen=True, order=True):
    """One answer: how long it stood still, and how long it took, in seconds."""

    stall_s: float
    passed_s: float


class LoopProbe(threading.Thread):
    """`with LoopProbe(address, pid) as probe: …`, then `probe.worst`."""

    def __init__(self, address: str, pid: int, *, path: str = "/") -> None:
        super().__init__(daemon=True)
        self._address = address
        self._path = path
        self._clock = (~pid << 3) | 2  # the processor clock of another process, see clock_getcpuclockid(3)
        self._stopped = threading.Event()
        self.waits: list[Wait] = []
        self.failed = 0

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self.join(_PATIENCE_S)

    @property
    def worst(self) -> Wait:
        """Return the longest stall."""
        return max(self.waits)

    def run(self) -> None:
        host, _, port = self._address.rpartition(":")
        connection = http.client.HTTPConnection(host, int(port), timeout=_PATIENCE_S)
        while not self._stopped.is_set():
            used, began = time.clock_gettime(self._clock), time.monotonic()
            connection.request("GET", self._path)
            answer = connection.getresponse()
            answer.read()
            passed = time.monotonic() - began
            self.waits.append(Wait(min(passed, time.clock_gettime(self._clock) - used), passed))
            self.failed += answer.status != http.client.OK
            self._stopped.wait(_PAUSE_S)
        connection.close()
