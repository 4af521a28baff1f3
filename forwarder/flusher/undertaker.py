"""The undertaker: writes dead letters, synced, and only then lets their records be acked."""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence

from forwarder.core.lane.effect import Bury, Report
from forwarder.core.seams import Clock, DeadLetter, DeadLetters
from forwarder.core.spool.frame import Span
from forwarder.errors import DiskTrouble
from forwarder.flusher.herald import Herald

BACKLOG_LIMIT = 10_000
"""Records that wait to be written; beyond it the lane leases no more (it goes on sending what it has)."""
AT_ONCE = 1000
"""Letters written with one sync."""
RETRY_S = 5.0
ANSWER_LIMIT = 2048

Buried = Callable[[Sequence[Span], str], None]
Unerased = Callable[[Sequence[Span]], Sequence[Span]]


class Undertaker:
    """Buries in order, many letters a sync. While the disk does not take them the leases are kept."""

    def __init__(
        self,
        dead_letters: DeadLetters,
        *,
        clock: Clock,
        herald: Herald,
        buried: Buried,
        unerased: Unerased,
        retry_s: float = RETRY_S,
    ) -> None:
        self._dead_letters = dead_letters
        self._clock = clock
        self._herald = herald
        self._buried = buried
        self._unerased = unerased
        self._retry_s = retry_s
        self._graves: deque[tuple[Bury, Sequence[Span]]] = deque()
        self._work = asyncio.Event()
        self.waiting = 0

    @property
    def full(self) -> bool:
        """Return whether no more records should be leased."""
        return self.waiting >= BACKLOG_LIMIT

    def bury(self, order: Bury) -> None:
        """Take an order; it is carried out by `run`."""
        for part in _parts(order.spans):
            self._graves.append((order, part))
            self.waiting += sum(span.count for span in part)
        self._work.set()

    def left(self) -> list[Span]:
        """Take out the records that were not buried in time; they stay in the spool."""
        spans = [span for _, part in self._graves for span in part]
        self._graves.clear()
        self.waiting = 0
        return spans

    async def run(self) -> None:
        """Bury for ever."""
        while True:
            self._work.clear()
            while self._graves:
                if not await self._bury_some():
                    await asyncio.sleep(self._retry_s)
            await self._work.wait()

    async def _bury_some(self) -> bool:
        async with self._dead_letters.moving:  # so that an erasure finds each event in one place or the other
            return await self._bury_next()

    async def _bury_next(self) -> bool:
        orders, letters = self._next_letters()
        try:
            await self._dead_letters.add(letters)
        except DiskTrouble as trouble:
            facts = {"reason": trouble.reason, "waiting": self.waiting}
            self._herald.tell(Report("error", "dead_letters_not_written", facts))
            return False
        for order, spans in orders:
            self._graves.popleft()
            self.waiting -= sum(span.count for span in spans)
            self._buried(self._unerased(spans), order.reason)
        if not letters:
            return True
        facts = {"events": len(letters), "reasons": sorted({order.reason for order, _ in orders})}
        self._herald.tell(Report("warning", "events_died", facts))
        return True

    def _next_letters(self) -> tuple[list[tuple[Bury, Sequence[Span]]], list[DeadLetter]]:
        orders: list[tuple[Bury, Sequence[Span]]] = []
        letters: list[DeadLetter] = []
        died_at = self._clock.wall()
        for order, spans in self._graves:
            if letters and len(letters) + sum(span.count for span in spans) > AT_ONCE:
                break
            orders.append((order, spans))
            left = self._unerased(spans)
            letters += [_letter(order, single, died_at) for span in left for single in span.singles()]
        return orders, letters


def _parts(spans: Sequence[Span]) -> list[list[Span]]:
    """Return the spans in parts of at most AT_ONCE records, so that one order cannot hold all the memory."""
    parts: list[list[Span]] = []
    room = 0
    for span in spans:
        rest = span
        while rest.count:
            if room == 0:
                parts.append([])
                room = AT_ONCE
            head, rest = rest.split(min(room, rest.count))
            parts[-1].append(head)
            room -= head.count
    return parts


def _letter(order: Bury, single: Span, died_at: float) -> DeadLetter:
    return DeadLetter(
        sequence=single.first,
        event=bytes(single.data),
        batch_key=single.frame.batch_key,
        reason=order.reason,
        status=order.status,
        answer=order.answer[:ANSWER_LIMIT],
        attempts=order.attempts,
        accepted_at=single.frame.accepted(single.first),
        died_at=died_at,
    )
