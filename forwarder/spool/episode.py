"""An episode of losses: one line when it begins, one with the total when nothing has been lost for a while."""

import asyncio
from collections.abc import Callable

QUIET_S = 60.0
"""An episode ends when nothing was lost for so long."""

Tell = Callable[[int], object]
"""Logs a number of events."""


class Episode:
    """Counts what is lost by one policy. Owned by the loop; `close` ends it early."""

    def __init__(self, *, begins: Tell, ends: Tell) -> None:
        self._begins = begins
        self._ends = ends
        self._events = 0
        self._timer: asyncio.TimerHandle | None = None

    def count(self, events: int) -> None:
        """Note a loss; the first one begins an episode."""
        if self._timer is None:
            self._begins(events)
        else:
            self._timer.cancel()
        self._events += events
        self._timer = asyncio.get_running_loop().call_later(QUIET_S, self.close)

    def close(self) -> None:
        """End the episode, if one is under way, with its total."""
        if self._timer is None:
            return
        self._timer.cancel()
        self._timer = None
        self._ends(self._events)
        self._events = 0
