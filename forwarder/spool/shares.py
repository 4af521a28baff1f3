"""Shares: who gives way when the spools of several destinations want more together than `max_total` or the volume has.

A destination may take what others leave. Each has a share: its `max_size`, or, when these are more in sum than there
is, its part of it. One that is within its share is not refused because of another's backlog:

- a destination over its share that may evict (`when_full = "evict_oldest"`) does so when another one within its share
  needs room;
- one that must not (`"refuse"`) gets room over its share only while that leaves the others theirs.
"""

from collections.abc import Mapping
from typing import Protocol


class Member(Protocol):
    """A spool, as far as sharing goes."""

    @property
    def taken(self) -> int:
        """Return the bytes on disk, with what was promised to appends."""

    @property
    def limit(self) -> int:
        """Return its `max_size`."""

    @property
    def evictable(self) -> bool:
        """Return whether its oldest events may be dropped for new ones."""

    def evict(self, size: int) -> int:
        """Evict until about `size` bytes come back; return the bytes that do."""


class Shares:
    """The spools in one directory. Owned by the loop."""

    def __init__(self) -> None:
        self.members: dict[str, Member] = {}

    @property
    def taken(self) -> int:
        """Return what all spools take."""
        return sum(member.taken for member in self.members.values())

    def of(self, room: int) -> Mapping[str, int]:
        """Return every spool's share of `room` bytes."""
        wanted = sum(member.limit for member in self.members.values())
        if wanted <= room:
            return {name: member.limit for name, member in self.members.items()}
        return {name: max(0, room) * member.limit // wanted for name, member in self.members.items()}

    def kept_for_others(self, name: str, size: int, room: int) -> int:
        """Return the bytes that must stay free when this spool takes `size` more."""
        member = self.members.get(name)
        if member is None or member.evictable or len(self.members) == 1:
            return 0
        shares = self.of(room)
        if member.taken + size <= shares[name]:
            return 0
        return sum(max(0, shares[other] - one.taken) for other, one in self.members.items() if other != name)

    def give_way(self, name: str, size: int, lacking: int, room: int) -> bool:
        """Let whoever is most over its share make `lacking` bytes free for a spool that is within its own."""
        member = self.members.get(name)
        shares = self.of(room)
        if member is None or member.taken + size > shares[name]:
            return False
        over = {
            other: one.taken - shares[other] for other, one in self.members.items() if other != name and one.evictable
        }
        for other in sorted(over, key=lambda found: over[found], reverse=True):
            if over[other] <= 0:
                break
            lacking -= self.members[other].evict(lacking)
            if lacking <= 0:
                return True
        return False
