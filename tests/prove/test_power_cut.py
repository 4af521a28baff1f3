"""P1, P2, P8: power cuts on real file systems lose nothing that was acknowledged at `fsync`."""

import os
import random
import signal
from multiprocessing.process import BaseProcess
from pathlib import Path

import msgspec
import pytest

from tests.prove.support import spool_life
from tests.prove.support.spool_life import Plan, Verdict
from tests.prove.support.volume import MIB, Volume

pytestmark = pytest.mark.prove

CUTS = int(os.environ.get("FORWARDER_PROVE_CUTS", "40"))


def stop(process: BaseProcess) -> None:
    """Let the process do nothing more, as a power cut does; what it has asked of the kernel goes on.

    Without this a sync that was under way while the file system is being shut down can return success for what it
    did not write (seen on ext4 and xfs, a few times in a hundred), and the process would tell somebody.
    """
    assert process.pid is not None
    os.kill(process.pid, signal.SIGSTOP)


def cut_at_random(volume: Volume, diary: Path, cuts: int) -> Verdict:
    """Cut the power of `cuts` lives at random moments, recovery included; let one more life end well."""
    plan = Plan(spool=volume.path / "spool", diary=diary)
    dice = random.Random(str(diary))  # noqa: S311
    for life in range(cuts):
        process = spool_life.begin(msgspec.structs.replace(plan, life=life))
        lines = dice.randint(1, 60) if life % 6 else 0  # 0: while it starts
        spool_life.let_work(process, diary, lines, dice.uniform(0.0, 0.02))
        stop(process)
        volume.cut_power()
        process.kill()
        process.join()
        volume.power_on()
        spool_life.bury(diary)
    last = spool_life.begin(msgspec.structs.replace(plan, life=cuts, events=50))
    last.join(60)
    assert last.exitcode == 0
    return spool_life.judge(diary)


@pytest.mark.parametrize("kind", ["ext4", "xfs"])
def test_p1_p8_power_cuts_lose_nothing_and_send_twice_only_what_no_durable_checkpoint_covers(
    tmp_path: Path, kind: str
) -> None:
    with Volume(tmp_path, kind, size=64 * MIB) as volume:
        verdict = cut_at_random(volume, tmp_path / "diary", CUTS)
    print(kind, verdict.words)  # noqa: T201 (the result)
    assert verdict.lost == []
    assert verdict.altered == []
    assert verdict.covered_twice == [], "what a durable checkpoint covers is never sent again"
    assert verdict.lives > CUTS * 0.7, "most lives came to work"
    assert verdict.acknowledged > CUTS * 5
    assert verdict.waiting > CUTS, "something was at stake"
    assert verdict.twice, "the cuts did cost acks: otherwise nothing was cut"
    assert verdict.figures["queued"] == 0
    assert verdict.figures["imbalance"] == 0
    assert verdict.figures["unreadable"] == 0
