"""Joining: requests that are read wait, unchecked, as long as the next commit waits for others too.

Checked by twos and threes a request costs more than among thirty, and its commit begins no sooner for it. So a spool
that waits for those whom a commit has answered (spool/company.py) says so here, and until it goes on, which takes a few
turns of the loop, the source keeps what it reads. Nothing is kept for ever: the source keeps only while somebody waits,
and each wait ends by asking it to submit.
"""

from typing import Protocol


class Joiner(Protocol):
    """The source that keeps requests while `Joining.waiting`."""

    @property
    def requests(self) -> int:
        """Return the number of requests that it keeps."""

    def join(self) -> None:
        """Submit them now."""


class Joining:
    """Knows both sides. One for the source and all spools of a daemon; used on the loop only."""

    def __init__(self) -> None:
        self._waits = 0
        self._source: Joiner | None = None

    def attach(self, source: Joiner) -> None:
        """Ask this source from now on."""
        self._source = source

    @property
    def waiting(self) -> bool:
        """Return whether some spool's next commit waits for others."""
        return self._waits > 0

    @property
    def requests(self) -> int:
        """Return the number of requests that the source keeps, for whichever spool."""
        return 0 if self._source is None else self._source.requests

    def begin(self) -> None:
        """Begin to wait; `end` must follow."""
        self._waits += 1

    def end(self) -> None:
        """End one wait: all that is kept is submitted, for whichever spool it is."""
        self._waits -= 1
        if self._source is not None and self._source.requests:
            self._source.join()
