"""Acceptance: room for an append, the append itself, and the answers to who waits. Owned by the loop.

Hot: `reserve` and `append` run once a request, `answer` once a commit.
"""

import asyncio
from collections.abc import Iterable
from typing import Literal

from forwarder.core.seams import Busy, Clock, Done, Durability, Failed, Group, Stored
from forwarder.core.spool.packing import Entry
from forwarder.spool.checkpointing import Checkpointing
from forwarder.spool.eviction import Eviction
from forwarder.spool.space import Space, cost
from forwarder.spool.troubles import Troubles
from forwarder.spool.writer import Writer

GRANT = 64 * 1024
"""Bytes that a request asks for beyond its own, so that those after it need not ask. They count as promised."""
_DISK_S = 5
_CLOSING_S = 1
_MEMORY = Stored(Durability.MEMORY)


class Acceptance:
    """Says no while the spool is full, closing or in trouble; hands everything else to the writer."""

    def __init__(
        self,
        *,
        space: Space,
        troubles: Troubles,
        writer: Writer,
        eviction: Eviction,
        checkpointing: Checkpointing,
        clock: Clock,
        when_full: Literal["refuse", "evict_oldest"],
    ) -> None:
        self._space = space
        self._troubles = troubles
        self._writer = writer
        self._eviction = eviction
        self._checkpointing = checkpointing
        self._clock = clock
        self.when_full = when_full
        self._now = 0.0
        self._granted = 0
        """Of `space.reserved`: not promised to any append yet."""
        self.closing = False

    def reserve(self, size: int, events: int) -> Busy | None:
        """Set room aside for an append that follows at once."""
        need = cost(size, events)
        if need <= self._granted and self._troubles.commits is None and not self.closing:
            self._granted -= need
            return None
        space = self._space
        space.reserved -= self._granted
        self._granted = 0
        if self.closing:
            return space.busy("closing", "the daemon is stopping", _CLOSING_S)
        if self._troubles.commits is not None:
            return space.busy("disk", self._troubles.commits, _DISK_S)
        if space.refusal(need + GRANT, 0) is None:
            self._granted = GRANT
            space.reserved += need + GRANT
            return None
        busy = self._refusal(need)
        if busy is None:
            space.reserved += need
        return busy

    def _refusal(self, need: int) -> Busy | None:
        space = self._space
        busy = space.refusal(need, 0)
        if busy is None or self.when_full == "refuse" or busy.limit == "commit_backlog":
            return busy
        if need <= space.max_size and self._eviction.evict(lambda freeing: space.refusal(need, freeing) is None):
            self._checkpointing.soon()
        return space.refusal(need, self._eviction.freeing())

    def cancel(self, size: int, events: int) -> None:
        """Give back a reservation whose append will not come."""
        self._space.reserved -= cost(size, events)

    def append(self, group: Group, level: Durability, done: Done) -> None:
        """Take a reserved group into the next commit."""
        need = cost(group.size, len(group.events))
        self._space.reserved -= need
        self._space.waiting += need
        writer = self._writer
        if writer.empty:
            self._now = self._clock.wall()
        if level is Durability.MEMORY:
            writer.append((group, level, None, self._now))
            done(_MEMORY)
        else:
            writer.append((group, level, done, self._now))

    def stored(self, entries: Iterable[Entry], level: Durability) -> None:
        """Answer who waits for this commit; those who wait for delivery hear again when it has ended."""
        self._answer(entries, Stored(level))

    def failed(self, entries: Iterable[Entry], message: str) -> None:
        """Answer who waited for a commit that failed."""
        self._answer(entries, Failed(message))

    def _answer(self, entries: Iterable[Entry], answer: Stored | Failed) -> None:
        left = iter(entries)
        space = self._space
        try:
            for group, _, done, _ in left:
                space.waiting -= cost(group.size, len(group.events))
                if done is not None:
                    done(answer)
        finally:
            # one waiter that raises must not cost the others their answer
            rest = list(left)
            if rest:
                asyncio.get_running_loop().call_soon(self._answer, rest, answer)
