"""One dead-letter file and its index; the small values that are kept beside the files."""

from array import array
from bisect import bisect_left, insort
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import msgspec

Removal = Literal["replayed", "purged", "discarded"]
"""Put back through the spool / deleted for good / never counted as a letter (its event was delivered after all)."""


class Pending(msgspec.Struct, frozen=True, kw_only=True):
    """A removal that was announced: `gone` letters leave `file`, `left` stay."""

    file: str
    gone: int
    left: int
    how: Removal


class Announcement(msgspec.Struct, frozen=True, kw_only=True):
    """A replay under way: these letters are being appended to the spool, from this sequence of the spool on."""

    from_sequence: int
    accepted_at: float | None
    """The age that all of them get; None: each keeps its own."""
    sequences: list[int]


class Totals(msgspec.Struct, frozen=True, kw_only=True):
    """Letters that left the files, all-time."""

    replayed: int = 0
    purged: int = 0
    pending: Pending | None = None

    def counted(self, gone: int, how: Removal) -> "Totals":
        """Return the totals after a removal."""
        return Totals(
            replayed=self.replayed + (gone if how == "replayed" else 0),
            purged=self.purged + (gone if how == "purged" else 0),
        )


Mark = tuple[int, int, int]
"""Inode, size and time of the last change of a file."""


class LetterFile:
    """One file and the sequences in it."""

    __slots__ = ("mark", "newest", "oldest", "path", "sequences", "size")

    def __init__(self, path: Path) -> None:
        self.path = path
        self.mark: Mark | None = None
        """What the file looked like when it was last read or written here: an editor changes that."""
        self.size = 0
        self.sequences: array[int] = array("Q")
        self.oldest = float("inf")
        self.newest = float("-inf")

    def has(self, sequence: int) -> bool:
        """Return whether the letter is in this file."""
        at = bisect_left(self.sequences, sequence)
        return at < len(self.sequences) and self.sequences[at] == sequence

    def note(self, sequence: int, died_at: float) -> None:
        """Index a letter."""
        insort(self.sequences, sequence)
        self.oldest = min(self.oldest, died_at)
        self.newest = max(self.newest, died_at)


def mark_of(path: Path) -> Mark | None:
    """Return what a file looks like now; None when it cannot be looked at."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns


def lines(path: Path) -> Iterator[bytes]:
    """Yield the lines of a file, line ends included."""
    with path.open("rb") as file:
        yield from file
