"""What all connections together may hold in memory: bodies being read, and events not yet committed."""

from typing import Protocol


class Waiter(Protocol):
    """A connection that stopped reading for want of room."""

    def room(self) -> None:
        """There may be room again: try to go on."""


class Inflight:
    """Counts bytes (bodies decompressed) against `max_inflight`; at the limit connections stop reading, in order.

    Many half-read bodies could fill the memory and wait for each other for ever. So only `max_inflight - max_body` is
    for everybody; beyond it one connection at a time, the elder, reads on until its requests are answered, and its body
    fits into the rest. What was read from a socket just before the pause comes on top: one small read a connection,
    and one of the loop's own size.
    """

    __slots__ = ("_waking", "elder", "held", "shared", "waiting")

    def __init__(self, *, max_inflight: int, max_body: int) -> None:
        self.held = 0
        self.elder: Waiter | None = None
        self.waiting: dict[Waiter, None] = {}
        self._waking = False
        self.limit(max_inflight=max_inflight, max_body=max_body)

    def limit(self, *, max_inflight: int, max_body: int) -> None:
        """Set the limits (also at reload)."""
        self.shared = max(max_inflight - max_body, max_inflight // 4)

    @property
    def full(self) -> bool:
        """Return whether only the elder may read."""
        return self.held >= self.shared

    def blocks(self, waiter: Waiter) -> bool:
        """Return whether `waiter` must stop reading now; its `room` is called later."""
        if self.held < self.shared or self.elder is waiter:
            return False
        if self.elder is None and not self.waiting:
            self.elder = waiter
            return False
        self.waiting[waiter] = None
        return True

    def release(self, size: int) -> None:
        """Give bytes back, and let those that wait go on."""
        self.held -= size
        if self.waiting:
            self._wake()

    def settle(self, waiter: Waiter) -> None:
        """Pass the elder's place on: its request is answered, or it cannot read on for another reason."""
        if self.elder is waiter:
            self.elder = None
            self._wake()

    def leave(self, waiter: Waiter) -> None:
        """Forget a connection that is gone."""
        self.waiting.pop(waiter, None)
        self.settle(waiter)

    def _wake(self) -> None:
        """Let waiters go on, first come first served; one that gives back at once comes back here, not deeper."""
        if self._waking:
            return
        self._waking = True
        while self.waiting and (self.held < self.shared or self.elder is None):
            waiter = next(iter(self.waiting))
            del self.waiting[waiter]
            if self.held >= self.shared:
                self.elder = waiter
            waiter.room()
        self._waking = False
