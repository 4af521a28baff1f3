"""HTTP load from wrk, pinned to the load core."""

import subprocess
from pathlib import Path

import msgspec

from benchmarks.machine import LOAD_CORE

SCRIPT = Path(__file__).with_name("signals.lua")
MARK = "RESULT "


class Load(msgspec.Struct, frozen=True):
    """One kind of load."""

    connections: int
    events: int = 1
    """Events a request."""


class Answered(msgspec.Struct, frozen=True):
    """What one run of wrk saw; only 2xx answers count."""

    requests: int
    duration_us: int
    bad_status: int
    broken: int
    p50_us: int
    p99_us: int
    max_us: int

    @property
    def per_second(self) -> float:
        """Return the requests a second."""
        return self.requests / self.duration_us * 1e6


def run(load: Load, *, url: str, seconds: float, path: str = "/v2/") -> Answered:
    """Post signals for so long; raises RuntimeError when any answer was not 2xx."""
    command = ["taskset", "--cpu-list", str(LOAD_CORE), "wrk", "-t1", f"-c{load.connections}", f"-d{seconds:.0f}s"]
    command += ["--timeout", "30s", "-s", str(SCRIPT), url, "--", str(load.events), path]
    ended = subprocess.run(command, check=False, capture_output=True, text=True)
    output = ended.stdout
    line = next((each for each in output.splitlines() if each.startswith(MARK)), None)
    if line is None:
        raise RuntimeError(f"wrk said nothing useful:\n{output}{ended.stderr}")
    answered = msgspec.json.decode(line.removeprefix(MARK), type=Answered)
    if answered.bad_status or answered.broken:
        raise RuntimeError(f"{url}: {answered.bad_status} answers were no 2xx, {answered.broken} broke off")
    return answered
