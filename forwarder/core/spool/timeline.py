"""When records were accepted, remembered coarsely: enough to tell the age of the oldest one without reading it."""

from bisect import bisect_left, bisect_right

LIMIT = 2048
"""Marks kept; when there are more, every second one is forgotten."""
_RESOLUTION_S = 1.0


class Timeline:
    """Marks of (sequence, accepted at), in order of sequence."""

    __slots__ = ("_sequences", "_times")

    def __init__(self) -> None:
        self._sequences: list[int] = []
        self._times: list[float] = []

    def mark(self, sequence: int, accepted_at: float) -> None:
        """Note that this record was accepted then; marks that add nothing are not kept."""
        at = bisect_left(self._sequences, sequence)
        if at < len(self._sequences) and self._sequences[at] == sequence:
            self._times[at] = accepted_at
            return
        if at and abs(accepted_at - self._times[at - 1]) < _RESOLUTION_S:
            return
        self._sequences.insert(at, sequence)
        self._times.insert(at, accepted_at)
        if len(self._sequences) > LIMIT:
            del self._sequences[1:-1:2], self._times[1:-1:2]

    def at(self, sequence: int) -> float | None:
        """Return when this record was accepted, or a moment before that; forgets all that is older."""
        place = bisect_right(self._sequences, sequence) - 1
        if place < 0:
            return self._times[0] if self._times else None
        del self._sequences[:place], self._times[:place]
        return self._times[0]
