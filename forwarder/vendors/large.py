"""A large array, checked piece by piece: no call into a decoder is long, and what was built stays bounded.

A piece ends at a comma that looks like one between two events. If the text from the last such comma to this one is an
array when brackets are put around it, then it was one: JSON is read from left to right without looking ahead. If not,
the next such commas are tried; in the end the first element is taken alone, and the next piece begins small.
"""

from collections.abc import Callable, Iterable, Iterator
from itertools import islice

import msgspec

from forwarder.core.json import text as json_text
from forwarder.core.json.text import Malformed
from forwarder.core.seams import Group
from forwarder.vendors import documents, pieces
from forwarder.vendors.base import BadRequest, Checked, Refusal
from forwarder.vendors.documents import TooWide

PIECE = 256 * 1024
"""Bytes looked at in one go."""
MAX_PIECE = documents.TRUSTING_BYTES
"""Bytes of a piece up to the comma that ends it."""
TRIES = 4
"""Ends tried for a piece: events may hold arrays of objects."""
MAX_EVENTS = 250_000
"""Events of one request; of a larger one nothing is taken."""

_Groups = dict[tuple[str, bytes], Group]
"""By destination and batch key."""


class Checks(msgspec.Struct, frozen=True):
    """How a route checks a part of an array."""

    piece: Callable[[bytes], Checked | BadRequest | None]
    """Check an array; None when it is none as it stands."""
    one: Callable[[bytes], Checked | BadRequest]
    """Check one element."""
    widest: int
    """Bytes an element may have; at one that is longer the look at the request ends."""


def check(text: bytes, lead: int, checks: Checks) -> Checked | BadRequest:
    """Check the array `text`, which stands at offset `lead` of the body."""
    refused: list[Refusal] = []
    checked = Checked([], 0, refused, {})
    groups: _Groups = {}
    at, size, seen = 1, PIECE, 0
    try:
        while at < len(text):
            part, at, size = _part(text, at, size, checks)
            if isinstance(part, BadRequest):
                return part
            _add(checked, part)
            _merge(groups, part.groups)
            refused += [Refusal(seen + each.index, each.error, each.reason, each.sample) for each in part.refused]
            seen += part.accepted + len(part.refused)
            if seen > MAX_EVENTS:
                return too_many()
    except TooWide as error:
        place = f"the event at byte {lead + error.offset} is {error.problem}"
        return BadRequest(413, f"{place}: nothing of this request was taken; see listen.max_event", "too_large")
    except Malformed as error:
        return documents.not_json(error.problem, lead + error.offset)
    checked.groups = list(groups.values())
    return checked


def _part(text: bytes, at: int, size: int, checks: Checks) -> tuple[Checked | BadRequest, int, int]:
    """Check what stands at `at`; return the verdict, where the next part begins (the end: none), and a size for it."""
    if at > 1 and text[at : at + 1] == b"]":
        raise Malformed(at, "expected a value")
    for end in ends(text, at + size):
        if end - at > MAX_PIECE:
            break
        last = end == len(text)
        part = checks.piece(b"[" + text[at:end] + (b"" if last else b"]"))
        if part is not None:
            return part, end if last else _next(text, end), min(2 * size, PIECE)
    end, element = documents.element(text, at, checks.widest)
    return checks.one(element), _next(text, end), min(2 * (end - at), PIECE)


def _next(text: bytes, end: int) -> int:
    """Return where the element behind the one that ends at `end` begins; the end of the text when there is none."""
    after = json_text.skip_space(text, end)
    if text[after : after + 1] == b",":
        return json_text.skip_space(text, after + 1)
    if text[after : after + 1] != b"]":
        raise Malformed(after, "expected ',' or ']'" if after < len(text) else json_text.UNEXPECTED_END)
    rest = json_text.skip_space(text, after + 1)
    if rest < len(text):
        raise Malformed(rest, "expected the end of the text")
    return len(text)


def ends(text: bytes, at: int) -> Iterator[int]:
    """Yield where an event behind `at` probably ends, most likely first; the length of the text when there is none."""
    found = [match.start() + 1 for match in islice(pieces.BETWEEN.finditer(text, at, at + PIECE), TRIES)]
    if found:
        yield from found
        return
    near = text.find(b"},", at, at + PIECE)
    if near >= 0:
        yield near + 1
        return
    comma = text.find(b",", at)
    yield len(text) if comma < 0 else comma


def too_many() -> BadRequest:
    """Return the answer to a request with too many events."""
    return BadRequest(413, f"more than {MAX_EVENTS} events in one request: send fewer at once", "too_many_events")


def _add(checked: Checked, piece: Checked) -> None:
    """Add what was counted in a piece."""
    warnings = dict(checked.warnings)
    for rule, times in piece.warnings.items():
        warnings[rule] = warnings.get(rule, 0) + times
    checked.warnings = warnings
    checked.accepted += piece.accepted
    checked.key_mismatch |= piece.key_mismatch


def _merge(groups: _Groups, found: Iterable[Group]) -> None:
    """Add the groups of a piece to those of the pieces before it."""
    for group in found:
        whole = groups.setdefault((group.destination, group.batch_key), group)
        if whole is group:
            continue
        whole.events += group.events
        whole.size += group.size
        if whole.traits is not None and group.traits is not None:
            whole.traits += group.traits
