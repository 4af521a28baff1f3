"""Waves: requests that begin together, and when the next ones may while a flood comes in."""

SHARE = 0.18
"""Of the bytes that a flood brings so many are sent meanwhile. What the door does not take in then is lost (UDP) or
waits, and what it takes in is safe: delivery falls behind all the same, and makes up for it afterwards."""
LEAST_S = 0.004
"""From one wave to the next at least: a request that holds a single event costs far more than its bytes tell."""
MOST_S = 0.008
"""And at most: so a lane goes on at a good pace in a flood of which it could take more."""
_LATE_S = 0.002
"""So late a timer may be without the next one being late too."""


class Waves:
    """One lane's waves; `size` is in bytes, times are in seconds."""

    __slots__ = ("_began", "_due", "_size")

    def __init__(self) -> None:
        self._began = 0.0
        self._size = 0
        self._due: float | None = 0.0
        """When the next wave may begin; None until that is asked."""

    def began(self, size: int, now: float) -> None:
        """Take note that requests of so many bytes begin: a new wave, if `due` was asked since the last ones."""
        if not size:
            return
        if self._due is not None:
            self._began = self._due if self._due <= now < self._due + _LATE_S else now
            self._size, self._due = 0, None
        self._size += size

    def due(self, flood: float) -> float:
        """Return when the next ones may begin, while so many bytes a second come in."""
        self._due = self._began + min(max(self._size / (SHARE * flood), LEAST_S), MOST_S)
        return self._due
