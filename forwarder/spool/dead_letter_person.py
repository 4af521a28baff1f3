"""One person in a dead-letter file: which lines name them, and a copy without those that cannot be read."""

from collections.abc import Iterator
from pathlib import Path

from forwarder.spool import dead_letter_line, files
from forwarder.spool.dead_letter_file import lines
from forwarder.spool.person import Person


def naming(path: Path, person: Person) -> tuple[frozenset[int], int]:
    """Return the letters that name a person (in the event or in the answer), and how many unreadable lines do."""
    named: set[int] = set()
    unreadable = 0
    for line in lines(path):
        letter = dead_letter_line.decode(line)
        if letter is None:
            unreadable += person.plainly(line)
        elif person.named_in(letter.event) or person.plainly(letter.answer.encode()):
            named.add(letter.sequence)
    return frozenset(named), unreadable


def copy_without(path: Path, descriptor: int, person: Person) -> Iterator[int]:
    """Copy all lines but the unreadable ones that name a person; yield the bytes written for each."""
    for line in lines(path):
        if dead_letter_line.decode(line) is not None or not person.plainly(line):
            files.write_all(descriptor, line)
            yield len(line)
