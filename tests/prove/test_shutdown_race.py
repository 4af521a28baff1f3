"""Whose the lies are when the shutdown ioctl finds a process running: shown by a bare program, nothing of ours in it.

A sync that is under way while the file system is being shut down may report success for what is not on the disk. That
is the kernel's doing (a machine that loses its power tells nobody anything), so the power-cut proofs stop the process
first; with it stopped, every report is true.
"""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.prove.support import bare_sync
from tests.prove.support.bare_sync import BLOCK
from tests.prove.support.volume import MIB, Volume

pytestmark = pytest.mark.prove

CUTS = int(os.environ.get("FORWARDER_PROVE_RACES", "25"))
"""Cuts for each file system, with the processes stopped and running."""
PROCESSES = 3


class Bare:
    """One bare process that appends and syncs, and its diary."""

    def __init__(self, volume: Volume, directory: Path, number: int) -> None:
        self._file = volume.path / f"blocks{number}"
        self._diary = directory / f"diary{number}"
        for path in (self._file, self._diary):
            path.unlink(missing_ok=True)
        command = [sys.executable, "-S", bare_sync.__file__, str(self._file), str(self._diary)]
        self.process = subprocess.Popen(command, stderr=subprocess.DEVNULL)

    def wait(self) -> None:
        """Return when a block has been reported."""
        while not self._diary.exists() or not self._diary.stat().st_size:
            assert self.process.poll() is None, "it ended by itself"
            time.sleep(0.001)

    def end(self) -> None:
        self.process.kill()
        self.process.wait()

    def lost(self) -> list[int]:
        """Return the blocks whose sync was reported and that are not there."""
        said = [int(line) for line in self._diary.read_bytes().split()]
        data = self._file.read_bytes()
        blocks = {number: number.to_bytes(4, "little") * (BLOCK // 4) for number in said}
        return [number for number, block in blocks.items() if data[number * BLOCK :][:BLOCK] != block]


def lost_in_one_cut(volume: Volume, directory: Path, wait_s: float, *, stopped: bool) -> list[int]:
    """Return the blocks that were reported as synced and are not there after the cut."""
    bare = [Bare(volume, directory, number) for number in range(PROCESSES)]
    try:
        for one in bare:
            one.wait()
        time.sleep(wait_s)
        for one in bare:
            one.process.send_signal(signal.SIGSTOP if stopped else 0)
        volume.cut_power()
        time.sleep(0.02)  # whoever runs has every chance to say something wrong
    finally:
        for one in bare:
            one.end()
    volume.power_on()
    return [number for one in bare for number in one.lost()]


@pytest.mark.parametrize("kind", ["ext4", "xfs"])
def test_every_sync_is_reported_truly_once_the_process_is_stopped_before_the_cut(tmp_path: Path, kind: str) -> None:
    dice = random.Random(kind)  # noqa: S311
    with Volume(tmp_path, kind, size=64 * MIB) as volume:
        lost = {
            stopped: [lost_in_one_cut(volume, tmp_path, dice.uniform(0.0, 0.05), stopped=stopped) for _ in range(CUTS)]
            for stopped in (False, True)
        }
    print(  # noqa: T201 (the result)
        f"{kind}: of {CUTS} cuts each, a reported sync was not on the disk in {sum(map(bool, lost[False]))} with the "
        f"processes running, in {sum(map(bool, lost[True]))} with them stopped"
    )
    assert not any(lost[True])
