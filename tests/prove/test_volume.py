"""The proofs' own volumes: what a run that was killed left mounted is taken away by the next one, and nothing else."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.prove.support.volume import Volume, take_away_what_is_left

pytestmark = pytest.mark.prove

DYING = """
import os, sys
from pathlib import Path
from tests.prove.support.volume import Volume
volume = Volume(Path(sys.argv[1]))
volume.__enter__()
print(volume.path, flush=True)
os.kill(os.getpid(), 9)
"""


def mounts() -> str:
    return Path("/proc/self/mountinfo").read_text()


def test_what_a_killed_run_left_mounted_goes_and_what_others_use_stays(tmp_path: Path) -> None:
    mine, theirs = tmp_path / "mine", tmp_path / "theirs"
    mine.mkdir()
    theirs.mkdir()
    with Volume(mine) as volume:
        command = [sys.executable, "-c", DYING, str(theirs)]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        died = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, timeout=60, check=False)
        assert died.returncode == -signal.SIGKILL
        assert died.stdout.strip() in mounts()
        take_away_what_is_left()
        assert died.stdout.strip() not in mounts()
        assert str(volume.path) in mounts()
