"""Inflow: how much comes in, so that delivery can tell a flood from a backlog."""

STEP_S = 0.05
FLOOD = 2 * 1024 * 1024
"""Bytes in one step that make a flood: 40 MiB a second, more than a hundred thousand signals."""


class Inflow:
    """Adds up what is committed in steps of STEP_S; times are the loop's."""

    __slots__ = ("_began", "_coming", "_last")

    def __init__(self) -> None:
        self._began = 0.0
        self._coming = 0
        self._last = 0
        """Bytes of the step before the one that began at `_began`."""

    def add(self, size: int, now: float) -> None:
        """Count bytes that were committed."""
        if now >= self._began + STEP_S:
            self._last = self._coming if now < self._began + 2 * STEP_S else 0
            self._began, self._coming = now, 0
        self._coming += size

    def flood(self, now: float) -> float:
        """Return the bytes a second of this step or the one before, if it is a flood and not long past; else 0."""
        most = max(self._coming, self._last)
        return most / STEP_S if most >= FLOOD and now < self._began + 2 * STEP_S else 0.0
