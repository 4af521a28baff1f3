"""The machine: its cores, what it is made of, and which tools it has."""

import os
import platform
import shutil
from importlib.metadata import version
from pathlib import Path

DAEMON_CORE = 0
"""The core of what is measured."""
LOAD_CORE = 1
"""The core of everything else: load generator, stand-in receiver."""
MIB = 1024 * 1024
TOOLS = {
    "wrk": "apt-get install wrk",
    "taskset": "apt-get install util-linux",
    "cc": "apt-get install gcc libc6-dev",
    "strace": "apt-get install strace",
    "valgrind": "apt-get install valgrind",
    "vgdb": "apt-get install valgrind",
    "py-spy": "pip install py-spy",
    "syslog-ng": "apt-get install syslog-ng-core syslog-ng-mod-http",
    "nsqd": "not in Debian 12; elsewhere: apt-get install nsqd",
}


class Missing(Exception):
    """A tool or a core that a case cannot do without; the message says how to get it."""


def need(*tools: str) -> None:
    """Raise Missing for the first tool that is not installed."""
    for tool in tools:
        if shutil.which(tool) is None and not Path("/usr/sbin", tool).exists():
            raise Missing(f"{tool} is missing: {TOOLS[tool]}")


def need_cores() -> None:
    """Raise Missing on a machine with one core: load and daemon would measure each other."""
    if len(os.sched_getaffinity(0)) <= LOAD_CORE:
        raise Missing("two cores are needed: one for the daemon, one for load and receiver")


def describe(directory: Path) -> list[str]:
    """Return the machine in a few lines."""
    cpu = next((each for each in _lines("/proc/cpuinfo") if each.startswith("model name")), "?: unknown")
    memory = next((each for each in _lines("/proc/meminfo") if each.startswith("MemTotal")), "MemTotal: 0 kB")
    versions = ", ".join(f"{name} {version(name)}" for name in ("uvloop", "httptools", "aiohttp", "msgspec"))
    return [
        f"{cpu.partition(':')[2].strip()}, {os.cpu_count()} cores, {int(memory.split()[1]) // 1024} MiB",
        f"{platform.system()} {platform.release()}, Python {platform.python_version()}, {versions}",
        f"spool on {_file_system(directory)}; load average {os.getloadavg()[0]:.1f} when this was printed",
    ]


class Stolen:
    """How much processor time others on the same host take from this machine."""

    def __init__(self) -> None:
        self._total, self._stolen = _ticks()

    def words(self) -> str:
        """Return the share since this object was made."""
        total, stolen = _ticks()
        share = (stolen - self._stolen) / max(total - self._total, 1)
        return f"{share:.0%} of the processors' time was taken by others on this host meanwhile (steal)"


def _ticks() -> tuple[int, int]:
    """Return the ticks of all processors so far, and those of them that were stolen."""
    fields = [int(field) for field in next(iter(_lines("/proc/stat")), "cpu").split()[1:9]]
    return sum(fields), fields[-1] if fields else 0


def _file_system(directory: Path) -> str:
    """Return type and device of the mount that holds `directory`."""
    path = str(directory.resolve())
    mounts = [each.split()[:3] for each in _lines("/proc/mounts")]
    holding = [each for each in mounts if path == each[1] or path.startswith(each[1].rstrip("/") + "/")]
    device, _, kind = max(holding, key=lambda each: len(each[1]), default=("?", "", "?"))
    return f"{kind} ({device})"


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
