"""Subjects that take turns: who is not measured uses nothing."""

import os
import sys
from pathlib import Path

import pytest

from benchmarks import rounds
from benchmarks.process import Child


def state(child: Child) -> str:
    """Return the state once the child has taken its last signal: waitid says when it has stopped or gone on."""
    os.waitid(os.P_PID, child.pid, os.WSTOPPED | os.WCONTINUED)
    return Path(f"/proc/{child.pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]


def test_a_child_runs_only_while_it_is_let_and_ends_all_the_same(tmp_path: Path) -> None:
    states: list[str] = []
    with Child([sys.executable, "-c", "import signal; signal.pause()"], core=0, log=tmp_path / "log") as child:
        for _ in range(2):
            with child.going():
                if states:
                    states.append(state(child))
            states.append(state(child))
        with pytest.raises(ZeroDivisionError), child.going():
            raise ZeroDivisionError
    assert [each == "T" for each in states] == [True, False, True]
    assert not Path(f"/proc/{child.pid}").exists()


def test_ratios_are_taken_between_neighbours() -> None:
    assert rounds.ratios([2.0, 9.0], [1.0, 3.0]) == [2.0, 3.0]
    with pytest.raises(ValueError, match="zip"):
        rounds.ratios([2.0], [1.0, 3.0])
