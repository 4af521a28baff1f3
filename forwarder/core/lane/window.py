"""The window: all that a lane has leased and not resolved, and what of it goes next.

Bounded by the flusher, which leases only while `bytes` and `records` are below the lane's limits.
"""

from collections import deque
from collections.abc import Iterable
from typing import Protocol

from forwarder.core.lane.batch import Batch, Cut
from forwarder.core.lane.expiry import Ages
from forwarder.core.spool.frame import Span

ASIDE_LIMIT = 1000
"""Suspects at once; one more keeps its place in the rotation instead (it is retried like any other batch)."""


class Queue(Protocol):
    """Fresh records: the Batcher, or the Orderer where order matters."""

    def add(self, spans: Iterable[Span], *, now: float, wall: float) -> list[Span]:
        """Take leased spans; return those that must wait in the spool."""

    def take(self, now: float, cut: Cut) -> Batch | None:
        """Return the next batch."""

    def far(self) -> Batch | None:
        """Return a batch from the far end of what waits."""

    @property
    def eager(self) -> bool:
        """Return whether anything waits for the end of a request."""

    def due_at(self) -> float | None:
        """Return when time alone makes the next batch."""

    def done(self, batch: Batch) -> None:
        """Take note that a batch is resolved."""

    def drop(self, key: bytes) -> list[Span]:
        """Take out the waiting records of a batch key."""

    def clear(self) -> list[Span]:
        """Take out everything that waits."""

    def sweep(self, ages: Ages, *, now: float, wall: float) -> list[Span]:
        """Take out what has expired."""


class Window:
    """Leased records: fresh (`queue`), to be retried, parts of an isolation, suspects, and specimens of parked keys."""

    def __init__(self, queue: Queue) -> None:
        self.queue = queue
        self.bytes = 0
        self.records = 0
        self.pieces: list[Batch] = []
        """Parts of refused batches, last first, so that an isolation finds its first culprit soon."""
        self.returned: deque[Batch] = deque()
        self.suspects: list[Batch] = []
        self.specimens: dict[bytes, deque[Batch]] = {}
        """A few records of each parked key, to probe with; the rest waits in the spool."""

    def enter(self, spans: Iterable[Span], *, now: float, wall: float) -> list[Span]:
        """Take leased spans; return those that must wait in the spool."""
        spans = list(spans)
        self._count(spans, 1)
        rejected = self.queue.add(spans, now=now, wall=wall)
        self._count(rejected, -1)
        return rejected

    def leave(self, spans: Iterable[Span]) -> None:
        """Take note that records are resolved or released."""
        self._count(spans, -1)

    def resolve(self, batch: Batch) -> None:
        """Take note that a whole batch is resolved: the next of its person may go."""
        self.bytes -= batch.size + 1
        self.records -= batch.count
        self.queue.done(batch)

    def next(self, now: float, cut: Cut) -> Batch | None:
        """Return the next batch of the ordinary traffic."""
        if self.pieces:
            return self.pieces.pop()
        if self.returned:
            return self.returned.popleft()
        return self.queue.take(now, cut)

    @property
    def eager(self) -> bool:
        """Return whether anything waits for the end of a request, rather than for time or company."""
        return bool(self.queue.eager or self.pieces or self.returned or self.suspects)

    def suspect(self, now: float) -> Batch | None:
        """Return the suspect that has waited longest beyond its time."""
        if not self.suspects:
            return None
        suspect = min(self.suspects, key=lambda batch: batch.retry_at)
        if suspect.retry_at > now:
            return None
        self.suspects.remove(suspect)
        return suspect

    def suspect_at(self) -> float | None:
        """Return when the next suspect may go."""
        return min((batch.retry_at for batch in self.suspects), default=None)

    def rotate(self, now: float) -> Batch | None:
        """Return one record to probe a parked lane with: another one each time."""
        batch = self.queue.take(now, Cut.ALL) or self.next(now, Cut.ALL) or self.suspect(float("inf"))
        if batch is not None:
            return self._first(batch, self.returned)
        for key in list(self.specimens):
            # The key goes to the end, so that the next probe asks for another one.
            waiting = self.specimens[key] = self.specimens.pop(key)
            if waiting:
                return self._first(waiting.popleft(), waiting)
        return None

    def specimen(self, key: bytes) -> Batch | None:
        """Return one record of a parked key, another one each time."""
        waiting = self.specimens.get(key)
        return self._first(waiting.popleft(), waiting) if waiting else None

    def keep_specimen(self, key: bytes, span: Span) -> bool:
        """Keep a leased span of a parked key if there is none to probe with; return whether it was kept."""
        if self.specimens.get(key):
            return False
        self.specimens[key] = deque([Batch(key, (span,))])
        self._count((span,), 1)
        return True

    def take_key(self, key: bytes) -> list[Batch]:
        """Take out all batches of a key that are not in flight, oldest first."""
        found = [batch for batch in (*self.pieces, *self.returned, *self.suspects) if batch.key == key]
        self.pieces = [batch for batch in self.pieces if batch.key != key]
        self.returned = deque(batch for batch in self.returned if batch.key != key)
        self.suspects = [batch for batch in self.suspects if batch.key != key]
        found += self.specimens.pop(key, ())
        spans = self.queue.drop(key)
        found += [Batch(key, (span,)) for span in spans]
        return sorted(found, key=lambda batch: batch.first)

    def hurry_suspects(self, now: float) -> None:
        """Let suspects of an outage that is over go at once; those that failed while others succeeded wait."""
        for batch in self.suspects:
            if batch.solo == 0:
                batch.retry_at = now

    def clear(self) -> list[Span]:
        """Take out everything that is not in flight."""
        held = (*self.pieces, *self.returned, *self.suspects, *(b for d in self.specimens.values() for b in d))
        spans = [span for batch in held for span in batch.spans] + self.queue.clear()
        for batch in held:
            self.queue.done(batch)
        self.pieces, self.suspects, self.specimens = [], [], {}
        self.returned.clear()
        self._count(spans, -1)
        return spans

    def sweep(self, ages: Ages, *, now: float, wall: float) -> list[Span]:
        """Take out what has expired while it waited."""
        expired = self.queue.sweep(ages, now=now, wall=wall)
        self.pieces = self._alive(self.pieces, ages, wall, expired)
        self.suspects = self._alive(self.suspects, ages, wall, expired)
        self.returned = deque(self._alive(self.returned, ages, wall, expired))
        for key, waiting in self.specimens.items():
            self.specimens[key] = deque(self._alive(waiting, ages, wall, expired))
        self._count(expired, -1)
        return expired

    def _alive(self, batches: Iterable[Batch], ages: Ages, wall: float, expired: list[Span]) -> list[Batch]:
        kept: list[Batch] = []
        for batch in batches:
            alive, dead = ages.split(batch.spans, wall) if ages.any_expired(batch.spans, wall) else (batch.spans, ())
            expired += dead
            if alive:
                kept.append(batch.part(alive) if dead else batch)
                continue
            if batch.isolation is not None:
                batch.isolation.closed(accepted=False)
            self.queue.done(batch)
        return kept

    def _first(self, batch: Batch, rest: deque[Batch]) -> Batch:
        if batch.count == 1:
            return batch
        head, tail = batch.split(1)
        if batch.isolation is not None:
            batch.isolation.halved()
        rest.append(tail)
        return head

    def _count(self, spans: Iterable[Span], sign: int) -> None:
        for span in spans:
            # With one comma each, so that what enters as one span and leaves in parts adds up.
            self.bytes += sign * (span.size + 1)
            self.records += sign * span.count
