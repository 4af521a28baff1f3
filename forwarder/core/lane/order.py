"""Order per person: a record goes when it is the first for every identity that it names.

Each order key has a line of waiting records; a record stands in the line of each of its keys and goes when it heads
them all. It keeps its place until it is resolved, so nothing overtakes it during retries. A person with more than
`per_person` records in the window is held in the spool from the first record that does not fit, and scanned again
when the line has shrunk to an eighth of that.
"""

from collections import deque
from collections.abc import Iterable
from heapq import heappop, heappush

from forwarder.core.lane.batch import Batch, Cut
from forwarder.core.lane.expiry import Ages
from forwarder.core.lane.holds import Holds, Links
from forwarder.core.spool.frame import Span

PER_PERSON = 64
REFILL_PART = 8

Line = deque[Batch]


class Orderer:
    """Single-record batches in order per person, parallel across persons. Bounded by what the lane leases."""

    def __init__(self, *, links: Links, holds: Holds, per_person: int = PER_PERSON) -> None:
        self.per_person = per_person
        self.waits = 0
        """Records over `per_person` that had to be taken into the window because no more persons can be held."""
        self._links = links
        self._holds = holds
        self._lines: dict[int, Line] = {}
        self._waiting: set[Batch] = set()
        """All records that are neither taken nor ready."""
        self._ready: list[tuple[int, Batch]] = []

    def add(self, spans: Iterable[Span], *, now: float, wall: float) -> list[Span]:
        """Take leased spans, oldest first; return the records that must wait in the spool."""
        del now, wall
        return [single for span in spans for single in span.singles() if not self._add(single)]

    def take(self, now: float, cut: Cut = Cut.DUE) -> Batch | None:
        """Return the oldest record that heads all its lines; there is nothing to wait for."""
        del now, cut
        return heappop(self._ready)[1] if self._ready else None

    def far(self) -> Batch | None:
        """Return one of the newest records that are ready."""
        return self._ready.pop()[1] if self._ready else None

    @property
    def eager(self) -> bool:
        """Return whether any record waits, be it for another one of its person."""
        return bool(self._ready or self._waiting)

    def due_at(self) -> float | None:
        """Return None: time alone makes nothing ready."""
        return None

    def ready(self) -> bool:
        """Return whether `take` would return a record."""
        return bool(self._ready)

    def done(self, batch: Batch) -> None:
        """Take note that a record is resolved, and let the next of its person go."""
        for key in batch.order:
            line = self._lines[key]
            line.remove(batch) if line[0] is not batch else line.popleft()
            if not line:
                del self._lines[key]
        for key in batch.order:
            if key in self._lines:
                self._promote(self._lines[key][0])
        if self._holds.persons:
            self._holds.relieve(batch.order, self._length, max(self.per_person // REFILL_PART, 1))

    def drop(self, key: bytes) -> list[Span]:
        """Take out nothing: an ordered lane is parked whole, else one key's events would overtake another's."""
        del key
        return []

    def clear(self) -> list[Span]:
        """Take out everything that waits (not what was taken)."""
        batches = [*self._waiting, *(batch for _, batch in self._ready)]
        self._waiting.clear()
        self._ready.clear()
        for batch in batches:
            for key in batch.order:
                self._lines[key].remove(batch)
                if not self._lines[key]:
                    del self._lines[key]
        return [span for batch in batches for span in batch.spans]

    def sweep(self, ages: Ages, *, now: float, wall: float) -> list[Span]:
        """Take out what has expired."""
        del now
        batches = [*self._waiting, *(batch for _, batch in self._ready)]
        old = [batch for batch in batches if ages.any_expired(batch.spans, wall)]
        expired = [batch for batch in old if ages.split(batch.spans, wall)[1]]
        dead = set(expired)
        self._waiting -= dead
        self._ready = sorted(entry for entry in self._ready if entry[1] not in dead)
        for batch in sorted(expired, key=lambda batch: batch.first):
            self.done(batch)
        return [span for batch in expired for span in batch.spans]

    def _length(self, key: int) -> int:
        line = self._lines.get(key)
        return len(line) if line else 0

    def _add(self, single: Span) -> bool:
        given = single.order()
        keys = self._links.expand(given)
        if self._holds.order(given):
            return False
        lengths = [len(self._lines.get(key, ())) for key in keys]
        if lengths and max(lengths) >= self.per_person:
            if self._holds.hold_person(keys):
                return False
            self.waits += 1
        if len(given) > 1:
            self._links.unite(given)
        batch = Batch(single.frame.batch_key, (single,), order=keys)
        heads = [self._stand(key, batch) for key in keys]  # in every line, whether or not it heads the first
        if all(heads):
            heappush(self._ready, (batch.first, batch))
        else:
            self._waiting.add(batch)
        return True

    def _stand(self, key: int, batch: Batch) -> bool:
        """Put a record into a line by its sequence, nearly always at the end; return whether it heads the line."""
        line = self._lines.get(key)
        if line is None:
            self._lines[key] = deque((batch,))
            return True
        at = len(line)
        while at and line[at - 1].first > batch.first:
            at -= 1
        line.insert(at, batch)
        return line[0] is batch

    def _promote(self, batch: Batch) -> None:
        """Make a record ready if it heads all its lines."""
        if batch in self._waiting and all(self._lines[key][0] is batch for key in batch.order):
            self._waiting.discard(batch)
            heappush(self._ready, (batch.first, batch))
