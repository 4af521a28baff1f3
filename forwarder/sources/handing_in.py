"""Handing groups in to the intake, so that a bug there costs nobody but those it met."""

import asyncio
from collections.abc import Sequence

from forwarder.core.seams import Busy, Done, Durability, Failed, Group, Intake, Stored

_BUG = Failed("internal error: the daemon's log says more")


def hand_in(intake: Intake, groups: Sequence[Group], level: Durability, done: Done) -> Busy | None:
    """Submit; see `Intake.submit`. If it raises, `done` hears of a failure soon, once, unless it has heard a result."""
    told = over = False

    def tell(result: Stored | Failed) -> None:
        nonlocal told
        told = True
        if not over:
            done(result)

    try:
        return intake.submit(groups, level, tell)
    except Exception as error:  # noqa: BLE001 - the loop reports it
        loop = asyncio.get_running_loop()
        loop.call_exception_handler({"message": "submitting events raised", "exception": error})
        if not told:
            over = True
            loop.call_soon(done, _BUG)
        return None
