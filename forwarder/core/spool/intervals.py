"""A set of sequences as disjoint tagged intervals, built for marks that arrive mostly in order."""

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterator

Range = tuple[int, int]
"""`[first, end)`."""


class Intervals:
    """Disjoint intervals `[first, end)`, each with a small tag; neighbours of one tag are one interval.

    The first tag that a sequence gets stays. Adding at the end is O(1), elsewhere one memmove.
    """

    __slots__ = ("_ends", "_starts", "_tags")

    def __init__(self) -> None:
        self._starts = array("Q")
        self._ends = array("Q")
        self._tags = bytearray()

    def __len__(self) -> int:
        return len(self._starts)

    def __iter__(self) -> Iterator[tuple[int, int, int]]:
        return iter(list(zip(self._starts, self._ends, self._tags, strict=True)))

    @property
    def end(self) -> int:
        """Return one past the highest member, or 0."""
        return self._ends[-1] if self._ends else 0

    def add(self, first: int, end: int, tag: int = 0) -> list[Range]:
        """Add what is not in yet; return the pieces that are new."""
        if first >= end:
            return []
        if first >= self.end:
            self._insert(len(self._starts), first, end, tag)
            return [(first, end)]
        pieces = self.gaps(first, end)
        for piece in pieces:
            self._insert(bisect_left(self._starts, piece[0]), *piece, tag)
        return pieces

    def _insert(self, at: int, first: int, end: int, tag: int) -> None:
        joins_left = at > 0 and self._ends[at - 1] == first and self._tags[at - 1] == tag
        joins_right = at < len(self._starts) and self._starts[at] == end and self._tags[at] == tag
        if joins_left and joins_right:
            self._ends[at - 1] = self._ends[at]
            self._cut(at, at + 1)
        elif joins_left:
            self._ends[at - 1] = end
        elif joins_right:
            self._starts[at] = first
        else:
            self._starts.insert(at, first)
            self._ends.insert(at, end)
            self._tags.insert(at, tag)

    def _cut(self, start: int, stop: int) -> None:
        del self._starts[start:stop], self._ends[start:stop], self._tags[start:stop]

    def discard(self, first: int, end: int) -> None:
        """Take `[first, end)` out, whatever of it is in."""
        if first >= end:
            return
        start = bisect_right(self._ends, first)
        stop = bisect_left(self._starts, end)
        if start >= stop:
            return
        left = (self._starts[start], first, self._tags[start])
        right = (end, self._ends[stop - 1], self._tags[stop - 1])
        self._cut(start, stop)
        for piece in (right, left):
            if piece[0] < piece[1]:
                self._starts.insert(start, piece[0])
                self._ends.insert(start, piece[1])
                self._tags.insert(start, piece[2])

    def gaps(self, first: int, end: int) -> list[Range]:
        """Return what of `[first, end)` is not in."""
        found: list[Range] = []
        at = bisect_right(self._ends, first)
        while first < end and at < len(self._starts) and self._starts[at] < end:
            if first < self._starts[at]:
                found.append((first, self._starts[at]))
            first = self._ends[at]
            at += 1
        if first < end:
            found.append((first, end))
        return found

    def overlaps(self, first: int, end: int) -> bool:
        """Return whether any of `[first, end)` is in."""
        at = bisect_right(self._ends, first)
        return first < end and at < len(self._starts) and self._starts[at] < end

    def count(self, first: int, end: int) -> int:
        """Return how many of `[first, end)` are in."""
        at = bisect_right(self._ends, first)
        total = 0
        while at < len(self._starts) and self._starts[at] < end:
            total += min(end, self._ends[at]) - max(first, self._starts[at])
            at += 1
        return total

    def skip(self, sequence: int) -> int:
        """Return the first sequence from `sequence` on that is not in."""
        at = bisect_right(self._ends, sequence)
        while at < len(self._starts) and self._starts[at] <= sequence:
            sequence = self._ends[at]
            at += 1
        return sequence

    def pop_first(self) -> tuple[int, int, int]:
        """Remove and return the lowest interval."""
        first = (self._starts[0], self._ends[0], self._tags[0])
        self._cut(0, 1)
        return first

    @property
    def start(self) -> int | None:
        """Return the lowest member, or None."""
        return self._starts[0] if self._starts else None
