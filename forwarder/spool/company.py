"""Company: how long what is gathered waits for those whom the last commit has answered.

Senders that wait for their answers would fall into two halves otherwise, one being committed while the other sends: two
commits where one would do.
"""

from forwarder.core.joining import Joining

LOOKS = 6
"""Looks of the loop at its sockets, at most, whatever ends meanwhile: sources keep requests for so long."""
QUIET = 2
"""So many of them in a row that bring nothing more are enough: a sender needs a moment to ask again."""


class Company:
    """One wait after another, of one spool. Events are counted as they are appended (`there`: so many until now)."""

    def __init__(self, joining: Joining) -> None:
        self._joining = joining
        self._looks = self._quiet = self._seen = self._all = 0
        self.awaited = False
        """A wait is going on."""

    def wait(self, there: int, answered: int) -> None:
        """Begin to wait for as many events as were answered; during a wait, for those instead."""
        if not self.awaited:
            self.awaited = True
            self._joining.waiting += 1
            self._looks = LOOKS
        self._seen = -1
        self._all = there + self._joining.requests + answered

    def comes(self, there: int) -> bool:
        """Return whether another look may bring more."""
        seen, self._seen = self._seen, there + self._joining.requests
        self._quiet = self._quiet + 1 if seen == self._seen else 0
        self._looks -= 1
        return self._looks >= 0 and self._quiet < QUIET and self._seen < self._all

    def take(self) -> None:
        """Have everything submitted that is kept for this; the wait is over."""
        self.awaited = False
        self._joining.waiting -= 1
        self._joining.call()
