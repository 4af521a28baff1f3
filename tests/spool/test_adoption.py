"""Adoption cut off anywhere and repeated: everything is under the new name, once, and both ledgers' equations hold.

The process dies at the n-th opening, renaming, creating or deleting of a file.
"""

import asyncio
import os
import shutil
import sys
from collections.abc import Sequence
from multiprocessing import get_context
from pathlib import Path

import pytest

from forwarder.config.model import DeadLetterLimits
from forwarder.core.seams import Outcome
from forwarder.errors import ForwarderError
from forwarder.metrics import Metrics
from forwarder.spool import adoption, dead_letter_line, dead_letter_match
from forwarder.spool.audit import audit
from forwarder.spool.dead_letters import DiskDeadLetters
from forwarder.spool.directory import SpoolDirectory
from forwarder.spool.fs import RealFs
from forwarder.spool.settings import SpoolSettings
from forwarder.spool.spool import DiskSpool
from tests.app.test_replay import letter
from tests.support import spools
from tests.support.spools import SystemClock, append, event, lease_all

KILLED = 9
DEADLY = frozenset({"open", "os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.truncate"})
OLD, NEW = range(100, 120), range(20)
OLD_DEAD, NEW_DEAD = range(200, 205), range(50, 52)


def spool(root: Path, name: str) -> DiskSpool:
    return DiskSpool(
        directory=root / "spool" / name,
        quarantine=root / "quarantine" / name,
        destination=name,
        settings=SpoolSettings(segment_size=16384),
        clock=SystemClock(),
        metrics=Metrics(),
    )


async def fill(root: Path, name: str, queued: Sequence[int], dead: Sequence[int]) -> None:
    """Let so many events wait in a queue and so many be dead."""
    letters = DiskDeadLetters(root / "dead" / name, name, DeadLetterLimits(), SystemClock())
    async with letters, spool(root, name) as one:
        for number in dead:
            await append(one, [event(number)])
            (span,) = await lease_all(one)
            await letters.add([letter(span.first, bytes(span.data), span.frame.accepted_at)])
            one.ack([span], Outcome.DIED)
        for number in queued:
            await append(one, [event(number, 2000)], key=b"key%d" % (number % 3))


def prepared(root: Path, *, used: bool) -> Path:
    template = root / "template"
    for part in ("spool", "dead", "quarantine"):
        (template / part).mkdir(parents=True)
    asyncio.run(fill(template, "old", OLD, OLD_DEAD))
    if used:
        asyncio.run(fill(template, "new", NEW, NEW_DEAD))
    return template


def adopt(root: Path, *, die_at: int = 0) -> int:
    """Adopt, in a process that dies at the `die_at`-th call; return its exit code."""
    process = get_context("forkserver").Process(target=_adopt, args=(root, die_at))
    process.start()
    process.join(60)
    assert process.exitcode is not None
    return process.exitcode


def _adopt(root: Path, die_at: int) -> None:
    left = die_at

    def count(name: str, arguments: tuple[object, ...]) -> None:
        nonlocal left
        if name in DEADLY and str(arguments[0]).startswith(str(root)):
            left -= 1
            if left == 0:
                os._exit(KILLED)

    directory = SpoolDirectory(root, max_total=1 << 40, min_free=0, version="1", clock=SystemClock())
    directory.open()
    sys.addaudithook(count)
    asyncio.run(adoption.adopt(directory, "old", "new", max_size=1 << 30, clock=SystemClock()))


def numbers_of(root: Path, name: str) -> list[int]:
    async def read() -> list[int]:
        async with spool(root, name) as one:
            return sorted(spools.numbers(await lease_all(one)))

    return asyncio.run(read())


def dead_of(root: Path, name: str) -> list[bytes]:
    every = dead_letter_match.Match()
    return sorted(found.event for found in dead_letter_line.read(root / "dead" / name, every))


def assert_adopted(root: Path, *, used: bool) -> None:
    found = audit(RealFs(), root, "new")
    assert (found.imbalance, found.dead_letter_imbalance, found.discrepancies) == (0, 0, [])
    assert numbers_of(root, "new") == [*(NEW if used else ()), *OLD]
    assert dead_of(root, "new") == sorted(event(n) for n in (*(NEW_DEAD if used else ()), *OLD_DEAD))
    assert not (root / "spool" / "old").exists()
    assert not (root / "dead" / "old").exists()


def cut_off_at(template: Path, here: Path, die_at: int, *, used: bool) -> bool:
    """Return whether it was cut off at all; whatever happened, a second run finishes it."""
    shutil.copytree(template, here)
    code = adopt(here, die_at=die_at)
    assert code in {0, KILLED}
    if (here / "spool" / "old").exists():
        assert adopt(here) == 0
    assert_adopted(here, used=used)
    shutil.rmtree(here)
    return code == KILLED


@pytest.mark.parametrize("used", [True, False])
def test_an_adoption_cut_off_and_repeated_moves_everything_once(tmp_path: Path, *, used: bool) -> None:
    template = prepared(tmp_path, used=used)
    for die_at in range(1, 200, 23 if used else 3):
        if not cut_off_at(template, tmp_path / "here", die_at, used=used):
            return
    raise AssertionError("it never came to its end")


@pytest.mark.prove
@pytest.mark.parametrize("used", [True, False])
def test_an_adoption_cut_off_all_along_and_repeated_moves_everything_once(tmp_path: Path, *, used: bool) -> None:
    template = prepared(tmp_path, used=used)
    deaths, step = 0, 4 if used else 1
    while cut_off_at(template, tmp_path / "here", 1 + deaths * step, used=used):
        deaths += 1
    print(f"{deaths} deaths of an adoption")  # noqa: T201 (the result)
    assert deaths > (20 if used else 5)


async def test_an_adoption_without_room_says_so_and_goes_on_later(tmp_path: Path) -> None:
    for part in ("spool", "dead", "quarantine"):
        (tmp_path / part).mkdir()
    await fill(tmp_path, "old", OLD, OLD_DEAD)
    await fill(tmp_path, "new", NEW, NEW_DEAD)
    directory = SpoolDirectory(tmp_path, max_total=1 << 40, min_free=0, version="1", clock=SystemClock())
    directory.open()
    with pytest.raises(ForwarderError, match="run this again when there is room"):
        await adoption.adopt(directory, "old", "new", max_size=60_000, clock=SystemClock())
    result = await adoption.adopt(directory, "old", "new", max_size=1 << 30, clock=SystemClock())
    assert result.letters == len(OLD_DEAD)
    directory.close()
    await asyncio.to_thread(assert_adopted, tmp_path, used=True)
