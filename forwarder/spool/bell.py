"""The bell: calls the writer thread from its rest, by a system call.

While that call runs the interpreter's lock is free, and the thread that wakes takes it at once. Called by a lock or a
condition the thread would wake only to wait for the interpreter, which whoever calls still holds: two more switches
between threads a commit, a tenth of the daemon's processor time at 32 connections (benchmarks/door.py).
"""

import os
import select

_ENOUGH = 4096
"""Bytes that one wait takes off: whoever rang more than once is heard once."""


class Bell:
    """A pipe. `ring` may be called by any thread, `wait` by one only."""

    def __init__(self) -> None:
        self._heard, self._rung = os.pipe()
        self._poll = select.poll()
        self._poll.register(self._heard, select.POLLIN)

    def ring(self) -> None:
        """End the wait under way, or the next one; without effect once closed."""
        if self._rung >= 0:
            os.write(self._rung, b"\0")

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait until it rings, `timeout_s` at the longest; return whether it has rung."""
        rung = timeout_s is None or bool(self._poll.poll(timeout_s * 1000))
        if rung:
            os.read(self._heard, _ENOUGH)
        return rung

    def close(self) -> None:
        """Close the pipe, when nobody waits any more."""
        if self._rung >= 0:
            heard, rung, self._heard, self._rung = self._heard, self._rung, -1, -1
            os.close(heard)
            os.close(rung)
