"""The table of segments as the loop knows it: which file holds which records."""

from bisect import bisect_right, insort
from collections.abc import Iterable, Sequence
from operator import attrgetter

import msgspec

from forwarder.core.spool.ledger import Ledger
from forwarder.core.spool.segment import Extent

_BASE = attrgetter("base")


class Segments:
    """Sealed segments in order, the active one, and those of a newer format (left alone)."""

    def __init__(self, sealed: Sequence[Extent], foreign: Sequence[Extent]) -> None:
        self.sealed = list(sealed)
        self.foreign = list(foreign)
        self.active: Extent | None = None
        self._damaged = {extent.number for extent in sealed if extent.damaged}

    @property
    def count(self) -> int:
        """Return the number of files."""
        return len(self.sealed) + len(self.foreign) + (self.active is not None)

    @property
    def sealed_bytes(self) -> int:
        """Return the bytes of all files but the active one."""
        return sum(extent.size for extent in (*self.sealed, *self.foreign))

    @property
    def damaged(self) -> list[int]:
        """Return the numbers of files that go to quarantine when drained."""
        return sorted(self._damaged)

    def grow(self, active: Extent) -> None:
        """Note the active segment as it is now."""
        self.active = active

    def seal(self, extent: Extent) -> None:
        """Note that a segment takes no more records."""
        self.active = None
        insort(self.sealed, extent, key=_BASE)

    def damage(self, number: int) -> None:
        """Note that a segment has records that cannot be read."""
        self._damaged.add(number)

    def remove(self, numbers: Iterable[int]) -> None:
        """Forget trimmed segments."""
        gone = set(numbers)
        self.sealed = [extent for extent in self.sealed if extent.number not in gone]
        self._damaged -= gone

    def find(self, sequence: int) -> Extent | None:
        """Return the readable segment that holds `sequence`."""
        active = self.active
        if active is not None and active.base <= sequence:
            return active if sequence < active.end else None
        at = bisect_right(self.sealed, sequence, key=_BASE) - 1
        # an empty segment has the base of its successor
        while at >= 0 and self.sealed[at].base == self.sealed[at].end:
            at -= 1
        return self.sealed[at] if at >= 0 and sequence < self.sealed[at].end else None

    def after(self, sequence: int) -> int | None:
        """Return the base of the first readable segment behind `sequence`."""
        at = bisect_right(self.sealed, sequence, key=_BASE)
        if at < len(self.sealed):
            return self.sealed[at].base
        return self.active.base if self.active is not None and self.active.base > sequence else None

    def drained(self, ledger: Ledger) -> list[Extent]:
        """Return the segments that may be deleted: all ended, and not the newest file (it keeps the sequences)."""
        newest = max((e.number for e in (*self.sealed, *self.foreign, *self._actives())), default=0)
        return [
            msgspec.structs.replace(extent, damaged=True) if extent.number in self._damaged else extent
            for extent in self.sealed
            if extent.number != newest and ledger.ended(extent.base, extent.end)
        ]

    def queued(self, ledger: Ledger) -> int:
        """Return how many records lie in files and have not ended."""
        return sum(ledger.open(e.base, e.end) for e in (*self.sealed, *self.foreign, *self._actives()))

    def _actives(self) -> list[Extent]:
        return [self.active] if self.active is not None else []
