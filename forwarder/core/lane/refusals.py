"""Culprits and storms: a refused event becomes a dead letter only when it is the event's own fault.

A culprit waits until another event of its isolation is accepted, or until the isolation is over with fewer than
`storm_min` culprits. As many refusals in a row mean that the vendor or our configuration changed: a refusal storm.
"""

from collections.abc import Callable

import msgspec

from forwarder.core.lane.batch import Batch

KEYS_LIMIT = 1000
"""Streaks are kept for so many batch keys; the oldest is forgotten first (it would only have to start over)."""


class Culprit(msgspec.Struct, frozen=True):
    """One record that was refused alone, and the vendor's word on it."""

    batch: Batch
    reason: str
    status: int | None
    answer: str


class Refusals:
    """Pending culprits and refusals in a row, by batch key."""

    def __init__(self, storm_min: int) -> None:
        self.storm_min = storm_min
        self._pending: dict[bytes, list[Culprit]] = {}
        self._streak: dict[bytes, int] = {}

    def __len__(self) -> int:
        return sum(map(len, self._pending.values()))

    def refused(self, culprit: Culprit) -> bool:
        """Hold a culprit; return whether this is a storm."""
        key = culprit.batch.key
        self._pending.setdefault(key, []).append(culprit)
        streak = self._streak.pop(key, 0) + 1
        if len(self._streak) >= KEYS_LIMIT:
            del self._streak[next(iter(self._streak))]
        self._streak[key] = streak
        return streak >= self.storm_min

    def accepted(self, key: bytes) -> list[Culprit]:
        """Return the culprits that an accepted event of the same key proves guilty."""
        if key in self._streak:
            del self._streak[key]
        return self._pending.pop(key, []) if self._pending else []

    def settled(self, busy: Callable[[bytes], bool]) -> list[Culprit]:
        """Return the culprits of keys with nothing left to try: too few for a storm, so they are guilty."""
        if not self._pending:
            return []
        over = [key for key in self._pending if not busy(key)]
        return [culprit for key in over for culprit in self._pending.pop(key)]

    def pending(self, key: bytes) -> list[Culprit]:
        """Return the culprits that wait under a key."""
        return self._pending.get(key, [])

    def acquit(self, key: bytes) -> list[Batch]:
        """Take back the culprits of a storm: they wait with the rest of their key."""
        return [culprit.batch for culprit in self._pending.pop(key, [])]

    def clear(self) -> list[Batch]:
        """Take out everything."""
        keys = list(self._pending)
        return [batch for key in keys for batch in self.acquit(key)]
