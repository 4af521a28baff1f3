"""The repair of `NaN`, `Infinity` and `-Infinity`: some serializers write them, JSON has no such numbers.

They become `null` wherever they stand outside strings; everything else stays as it is. Linear, and never tried before
the text has failed as it stands.
"""

import re
from collections.abc import Iterator
from heapq import merge
from itertools import pairwise, repeat

import msgspec

MAX_NUMBERS = 1_000_000
"""A text with more of them is left as it is (and is then not JSON): nobody measures nothing a million times."""

_NUMBERS = (re.compile(rb"NaN"), re.compile(rb"Infinity"))
"""Apart, because a search for one literal is ten times faster than a search for either."""

_ESCAPE = re.compile(rb"\\[\s\S]")


class Repaired(msgspec.Struct, frozen=True):
    """The text with `null` in place of such numbers, and what was replaced, so that offsets can be told either way."""

    text: bytes
    cuts: list[tuple[int, int]]
    """Start and end in the original of each replaced number."""

    def original(self, offset: int) -> int:
        """Return the offset in the original text that corresponds to `offset` in `text`."""
        for start, end in self.cuts:
            if offset <= start:
                break
            offset += end - start - len(b"null")
        return offset


def repair(text: bytes) -> Repaired | None:
    """Return the repaired text, or None when it holds no such number."""
    if b"NaN" not in text and b"Infinity" not in text:
        return None
    cuts = _find(text)
    if not cuts:
        return None
    kept = [text[end:start] for (_, end), (start, _) in pairwise([(0, 0), *cuts, (len(text), 0)])]
    return Repaired(b"null".join(kept), cuts)


def _find(text: bytes) -> list[tuple[int, int]]:
    """Return start and end of each such number outside strings: behind an even number of unescaped quotes."""
    cuts: list[tuple[int, int]] = []
    inside, at = 0, 0
    for start, end in merge(*map(_spans, _NUMBERS, repeat(text))):
        between = text[at:start]
        if b"\\" in between:
            between = _ESCAPE.sub(b"", between)
        inside ^= between.count(b'"') % 2
        at = end
        if not inside:
            cuts.append((start - (between[-1:] == b"-" and text[start : start + 1] == b"I"), end))
        if len(cuts) == MAX_NUMBERS:
            break
    return cuts


def _spans(number: re.Pattern[bytes], text: bytes) -> Iterator[tuple[int, int]]:
    return (found.span() for found in number.finditer(text))
