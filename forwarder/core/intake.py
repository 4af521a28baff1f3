"""The intake: one request's groups go into their spools, all or none."""

from collections.abc import Mapping, Sequence

from forwarder.core.seams import Busy, Done, Durability, Failed, Group, Spool, Stored


class SpoolIntake:
    """Implements `seams.Intake` over the spools by destination name.

    `spools` may be changed while running (reload); the router names only destinations that are in it.
    """

    def __init__(self, spools: Mapping[str, Spool]) -> None:
        self.spools = spools

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
            together = _Together(len(groups), done)
            for group in groups:
                self.spools[group.destination].append(group, level, together.one)
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
    """Answers once, when every group has: with the first failure, or the lowest level reached."""

    __slots__ = ("done", "failure", "level", "waiting")

    def __init__(self, waiting: int, done: Done) -> None:
        self.waiting = waiting
        self.done = done
        self.level = Durability.DELIVERED
        self.failure: Failed | None = None

    def one(self, result: Stored | Failed) -> None:
        """Take the result of one group."""
        if isinstance(result, Failed):
            self.failure = self.failure or result
        else:
            self.level = min(self.level, result.level)
        self.waiting -= 1
        if self.waiting == 0:
            self.done(self.failure or Stored(self.level))
