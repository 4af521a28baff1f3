"""An alarm: one deadline that may be moved at no cost."""

import asyncio
from collections.abc import Callable


class Alarm:
    """Calls `ring` once the deadline (of `loop.time`) has passed.

    A deadline that moves back leaves the timer as it is: it looks, when it fires, how late it has become meanwhile. So
    a deadline a request costs an assignment, and a busy connection starts a timer every few seconds.
    """

    __slots__ = ("_deadline", "_fires_at", "_loop", "_ring", "_timer")

    def __init__(self, loop: asyncio.AbstractEventLoop, ring: Callable[[], None]) -> None:
        self._loop = loop
        self._ring = ring
        self._timer: asyncio.TimerHandle | None = None
        self._fires_at = 0.0
        """When the timer fires; uvloop's handle of one that is due within the millisecond cannot tell."""
        self._deadline = 0.0

    @property
    def deadline(self) -> float:
        """Return when it rings."""
        return self._deadline

    def set(self, deadline: float) -> None:
        """Ring at `deadline` and not before."""
        self._deadline = deadline
        if self._timer is None or self._fires_at > deadline:
            self.stop()
            self._fires_at = deadline
            self._timer = self._loop.call_at(deadline, self._fire)

    def set_in(self, seconds: float) -> None:
        """Ring after so many seconds."""
        self.set(self._loop.time() + seconds)

    def stop(self) -> None:
        """Do not ring."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _fire(self) -> None:
        self._timer = None
        if self._loop.time() < self._deadline:
            self.set(self._deadline)
        else:
            self._ring()
