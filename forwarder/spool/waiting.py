"""Those who wait until their events are delivered (`?ack=delivered`).

Each was told the level reached at the commit, and hears once more from here: in the loop's next turn, so that one who
raises cannot come between a record's end in the ledger and its journal.
"""

import asyncio
from bisect import bisect_right, insort
from collections.abc import Sequence

from forwarder.core.seams import Done, Durability, Failed, Outcome, Stored
from forwarder.core.spool.packing import Piece

LIMIT = 10_000
"""Waiters kept; whoever comes later is told the level reached once more: nothing further will be said."""


class _Waiter:
    __slots__ = ("done", "left", "outcome")

    def __init__(self, done: Done, left: int) -> None:
        self.done = done
        self.left = left
        self.outcome = Outcome.DELIVERED


class DeliveryWaiters:
    """Calls `done` once all records of a group have ended."""

    def __init__(self) -> None:
        self._pieces: list[tuple[int, int, _Waiter]] = []
        self._waiting = 0

    def add(self, done: Done, pieces: Sequence[Piece]) -> None:
        """Wait for these records; they are committed."""
        if self._waiting >= LIMIT:
            _tell(done, Stored(Durability.FSYNC))
            return
        waiter = _Waiter(done, sum(end - first for first, end in pieces))
        for first, end in pieces:
            insort(self._pieces, (first, end, waiter), key=lambda piece: piece[0])
        self._waiting += 1

    def ended(self, first: int, end: int, outcome: Outcome) -> None:
        """Note that records `[first, end)` have just ended; each record is noted once."""
        if not self._pieces:
            return
        at = max(0, bisect_right(self._pieces, first, key=lambda piece: piece[0]) - 1)
        touched: list[int] = []
        while at < len(self._pieces) and self._pieces[at][0] < end:
            start, stop, waiter = self._pieces[at]
            common = min(end, stop) - max(first, start)
            if common > 0:
                waiter.left -= common
                waiter.outcome = outcome if outcome is not Outcome.DELIVERED else waiter.outcome
                touched.append(at)
            at += 1
        self._answer(touched)

    def _answer(self, touched: list[int]) -> None:
        finished = [self._pieces[at][2] for at in touched if self._pieces[at][2].left == 0]
        if not finished:
            return
        self._pieces = [piece for piece in self._pieces if piece[2].left]
        for waiter in dict.fromkeys(finished):
            self._waiting -= 1
            word = waiter.outcome.name.lower()
            delivered = waiter.outcome is Outcome.DELIVERED
            _tell(waiter.done, Stored(Durability.DELIVERED) if delivered else Failed(f"not delivered: {word}"))

    def give_up(self) -> None:
        """Tell all the level reached once more: the spool closes."""
        waiters = dict.fromkeys(piece[2] for piece in self._pieces)
        self._pieces = []
        self._waiting = 0
        for waiter in waiters:
            _tell(waiter.done, Stored(Durability.FSYNC))


def _tell(done: Done, answer: Stored | Failed) -> None:
    asyncio.get_running_loop().call_soon(done, answer)
