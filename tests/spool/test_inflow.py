"""What a flood is, and that a spool tells one only while delivery has fallen behind it."""

import asyncio
from pathlib import Path

import pytest

from forwarder.core.seams import Durability
from forwarder.spool.inflow import FLOOD, STEP_S, Inflow
from tests.support import spools
from tests.support.spools import NOTHING, append, event, lease_all

MIB = 1024 * 1024


@pytest.mark.parametrize(
    ("added", "now", "coming"),
    [
        ([], 100.0, 0),
        ([(100.0, FLOOD)], 100.0, FLOOD),
        ([(100.0, FLOOD)], 100.0 + 1.9 * STEP_S, FLOOD),
        ([(100.0, FLOOD)], 100.0 + 2 * STEP_S, 0),
        ([(100.0, FLOOD - 1), (100.0 + STEP_S / 2, 1)], 100.0 + STEP_S / 2, FLOOD),
        ([(100.0, FLOOD), (100.0 + STEP_S, 1)], 100.0 + STEP_S, FLOOD),
        ([(100.0, FLOOD), (100.0 + STEP_S, 2 * FLOOD)], 100.0 + STEP_S, 2 * FLOOD),
        ([(100.0, FLOOD // 2), (100.01, FLOOD // 2), (100.0 + STEP_S, 1)], 100.0 + STEP_S, FLOOD),
        ([(100.0, FLOOD - 1), (100.0 + STEP_S, FLOOD - 1)], 100.0 + STEP_S, 0),
        ([(100.0, FLOOD), (100.0 + STEP_S, 1)], 100.0 + 2.9 * STEP_S, FLOOD),
        ([(100.0, FLOOD), (100.0 + STEP_S, 1)], 100.0 + 3 * STEP_S, 0),  # nothing came for a whole step
        ([(100.0, FLOOD), (100.0 + 2 * STEP_S, 1)], 100.0 + 2 * STEP_S, 0),
        ([(100.0, FLOOD), (100.0 + STEP_S, 1), (100.0 + 2 * STEP_S, 1)], 100.0 + 2 * STEP_S, 0),
    ],
)
def test_a_flood_is_much_in_the_last_step(added: list[tuple[float, int]], now: float, coming: int) -> None:
    inflow = Inflow()
    for at, size in added:
        inflow.add(size, at)
    assert inflow.flood(now) == coming / STEP_S


async def test_a_spool_is_flooded_while_its_lane_is_behind_what_memory_holds_and_not_when_it_has_caught_up(
    tmp_path: Path,
) -> None:
    async with spools.spool(tmp_path) as one:
        told = [one.flood]
        async with asyncio.timeout(30):
            while not told[-1]:
                await asyncio.gather(*[append(one, [event(1, MIB // 2)], Durability.WRITTEN) for _ in range(6)])
                told.append(one.flood)
        await lease_all(one)
        assert not one.flood
        assert not any(told[:2])  # memory holds so much


async def test_a_flood_that_is_leased_as_it_comes_holds_nothing_up(tmp_path: Path) -> None:
    async with spools.spool(tmp_path) as one:
        for _ in range(40):
            await append(one, [event(1, MIB // 2)] * 2, Durability.WRITTEN)
            await one.lease(2 * MIB, NOTHING)
            assert not one.flood
