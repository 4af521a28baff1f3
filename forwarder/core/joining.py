"""Joining: requests that are read wait, unchecked, as long as the next commit waits for others too.

Checked by twos and threes a request costs twice what it costs among thirty, and a commit begins no sooner for it
(benchmarks/door.py). So a spool that waits for those whom a commit has answered (spool/company.py) says so here; until
it goes on, which takes a few turns of the loop, sources keep what they read, and then they are called.
"""

from collections.abc import Iterator
from typing import Protocol


class Joiner(Protocol):
    """A source that keeps requests while `Joining.waiting`."""

    @property
    def requests(self) -> int:
        """Return the number of requests that it keeps."""

    def join(self) -> None:
        """Submit them now."""


class Joining:
    """Knows both sides. One for all sources and spools of a daemon; used on the loop only."""

    def __init__(self) -> None:
        self.waiting = 0
        """Spools that wait, and will call."""
        self._joiners: list[Joiner] = []

    def add(self, joiner: Joiner) -> None:
        """Ask this source from now on."""
        self._joiners.append(joiner)

    @property
    def requests(self) -> int:
        """Return the number of requests that all sources keep."""
        return sum([joiner.requests for joiner in self._joiners])

    def call(self) -> None:
        """Let every source submit what it keeps; one that raises (a bug) must not cost the others theirs."""
        self._call(iter(self._joiners))

    def _call(self, left: Iterator[Joiner]) -> None:
        for joiner in left:
            try:
                if joiner.requests:
                    joiner.join()
            except BaseException:
                self._call(left)
                raise
