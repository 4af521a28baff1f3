"""The ledger: which sequences have ended, and how. Everything in it follows from sequences, nothing from counters."""

from collections.abc import Iterable, Mapping

import msgspec

from forwarder.core.seams import Outcome
from forwarder.core.spool.intervals import Intervals, Range

FIRST = 1
"""The first sequence of every spool."""


class Balance(msgspec.Struct, frozen=True):
    """All sequences below `watermark` have ended; `totals` counts them by outcome 1 to 7."""

    watermark: int = FIRST
    totals: tuple[int, ...] = (0,) * len(Outcome)

    @property
    def sound(self) -> bool:
        """Return whether the counts add up to the watermark."""
        return len(self.totals) == len(Outcome) and sum(self.totals) == self.watermark - FIRST


class Ledger:
    """Ended sequences: a balance up to the watermark, tagged intervals above it."""

    __slots__ = ("_above", "_totals", "watermark")

    def __init__(self, balance: Balance | None = None) -> None:
        balance = balance or Balance()
        self.watermark = balance.watermark
        self._totals = list(balance.totals)
        self._above = Intervals()

    def record(self, first: int, end: int, outcome: Outcome) -> list[Range]:
        """Let `[first, end)` end thus; return the pieces that had not ended before."""
        first = max(first, self.watermark)
        if first == self.watermark and not self._above:
            if first >= end:
                return []
            self._totals[outcome - 1] += end - first
            self.watermark = end
            return [(first, end)]
        fresh = self._above.add(first, end, outcome)
        while self._above.start == self.watermark:
            start, self.watermark, tag = self._above.pop_first()
            self._totals[tag - 1] += self.watermark - start
        return fresh

    @property
    def end(self) -> int:
        """Return one past the highest sequence that has ended."""
        return max(self.watermark, self._above.end)

    @property
    def balance(self) -> Balance:
        """Return the part below the watermark."""
        return Balance(self.watermark, tuple(self._totals))

    @property
    def intervals(self) -> list[tuple[int, int, int]]:
        """Return what has ended above the watermark: first, end, outcome."""
        return list(self._above)

    def totals(self) -> Mapping[str, int]:
        """Return all ended sequences by outcome word."""
        totals = list(self._totals)
        for first, end, tag in self._above:
            totals[tag - 1] += end - first
        return {outcome.name.lower(): totals[outcome - 1] for outcome in Outcome}

    def gaps(self, first: int, end: int) -> list[Range]:
        """Return what of `[first, end)` has not ended."""
        return self._above.gaps(max(first, self.watermark), end)

    def open(self, first: int, end: int) -> int:
        """Return how many of `[first, end)` have not ended."""
        first = max(first, self.watermark)
        return end - first - self._above.count(first, end) if first < end else 0

    def ended(self, first: int, end: int) -> bool:
        """Return whether all of `[first, end)` has ended."""
        return self.open(first, end) == 0

    def touched(self, first: int, end: int) -> bool:
        """Return whether any of `[first, end)` has ended."""
        return first < self.watermark or self._above.overlaps(first, end)

    def skip(self, sequence: int) -> int:
        """Return the first sequence from `sequence` on that has not ended."""
        return self._above.skip(max(sequence, self.watermark))


def replay(balance: Balance, acks: Iterable[tuple[int, int, int]]) -> Ledger:
    """Return the ledger that `balance` and these (first, end, outcome) make; the first outcome counts."""
    ledger = Ledger(balance)
    for first, end, outcome in acks:
        ledger.record(first, end, Outcome(outcome))
    return ledger
