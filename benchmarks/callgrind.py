"""Instructions of a running child, counted by valgrind's callgrind: the same in every run, on a busy machine too."""

import subprocess
import sys
import time
from pathlib import Path

from benchmarks.machine import DAEMON_CORE
from benchmarks.process import Child

START_S = 120.0
"""For a program that runs twenty times slower than it would."""
QUIET_S = 0.06
PATIENCE_S = 60.0
TOTAL = "totals:"
ENVIRONMENT = {"PYTHONHASHSEED": "0", "GLIBC_TUNABLES": "glibc.cpu.hwcaps=-ERMS,-FSRM"}
"""Copies go by vector instructions, as short ones do: callgrind counts `rep movsb` once a byte."""


class Counter:
    """Counts what a child executes in user space, all threads together, from one look to the next."""

    def __init__(self, child: Child, directory: Path) -> None:
        self._child = child
        self._directory = directory
        self._looks = 0
        self._tell("instrumentation", "on")

    def start(self) -> None:
        """Begin at 0, once the child has nothing to do."""
        self.settle()
        self._tell("zero")

    def taken(self) -> int:
        """Return the instructions since `start`, once the child has nothing to do."""
        self.settle()
        self._tell("dump")
        self._looks += 1
        return total((self._directory / f"counts.{self._looks}").read_text(encoding="utf-8"))

    def settle(self) -> None:
        """Return when it uses no processor any more: what comes after an answer belongs to the request."""
        before, deadline = -1.0, time.monotonic() + PATIENCE_S
        while (now := self._child.processor_s()) != before:
            if time.monotonic() > deadline:
                raise RuntimeError(f"still busy after {PATIENCE_S:.0f} s: nothing can be counted")
            before = now
            time.sleep(QUIET_S)

    def _tell(self, *words: str) -> None:
        command = ["vgdb", f"--vgdb-prefix={self._directory / 'vgdb'}", f"--pid={self._child.pid}", *words]
        subprocess.run(command, check=True, capture_output=True, timeout=PATIENCE_S)


def child(module: str, *arguments: str, directory: Path) -> Child:
    """Start a Python module under callgrind, not counting yet."""
    tool = [
        "valgrind",
        "--tool=callgrind",
        "--instr-atstart=no",
        f"--callgrind-out-file={directory / 'counts'}",
        f"--vgdb-prefix={directory / 'vgdb'}",
    ]
    command = [*tool, sys.executable, "-m", "benchmarks.patient", module, *arguments]
    return Child(command, core=DAEMON_CORE, log=directory / "counted.log", environment=ENVIRONMENT)


def total(dump: str) -> int:
    """Return the sum of a dump of callgrind's."""
    line = next((each for each in dump.splitlines() if each.startswith(TOTAL)), None)
    if line is None:
        raise RuntimeError("callgrind wrote no totals")
    return int(line.removeprefix(TOTAL))
