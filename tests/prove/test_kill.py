"""P1, P2, P8: SIGKILL at random moments and at every distinct system call loses nothing that was acknowledged."""

import os
import random
import re
import shutil
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from forwarder.core.seams import Durability
from tests.prove.support import spool_life
from tests.prove.support.spool_life import IN_FLIGHT, Plan, Verdict

KILLS = int(os.environ.get("FORWARDER_PROVE_KILLS", "250"))
LEAST_EVENT = 18
"""Bytes of the smallest event: so many of them are in flight at most."""
BOTH = (Durability.WRITTEN, Durability.FSYNC)


def killed_at_random(tmp_path: Path, kills: int, *, evict: bool = False) -> Verdict:
    """Let `kills` lives be killed at random moments, recovery included, and one end well."""
    plan = Plan(spool=tmp_path / "spool", diary=tmp_path / "diary", levels=BOTH, evict=evict)
    dice = random.Random(tmp_path.name)  # noqa: S311
    for life in range(kills):
        process = spool_life.begin(msgspec.structs.replace(plan, life=life))
        lines = dice.randint(1, 60) if life % 6 else 0  # 0: while it starts
        spool_life.let_work(process, plan.diary, lines, dice.uniform(0.0, 0.02))
        process.kill()
        process.join()
        spool_life.bury(plan.diary)
    return end_well(plan, kills)


def end_well(plan: Plan, life: int) -> Verdict:
    last = spool_life.begin(msgspec.structs.replace(plan, life=life, events=50))
    last.join(60)
    assert last.exitcode == 0
    return spool_life.judge(plan.diary)


def assert_kept(verdict: Verdict) -> None:
    assert verdict.lost == []
    assert verdict.altered == []
    assert verdict.acked_twice == [], "an ack that was given survives the death of the process"
    assert verdict.most_twice <= IN_FLIGHT // LEAST_EVENT + 1
    assert verdict.figures["queued"] == 0
    assert verdict.figures["imbalance"] == 0
    assert verdict.figures["unreadable"] == 0


def test_p1_p8_twenty_kills_lose_nothing_and_send_twice_only_what_was_in_flight(tmp_path: Path) -> None:
    assert_kept(killed_at_random(tmp_path, 20))


@pytest.mark.prove
def test_p1_p8_hundreds_of_kills_lose_nothing_and_send_twice_only_what_was_in_flight(
    tmp_path: Path,
) -> None:
    verdict = killed_at_random(tmp_path, KILLS)
    print(verdict.words)  # noqa: T201 (the result)
    assert_kept(verdict)
    assert verdict.lives > KILLS * 0.7, "most lives came to work"
    assert verdict.acknowledged > KILLS
    assert verdict.waiting > KILLS, "something was at stake"


# whether a kill falls between a sending and its ack is luck here; at the journal's system calls below it does


# ---- at every system call

TRACED = "openat,pwritev,pwritev2,pwrite64,write,fdatasync,fsync,truncate,ftruncate,rename,unlink,mkdir,close,statfs"
SCRIPT = 60
"""Events of the traced life: enough for commits, rolls, checkpoints and trims."""
FILES = {
    "segment": ["000000000001.segment", "000000000002.segment"],
    "checkpoint": ["checkpoint.new", "checkpoint"],
    "journal": ["acks.000000000001", "acks.000000000002"],
    "directory": ["."],
}
_CALL = re.compile(r"^(\d+)\s+(\w+)\((.*)$")
_KINDS = (("segment", ".segment"), ("checkpoint", "checkpoint"), ("journal", "acks."), ("directory", "/spool/one"))


def strace(plan: Plan, out: Path, *options: str) -> int:
    binary = shutil.which("strace")
    if binary is None:
        pytest.skip("needs strace (apt-get install strace)")
    code = msgspec.json.encode(plan, enc_hook=str).decode()
    command = [binary, "-f", "-y", "-qq", "-o", str(out), *options, sys.executable, "-m", spool_life.__name__, code]
    return subprocess.run(command, timeout=60, check=False, capture_output=True).returncode


