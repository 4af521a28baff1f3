"""Space: what one spool takes and may take on disk. Arithmetic only; the loop owns it."""

from collections.abc import Callable, Iterable

from forwarder.core.seams import Busy
from forwarder.core.spool.packing import Entry

_PER_EVENT = 38
"""Length (4), comma (1) and trait row (33): what an event may take beside its own bytes."""
_PER_FRAME = 128
MAX_WAITING = 96 * 1024 * 1024
"""Bytes that wait for a commit in memory until further appends are refused.

What waits before an append counts, not the append: a large request must not be refused for ever because small ones
always wait. So what waits is at most this and one request. And it is more than one request of 64 MiB takes, so that
this one does not have the small ones refused.
"""
_SOON_S = 1
_FULL_S = 30


def cost(size: int, events: int) -> int:
    """Return the bytes on disk that an append takes at most."""
    return size + events * _PER_EVENT + _PER_FRAME


class Space:
    """The account: bytes on disk, promised to appends, waiting for a commit, and about to come back."""

    def __init__(self, *, destination: str, max_size: int, room: Callable[[int], Busy | None] | None) -> None:
        self.destination = destination
        self.max_size = max_size
        self._room = room
        self.sealed = 0
        self.active_offset = 0
        self.active_size = 0
        self.other = 0
        """Checkpoint and journals."""
        self.reserved = 0
        self.waiting = 0

    @property
    def on_disk(self) -> int:
        """Return the bytes on disk, space written ahead included."""
        return self.sealed + self.other + self.active_size

    @property
    def taken(self) -> int:
        """Return the bytes on disk once all that is promised is written."""
        return self._with(0)

    def _with(self, need: int) -> int:
        """Return the bytes on disk once all that is promised is written; it first fills the space written ahead."""
        planned = self.active_offset + self.reserved + self.waiting + need
        return self.sealed + self.other + max(self.active_size, planned)

    def refusal(self, need: int, freeing: int) -> Busy | None:
        """Return why `need` more bytes cannot be taken; `freeing` bytes come back with the next checkpoint."""
        if self.waiting >= MAX_WAITING:
            message = f"{self.waiting} bytes wait for the disk, which does not keep up"
            return self.busy("commit_backlog", message, _SOON_S)
        if self._with(need) - freeing > self.max_size:
            return self.busy("max_size", self._full(need), _FULL_S)
        if self._room is None:
            return None
        return self._room(need - freeing)

    def _full(self, need: int) -> str:
        key = f"destinations.{self.destination}.max_size"
        if need > self.max_size:
            return f"the request needs {need} bytes, more than {key} = {self.max_size} allows at all: send less at once"
        return f"the spool is full: {self.on_disk} of {self.max_size} bytes; raise {key} or let it drain"

    def busy(self, limit: str, message: str, retry_after_s: int) -> Busy:
        """Return a refusal of this spool."""
        return Busy(self.destination, limit, f"{self.destination}: {message}", retry_after_s)

    def written(self, entries: Iterable[Entry]) -> None:
        """Note that these no longer wait."""
        for entry in entries:
            self.waiting -= cost(entry[0].size, len(entry[0].events))
