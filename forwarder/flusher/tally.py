"""What a lane has done lately, for status: deliveries over the last minute, last error, last success."""

SLOT_S = 5.0
SLOTS = 12


class Tally:
    """Delivered events in twelve slots of five seconds, and the last of everything (seconds since the epoch)."""

    def __init__(self, now: float) -> None:
        self.last_error: str | None = None
        self.last_error_at: float | None = None
        self.last_delivered_at: float | None = None
        self._started = now
        self._slots: dict[int, int] = {}

    def delivered(self, count: int, *, now: float, wall: float) -> None:
        """Count delivered events."""
        slot = int(now / SLOT_S)
        if slot not in self._slots:
            self._slots = {old: events for old, events in self._slots.items() if old > slot - SLOTS}
            self._slots[slot] = 0
        self._slots[slot] += count
        self.last_delivered_at = wall

    def failed(self, error: str, *, wall: float) -> None:
        """Keep the last error."""
        self.last_error, self.last_error_at = error, wall

    def per_second(self, now: float) -> float:
        """Return events a second over the last minute, or over the lane's life if that is shorter."""
        newest = int(now / SLOT_S)
        events = sum(count for slot, count in self._slots.items() if slot > newest - SLOTS)
        return events / min(max(now - self._started, SLOT_S), SLOT_S * SLOTS)
