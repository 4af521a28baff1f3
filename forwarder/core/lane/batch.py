"""A batch: records sent in one request; and how waiting records are cut into batches by batch key.

Hot path: a frame of 100 records passes as one span; nothing here touches single records unless a cut falls inside a
frame (benchmark: 100-event frames, benchmarks/).
"""

import enum
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from heapq import heapify, heappop, heappush

from forwarder.core.lane.bisect import Isolation
from forwarder.core.lane.expiry import Ages
from forwarder.core.lane.limit import Limits
from forwarder.core.spool.frame import Span

STALE_LIMIT = 1000
"""Overtaken entries in the queue of due piles before it is built anew."""


class Batch:
    """Records of one batch key that go in one request, and what is known of their tries."""

    __slots__ = (
        "attempts",
        "count",
        "failures",
        "isolation",
        "key",
        "mark",
        "order",
        "retry_at",
        "size",
        "solo",
        "spans",
    )

    def __init__(self, key: bytes, spans: Sequence[Span], *, order: tuple[int, ...] = ()) -> None:
        self.key = key
        self.spans = spans
        self.order = order
        if len(spans) == 1:  # every event of an ordered lane
            self.count, self.size = spans[0].count, spans[0].size
        else:
            self.count = sum([span.count for span in spans])
            self.size = sum([span.size for span in spans]) + len(spans) - 1
        self.attempts = 0
        self.failures = 0
        """Failures that the batch itself may have caused."""
        self.solo = 0
        """Failures as a suspect, alone, while others succeeded."""
        self.mark = 0
        """The lane's count of delivered batches at the last failure: have others succeeded since?"""
        self.retry_at = 0.0
        self.isolation: Isolation | None = None

    @property
    def first(self) -> int:
        """Return the sequence of the first record."""
        return self.spans[0].first

    def split(self, at: int) -> tuple["Batch", "Batch"]:
        """Return the first `at` records and the rest, with the history of the whole."""
        head: list[Span] = []
        tail: list[Span] = []
        left = at
        for span in self.spans:
            if left >= span.count:
                head.append(span)
            elif left <= 0:
                tail.append(span)
            else:
                pair = span.split(left)
                head.append(pair[0])
                tail.append(pair[1])
            left -= span.count
        return self.part(head), self.part(tail)

    def part(self, spans: Sequence[Span]) -> "Batch":
        """Return a batch of some of these records, with the history of the whole."""
        part = Batch(self.key, spans, order=self.order)
        part.attempts, part.failures = self.attempts, self.failures
        part.mark, part.retry_at, part.isolation = self.mark, self.retry_at, self.isolation
        return part

    def halves(self) -> tuple["Batch", "Batch"]:
        """Return both halves; `count` is at least 2."""
        return self.split((self.count + 1) // 2)

    def __repr__(self) -> str:
        return f"Batch({self.first}, {self.count} records, {self.attempts} attempts)"


class Cut(enum.Enum):
    """How small a batch may be cut."""

    FULL = "full"  # more records are about to be leased: only what has reached a limit
    DUE = "due"  # also what has waited for the interval
    ALL = "all"  # whatever there is (drain, full window, parked probe)


class Pile:
    """Records of one batch key that wait to be cut, at most `most` at once, and when each of its spans is due."""

    __slots__ = ("count", "due_at", "dues", "most", "size", "spans")

    def __init__(self, most: int) -> None:
        self.most = most
        self.spans: deque[Span] = deque()
        self.dues: deque[float] = deque()
        self.count = 0
        self.size = 0
        self.due_at = 0.0


class Batcher:
    """Cuts batches at `max_events`, at the size limit, or when the oldest record has waited `interval`.

    Bounded by what the lane leases; holds nothing of its own.
    """

    def __init__(self, *, interval: float, max_events: int, limits: Limits, single: Callable[[bytes], bool]) -> None:
        self.interval = interval
        self.max_events = max_events
        self._limits = limits
        self._single = single
        self._piles: dict[bytes, Pile] = {}
        self._full: dict[bytes, None] = {}
        self._due: list[tuple[float, bytes]] = []

    def add(self, spans: Iterable[Span], *, now: float, wall: float) -> list[Span]:
        """Take leased spans, oldest first; return those not taken (none)."""
        for span in spans:
            key = span.frame.batch_key
            pile = self._piles.get(key)
            if pile is None:
                pile = self._piles[key] = Pile(1 if self._single(key) else self.max_events)
            due_at = now + self._wait(span, wall)
            if not pile.spans:
                self._schedule(key, pile, due_at)
            pile.spans.append(span)
            pile.dues.append(due_at)
            pile.count += span.count
            pile.size += span.size + 1
            if key not in self._full and self._is_full(key, pile):
                self._full[key] = None
        return []

    def take(self, now: float, cut: Cut = Cut.DUE) -> Batch | None:
        """Return the next batch that is large or old enough."""
        if self._full:
            key = next(iter(self._full))
            del self._full[key]
            return self._cut(key)
        if cut is Cut.FULL or (due_at := self.due_at()) is None:
            return None
        return self._cut(self._due[0][1]) if cut is Cut.ALL or due_at <= now else None

    def far(self) -> Batch | None:
        """Return the newest records of one pile that is full, or None if none is."""
        if not self._full:
            return None
        key = next(reversed(self._full))
        pile = self._piles[key]
        span, due_at = pile.spans.pop(), pile.dues.pop()
        fit = min(_fitting(span, self._limits.size(key) - 1), pile.most, span.count)
        head, tail = span.split(span.count - max(fit, 1))
        if head.count:
            pile.spans.append(head)
            pile.dues.append(due_at)
        batch = Batch(key, (tail,))
        pile.count -= batch.count
        pile.size -= batch.size + 1
        if not pile.spans:
            del self._piles[key]
        if not pile.spans or not self._is_full(key, pile):
            del self._full[key]
        return batch

    @property
    def eager(self) -> bool:
        """Return whether a batch has reached a limit."""
        return bool(self._full)

    def due_at(self) -> float | None:
        """Return when the next partial batch is due."""
        while self._due:
            due_at, key = self._due[0]
            pile = self._piles.get(key)
            if pile is not None and pile.due_at == due_at:
                return due_at
            heappop(self._due)
        return None

    def done(self, batch: Batch) -> None:
        """Take note that a batch is resolved; order does not matter here."""

    def drop(self, key: bytes) -> list[Span]:
        """Take out the waiting records of one batch key."""
        self._full.pop(key, None)
        pile = self._piles.pop(key, None)
        return list(pile.spans) if pile else []

    def clear(self) -> list[Span]:
        """Take out everything."""
        spans = [span for pile in self._piles.values() for span in pile.spans]
        self._piles.clear()
        self._full.clear()
        self._due.clear()
        return spans

    def sweep(self, ages: Ages, *, now: float, wall: float) -> list[Span]:
        """Take out what has expired."""
        expired: list[Span] = []
        for key in [key for key, pile in self._piles.items() if ages.any_expired(pile.spans, wall)]:
            alive, dead = ages.split(self.drop(key), wall)
            expired += dead
            self.add(alive, now=now, wall=wall)
        return expired

    def retune(self, *, interval: float, max_events: int, now: float, wall: float) -> None:
        """Apply new settings to what waits."""
        self.interval, self.max_events = interval, max_events
        self.add(sorted(self.clear(), key=lambda span: span.first), now=now, wall=wall)

    def _wait(self, span: Span, wall: float) -> float:
        """Return the seconds that a record may still wait for company."""
        age = wall - span.frame.accepted_at
        return 0.0 if age >= self.interval else min(self.interval - age, self.interval)

    def _schedule(self, key: bytes, pile: Pile, due_at: float) -> None:
        pile.due_at = due_at
        if len(self._due) > STALE_LIMIT + 2 * len(self._piles):
            # What is overtaken goes when it comes to the front; behind a pile with hours to wait it never would.
            self._due = [(other.due_at, name) for name, other in self._piles.items() if other.spans]
            heapify(self._due)
        heappush(self._due, (due_at, key))

    def _is_full(self, key: bytes, pile: Pile) -> bool:
        return pile.count >= pile.most or pile.size >= self._limits.size(key)

    def _cut(self, key: bytes) -> Batch:
        pile = self._piles[key]
        batch = Batch(key, _take(pile, self._limits.size(key)))
        pile.count -= batch.count
        pile.size -= batch.size + 1
        self._full.pop(key, None)
        if not pile.spans:
            del self._piles[key]
            return batch
        if self._is_full(key, pile):
            self._full[key] = None
        if pile.dues[0] != pile.due_at:
            self._schedule(key, pile, pile.dues[0])
        return batch


def _take(pile: Pile, max_bytes: int) -> list[Span]:
    """Take spans from the front of a pile within both limits; at least one record."""
    taken: list[Span] = []
    max_events = pile.most
    count, size = 0, 1
    while pile.spans and count < max_events:
        span = pile.spans[0]
        if count + span.count <= max_events and size + span.size + 1 <= max_bytes:
            taken.append(pile.spans.popleft())
            pile.dues.popleft()
            count += span.count
            size += span.size + 1
            continue
        fit = min(_fitting(span, max_bytes - size), max_events - count)
        if fit <= 0 and not taken:
            fit = 1  # a single record over the limit goes alone: the vendor's 413 decides, not a guess of ours
        if fit >= span.count:
            taken.append(pile.spans.popleft())
            pile.dues.popleft()
        elif fit > 0:
            head, pile.spans[0] = span.split(fit)
            taken.append(head)
        break
    return taken


def _fitting(span: Span, room: int) -> int:
    """Return how many of a span's records fit into `room` bytes, each with one comma or bracket."""
    starts = span.frame.starts
    return bisect_right(starts, starts[span.start] + room) - 1 - span.start
