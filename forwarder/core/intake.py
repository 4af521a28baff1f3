"""The intake: one request's groups go into their spools, all or none."""

from collections.abc import Mapping, Sequence

from forwarder.core.joining import Joining
from forwarder.core.seams import Busy, Done, Durability, Failed, Group, Spool, Stored


class SpoolIntake:
    """Implements `seams.Intake` over the spools by destination name.

    `spools` may be changed while running (reload); the router names only destinations that are in it.
    """

    def __init__(self, spools: Mapping[str, Spool], joining: Joining) -> None:
        self.spools = spools
        self.joining = joining

    def submit(self, groups: Sequence[Group], level: Durability, done: Done) -> Busy | None:
        """Reserve room in all destinations, then append to all; see `seams.Intake.submit`."""
        if len(groups) == 1:
            group = groups[0]
            spool = self.spools[group.destination]
            busy = spool.reserve(group.size, len(group.events))
            if busy is None:
                spool.append(group, level, done)
            return busy
        busy = self._reserve(groups)
        if busy is None:
            together = _Together(len(groups), level, done)
            for group in groups:
                self.spools[group.destination].append(group, level, together.part())
        return busy

    def _reserve(self, groups: Sequence[Group]) -> Busy | None:
        for count, group in enumerate(groups):
            busy = self.spools[group.destination].reserve(group.size, len(group.events))
            if busy is not None:
                for earlier in groups[:count]:
                    self.spools[earlier.destination].cancel(earlier.size, len(earlier.events))
                return busy
        return None


class _Together:
    """Speaks for all groups of a request: once when all are committed and, at DELIVERED, once when all have ended.

    A failed commit of one group fails the request; nothing more is said then.
    """

    __slots__ = ("committing", "done", "ended", "ending", "failed", "level", "reached")

    def __init__(self, groups: int, level: Durability, done: Done) -> None:
        self.done = done
        self.level = level
        self.committing = self.ending = groups
        self.reached = Durability.DELIVERED
        self.failed: Failed | None = None
        self.ended: Stored | Failed = Stored(Durability.DELIVERED)

    def part(self) -> Done:
        """Return what one group is to call: first with its commit, then with its end."""
        committed = False

        def done(result: Stored | Failed) -> None:
            nonlocal committed
            if committed:
                self._end(result)
            else:
                committed = True
                self._commit(result)

        return done

    def _commit(self, result: Stored | Failed) -> None:
        if isinstance(result, Failed):
            self.failed = self.failed or result
        else:
            self.reached = min(self.reached, result.level)
        self.committing -= 1
        if self.committing == 0:
            self.done(self.failed or Stored(self.reached))
            self._finish()

    def _end(self, result: Stored | Failed) -> None:
        if isinstance(result, Failed):
            self.ended = result
        elif isinstance(self.ended, Stored) and result.level < self.ended.level:
            self.ended = result  # nobody waits for that group's delivery any more
        self.ending -= 1
        self._finish()

    def _finish(self) -> None:
        """Say how it ended, if it has; one group may end before another is committed."""
        if self.level is Durability.DELIVERED and self.failed is None and not self.committing and not self.ending:
            self.done(self.ended)
