"""Whoever waits for an intake that raises hears of it once, whatever the intake has done or does later."""

import asyncio
from collections.abc import Callable, Sequence

import pytest

from forwarder.core.seams import Busy, Done, Durability, Failed, Group, Stored
from forwarder.sources.handing_in import hand_in
from tests.support.fake_intake import FakeIntake

STORED = Stored(Durability.FSYNC)
GROUP = Group("telemetrydeck", b"k", [b"{}"], 2)


class Late(FakeIntake):
    """Raises after it has taken what it was given."""

    def submit(self, groups: Sequence[Group], level: Durability, done: Done) -> Busy | None:
        super().submit(groups, level, done)
        raise ZeroDivisionError


@pytest.fixture
async def reported() -> list[object]:
    """Return what is reported to the loop."""
    told: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: told.append(context.get("exception")))
    return told


async def heard(intake: FakeIntake, later: Callable[[], None] = lambda: None) -> list[Stored | Failed]:
    """Return what one hears who submits, and whose intake does something later."""
    results: list[Stored | Failed] = []
    assert hand_in(intake, [GROUP], Durability.FSYNC, results.append) is None
    later()
    await asyncio.sleep(0)
    return results


async def test_a_result_that_was_told_stands(reported: list[object]) -> None:
    assert await heard(Late()) == [STORED]
    assert [type(each) for each in reported] == [ZeroDivisionError]


@pytest.mark.parametrize("commits", [False, True])
async def test_who_heard_nothing_hears_of_a_failure_and_nothing_else(reported: list[object], *, commits: bool) -> None:
    intake = Late(prompt=False)
    (failed,) = await heard(intake, intake.commit if commits else lambda: None)
    intake.commit()
    assert isinstance(failed, Failed)
    assert "internal error" in failed.message
    assert len(reported) == 1


async def test_an_intake_that_is_busy_or_takes_it_is_heard_as_it_is(reported: list[object]) -> None:
    intake = FakeIntake()
    assert await heard(intake) == [STORED]
    intake.busy = Busy("telemetrydeck", "max_size", "full", 1)
    assert hand_in(intake, [GROUP], Durability.FSYNC, lambda _result: None) is intake.busy
    assert reported == []
