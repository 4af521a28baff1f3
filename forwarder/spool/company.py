"""Company: how long what is gathered waits for those whom the last commit has answered.

Senders that wait for their answers would fall into two halves otherwise, one being committed while the other sends: two
commits where one would do.
"""

from forwarder.core.joining import Joining

LOOKS = 6
"""Looks of the loop at its sockets, at most, whatever ends meanwhile: the source keeps requests for so long."""
QUIET = 2
"""So many of them in a row that bring nothing more are enough: a sender needs a moment to ask again."""


class Company:
    """One wait after another, of one spool. All numbers are events; `there` counts those appended until now."""

    def __init__(self, joining: Joining) -> None:
        self._joining = joining
        self._awaited = False
        self._looks = self._quiet = self._seen = self._wanted = 0

    def wait(self, there: int, answered: int) -> bool:
        """Wait until as many more have come as were answered; return whether that begins a wait.

        During a wait, which becomes no longer for it, it is for these as well.
        """
        begins = not self._awaited
        if begins:
            self._awaited = True
            self._joining.begin()
            self._looks, self._wanted = LOOKS, 0
        self._seen = -1
        self._wanted = max(self._wanted, there + self._joining.requests + answered)
        return begins

    def look(self, there: int) -> bool:
        """Note what has come by this look; return whether another one may bring more."""
        seen, self._seen = self._seen, there + self._joining.requests
        self._quiet = 0 if self._seen > seen else self._quiet + 1
        self._looks -= 1
        return self._looks >= 0 and self._quiet < QUIET and self._seen < self._wanted

    def take(self) -> None:
        """Have everything submitted that is kept for this; the wait is over."""
        self._awaited = False
        self._joining.end()