def calls(out: Path) -> Iterator[tuple[str, str, int, str]]:
    """Yield (system call, kind of file, how many of that name the thread had made, the whole line)."""
    counts: dict[tuple[str, str], int] = defaultdict(int)
    for line in out.read_text(errors="replace").splitlines():
        match = _CALL.match(line)
        if match is None or "resumed>" in line:
            continue
        thread, name, arguments = match.groups()
        counts[(thread, name)] += 1
        kind = next((kind for kind, mark in _KINDS if mark in arguments), "")
        if kind:
            yield name, kind, counts[(thread, name)], line


def last_call(out: Path) -> tuple[str, str]:
    """Return (system call, kind of file) at which the process died."""
    for line in reversed(out.read_text(errors="replace").splitlines()):
        match = _CALL.match(line)
        if match is not None:
            return match[2], next((kind for kind, mark in _KINDS if mark in match[3]), "")
    return "", ""


def fresh(root: Path) -> Path:
    """Return a new directory."""
    here = root / f"death{sum(1 for _ in root.iterdir())}"
    here.mkdir()
    return here


def test_the_script_makes_the_system_calls_that_are_to_be_died_at(tmp_path: Path) -> None:
    plan = Plan(spool=tmp_path / "spool", diary=tmp_path / "diary", events=SCRIPT, producers=1, checkpoint_every=3)
    assert strace(plan, tmp_path / "out", "-e", f"trace={TRACED}") == 0
    seen = {(name, kind) for name, kind, _, _ in calls(tmp_path / "out")}
    assert {
        ("pwritev2", "segment"),
        ("truncate", "segment"),
        ("unlink", "segment"),
        ("write", "journal"),
        ("unlink", "journal"),
        ("rename", "checkpoint"),
        ("fsync", "checkpoint"),
        ("fsync", "directory"),
    } <= seen


@pytest.mark.prove
def test_p1_dying_at_every_distinct_system_call_of_commit_roll_checkpoint_and_trim_loses_nothing(
    tmp_path: Path,
) -> None:
    plan = Plan(
        spool=tmp_path / "spool", diary=tmp_path / "diary", events=SCRIPT, producers=1, checkpoint_every=3, levels=BOTH
    )
    assert strace(plan, tmp_path / "out", "-e", f"trace={TRACED}") == 0
    places: dict[tuple[str, str], list[int]] = defaultdict(list)
    for name, kind, count, _ in calls(tmp_path / "out"):
        places[(name, kind)].append(count)
    died: dict[tuple[str, str], int] = defaultdict(int)

    def die(where: Path, *killing: str) -> None:
        one = msgspec.structs.replace(plan, spool=where / "spool", diary=where / "diary")
        if strace(one, where / "out", *killing) == 0:
            return  # another order of events made fewer calls this time
        if one.diary.exists():
            spool_life.bury(one.diary)
        died[last_call(where / "out")] += 1
        assert_kept(end_well(one, 1))

    for (name, _), counts in sorted(places.items()):
        for count in sorted({counts[len(counts) * at // 4] for at in range(4)} | {counts[-1]}):
            die(fresh(tmp_path), "-e", f"trace={name}", "-e", f"inject={name}:signal=KILL:when={count}")
    for name, kind in sorted(places.keys() - died.keys()):
        # calls that Python makes often, too: only those on one file of the spool count
        for file in FILES[kind]:
            here = fresh(tmp_path)
            at = here / "spool" / "spool" / "one" / file
            die(here, "-P", str(at), "-e", f"trace={name}", "-e", f"inject={name}:signal=KILL:when=1")
    print(sum(died.values()), "deaths:", dict(died))  # noqa: T201 (the result)
    assert sum(died.values()) >= 30
    missing = {(name, kind) for name, kind in places if kind in {"segment", "checkpoint", "journal"}} - died.keys()
    assert not missing, f"never died at {missing}"
