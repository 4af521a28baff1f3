"""Parked batch keys: what the vendor refuses for one app or namespace must not hold the others."""

from forwarder.core.lane.lane import parked_delay

KNOWN_LIMIT = 10_000
"""Batch keys remembered as seen; the oldest is forgotten first. Only the question "is any other left?" needs them."""
PARKED_LIMIT = 1000
"""So many keys may be parked one by one, each with a batch in memory to probe with; one more parks the destination."""


class Parked:
    """One parked batch key."""

    __slots__ = ("cause", "probe_at", "probes", "storm")

    def __init__(self, cause: str, *, storm: bool) -> None:
        self.cause = cause
        self.storm = storm
        self.probes = 0
        self.probe_at = 0.0


class Keys:
    """The batch keys seen, and those of them that are parked. Each is probed on its own, gently."""

    def __init__(self) -> None:
        self.parked: dict[bytes, Parked] = {}
        self._known: dict[bytes, None] = {}

    def seen(self, key: bytes) -> None:
        """Take note of a key."""
        if key not in self._known:
            if len(self._known) >= KNOWN_LIMIT:
                del self._known[next(iter(self._known))]
            self._known[key] = None

    def park(self, key: bytes, cause: str, *, storm: bool, now: float, jitter: float) -> bool:
        """Park a key (again, with a longer wait); return whether it was flowing."""
        entry = self.parked.get(key)
        fresh = entry is None
        if entry is None:
            entry = self.parked[key] = Parked(cause, storm=storm)
        entry.cause, entry.storm = cause, storm
        self.postpone(key, now=now, jitter=jitter)
        return fresh

    def postpone(self, key: bytes, *, now: float, jitter: float) -> None:
        """Set the next probe of a parked key."""
        entry = self.parked[key]
        entry.probe_at = now + parked_delay(entry.probes, jitter)
        entry.probes += 1

    def unpark(self, key: bytes) -> bool:
        """Let a key flow; return whether it was parked."""
        return self.parked.pop(key, None) is not None

    @property
    def full(self) -> bool:
        """Return whether no more keys may be parked one by one."""
        return len(self.parked) > PARKED_LIMIT

    def all_parked(self) -> bool:
        """Return whether no key is left that could succeed."""
        return self.full or all(key in self.parked for key in self._known)

    def due(self, now: float) -> bytes | None:
        """Return the parked key whose probe is most overdue."""
        if not self.parked:
            return None
        key = min(self.parked, key=lambda key: self.parked[key].probe_at)
        return key if self.parked[key].probe_at <= now else None

    def due_at(self) -> float | None:
        """Return when the next parked key may be probed."""
        return min((entry.probe_at for entry in self.parked.values()), default=None)

    def resume(self, now: float) -> None:
        """Probe all of them now."""
        for entry in self.parked.values():
            entry.probes, entry.probe_at = 0, now
