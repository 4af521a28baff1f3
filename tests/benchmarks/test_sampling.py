import sys
from pathlib import Path

import pytest

from benchmarks import sampling
from benchmarks.machine import Missing

START = "_run_code (<frozen runpy>:88);<module> (forwarder/__main__.py:5);run (forwarder/cli/run.py:35)"
LOOP = f"{START};Runner.run (asyncio/runners.py:118)"
THREAD = (
    "Thread._bootstrap (threading.py:1002);Thread._bootstrap_inner (threading.py:1045);Thread.run (threading.py:982)"
)


def _stack(*frames: str) -> str:
    return ";".join(frames)


TURN = "Turn.end (forwarder/sources/turn.py:79)"
ENDED = "Writer._ended (forwarder/spool/writer.py:147)"
CHECK = "SignalCheck.each (forwarder/vendors/telemetrydeck/check.py:74)"
WORKER = "_worker (concurrent/futures/thread.py:83)"
STACKS = [
    (LOOP, "the loop and its sockets"),
    (_stack(LOOP, TURN), "taking what was read"),
    (_stack(LOOP, TURN, "cast (typing.py:10)"), "taking what was read"),
    (_stack(LOOP, "Turn.end (/srv/forwarder/forwarder/sources/turn.py:75)"), "taking what was read"),
    (_stack(LOOP, TURN, CHECK), "checking and stamping"),
    (CHECK, "checking and stamping"),
    (_stack(LOOP, TURN, "SpoolIntake.submit (forwarder/core/intake.py:9)"), "submitting"),
    (_stack(LOOP, TURN, "DiskSpool.append (forwarder/spool/spool.py:99)", ENDED), "submitting"),
    (_stack(LOOP, ENDED), "answering after the commit"),
    (_stack(LOOP, ENDED, "Connection.answer (forwarder/sources/connection.py:324)"), "answering after the commit"),
    (_stack(THREAD, "Writer._run (forwarder/spool/writer.py:204)"), "the writer thread"),
    (_stack(THREAD, WORKER, "Reader.read (forwarder/spool/reader.py:86)"), "reading the backlog"),
    (_stack(THREAD, WORKER), "the rest"),
    (_stack(LOOP, "Connection.data_received (forwarder/flusher/connection.py:89)"), "delivery"),
    (_stack(LOOP, "Lane.next (forwarder/flusher/requests.py:91)", "ack (forwarder/spool/spool.py:200)"), "delivery"),
    (
        _stack("encode (forwarder/vendors/telemetrydeck/delivery.py:9)", "Flusher (forwarder/flusher/a.py:1)"),
        "delivery",
    ),
    ("Batcher.take (forwarder/core/lane/batch.py:155)", "delivery"),
    ("Frame.starts (forwarder/core/spool/frame.py:83)", "the rest"),
]


@pytest.mark.parametrize(("frames", "part"), STACKS)
def test_a_stack_belongs_to_one_part(frames: str, part: str) -> None:
    assert sampling.part(frames) == part


def test_the_shares_of_all_parts_make_a_whole() -> None:
    lines = [f"{LOOP} 3", f"{LOOP};Turn.end (forwarder/sources/turn.py:75) 1"]
    shares = sampling.shares(lines)
    assert shares["the loop and its sockets"] == 0.75
    assert shares["taking what was read"] == 0.25
    assert sum(shares.values()) == 1
    assert list(shares) == [name for name, _ in sampling.PARTS]


def test_no_samples_are_no_shares() -> None:
    assert set(sampling.shares([]).values()) == {0}


def test_every_part_is_one_that_some_stack_belongs_to() -> None:
    assert {sampling.part(frames) for frames, _ in STACKS} == {name for name, _ in sampling.PARTS}


def test_the_sampler_is_found_on_path_or_beside_the_interpreter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "beside" / "python"))
    monkeypatch.setenv("PATH", str(tmp_path / "path"))
    with pytest.raises(Missing, match="py-spy is missing: pip install py-spy"):
        sampling.find()
    for place in ("beside", "path"):
        (tmp_path / place).mkdir()
        (tmp_path / place / "py-spy").touch(mode=0o700)
        assert sampling.find() == str(tmp_path / place / "py-spy")
