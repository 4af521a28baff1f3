"""Where the time goes: what holds the interpreter's lock under each load, sampled from outside by py-spy.

A sample counts for the first part below whose pattern its stack matches: the modules of this project from the outermost
frame to the innermost, what starts the loop left out.
"""

import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from pathlib import Path

from benchmarks import backlog, delivery, load, subjects
from benchmarks.door import CASES, Case
from benchmarks.machine import LOAD_CORE, TOOLS, Missing, need
from benchmarks.results import Bench, Row
from benchmarks.subjects import Running

RATE = 400
"""Samples a second."""
LEAST = 0.005
"""Parts below it are not told."""
PARTS = (
    ("the writer thread", r"thread > spool/writer"),
    ("reading the backlog", r"thread > spool/reader"),
    ("delivery", r".*\b(flusher|core/lane)/"),
    ("answering after the commit", r"spool/"),
    ("checking and stamping", r"(.* > )?vendors/"),
    ("submitting", r"sources/.* > (core/intake|spool/)"),
    ("taking what was read", r"sources/"),
    ("the loop and its sockets", r"$"),
    ("the rest", r""),
)
_MODULE = re.compile(r"\((?:[^()]*/)?forwarder/((?!__main__|cli/)[\w/]+)\.py:\d+\)")
_THREAD = "_bootstrap (threading.py"


def run(bench: Bench) -> list[Row]:
    """Sample the daemon under each of `door`'s loads, and delivering a backlog of single events."""
    spy = find()
    need("wrk", "taskset")
    return [
        *(_loaded(bench, spy, case) for case in CASES),
        _delivering(bench, spy),
    ]


def find() -> str:
    """Return the path of py-spy; raises Missing when it is neither on PATH nor beside the interpreter."""
    found = shutil.which("py-spy") or shutil.which("py-spy", path=Path(sys.executable).parent)
    if found is None:
        raise Missing(f"py-spy is missing: {TOOLS['py-spy']}")
    return found


def _loaded(bench: Bench, spy: str, case: Case) -> Row:
    with subjects.scratch(bench.directory) as directory, ExitStack() as stack:
        to = stack.enter_context(subjects.receiver(directory))
        running = subjects.forwarder(stack, directory, case.durability, to)
        load.run(case.load, url=running.url, seconds=1)

        def work() -> None:
            load.run(case.load, url=running.url, seconds=bench.seconds)

        stacks = _sampled(bench, spy, running, directory / "stacks", work)
        running.child.kill()
    return _row(case.name, stacks)


def _delivering(bench: Bench, spy: str) -> Row:
    case = delivery.CASES[1]
    with subjects.scratch(bench.directory) as directory, ExitStack() as stack:
        to = stack.enter_context(subjects.receiver(directory))
        backlog.write(directory / "spool" / "spool" / case.destination, case.backlog)
        running = subjects.start_daemon(stack, directory, delivery.config(to, str(directory)))

        def work() -> None:
            delivery.wait(to, case.backlog.events)

        stacks = _sampled(bench, spy, running, directory / "stacks", work)
        running.child.kill()
    return _row(case.name, stacks)


def _sampled(bench: Bench, spy: str, running: Running, path: Path, work: Callable[[], None]) -> list[str]:
    """Return the stacks seen while `work` went on, a line each: `frame;frame;… times`."""
    command = ["taskset", "-c", str(LOAD_CORE), spy, "record", "--gil", "--nonblocking", "--format", "raw"]
    command += ["--rate", str(RATE), "--duration", f"{bench.seconds:.0f}", "--output", str(path)]
    with subprocess.Popen(
        [*command, "--pid", str(running.child.pid)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as sampler:
        work()
        _, said = sampler.communicate()
    if not path.exists():
        raise RuntimeError(f"py-spy sampled nothing: {said.strip()}")
    return path.read_text(encoding="utf-8").splitlines()


def _row(name: str, stacks: Iterable[str]) -> Row:
    largest = sorted(shares(stacks).items(), key=lambda each: -each[1])
    told = ", ".join(f"{each} {share:.0%}" for each, share in largest if share >= LEAST)
    return Row(case=f"{name}: what holds the lock", measured=told)


def shares(stacks: Iterable[str]) -> dict[str, float]:
    """Return the share of the samples by part."""
    times = Counter[str]()
    for line in stacks:
        frames, _, count = line.rpartition(" ")
        times[part(frames)] += int(count)
    return {name: times[name] / max(1, times.total()) for name, _ in PARTS}


def part(frames: str) -> str:
    """Return the part that a stack belongs to."""
    modules = ["thread"] if _THREAD in frames else []
    modules += _MODULE.findall(frames)
    path = " > ".join(modules)
    return next(name for name, pattern in PARTS if re.match(pattern, path))
