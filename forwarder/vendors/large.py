"""A large array, checked piece by piece: no call into a decoder is long, and what was built stays bounded.

A piece ends at a comma that looks like one between two events. If the text from the last such comma to this one is an
array when brackets are put around it, then it was one: JSON is read from left to right without looking ahead. If not,
the piece is made longer, in the end the whole rest, and then the careful scan says what is wrong and where.
"""

from collections.abc import Callable

from forwarder.core import json_text
from forwarder.vendors import documents
from forwarder.vendors.base import BadRequest, Checked, Refusal

PIECE = 256 * 1024
"""Bytes looked at in one go."""
MAX_EVENTS = 250_000
"""Events of one request; of a larger one nothing is taken."""

Check = Callable[[bytes, int, bool], Checked | BadRequest | None]
"""Check a piece (an array that stands at an offset of the body); the bool: it is the last, so it must be sound."""


def check(text: bytes, lead: int, check_piece: Check) -> Checked | BadRequest:
    """Check the array `text`, which stands at offset `lead` of the body."""
    refused: list[Refusal] = []
    checked = Checked([], 0, refused, {})
    at, size, seen = 1, PIECE, 0
    while True:
        end = boundary(text, at + size)
        last = end == len(text)
        if last and at > 1 and text[json_text.skip_space(text, at) :] == b"]":
            return documents.not_json("expected a value", lead + json_text.skip_space(text, at))
        piece = check_piece(b"[" + text[at:end] + (b"" if last else b"]"), lead + at - 1, last)
        if piece is None:
            size *= 2
            continue
        if isinstance(piece, BadRequest):
            return piece
        _add(checked, refused, piece, seen)
        seen += piece.accepted + len(piece.refused)
        if seen > MAX_EVENTS:
            return too_many()
        if last:
            return checked
        at, size = json_text.skip_space(text, end) + 1, PIECE


def boundary(text: bytes, at: int) -> int:
    """Return the offset of the next comma that is probably between two events, or the length of the text."""
    near = text.find(b"},", at, at + PIECE)
    if near >= 0:
        return near + 1
    comma = text.find(b",", at)
    return len(text) if comma < 0 else comma


def too_many() -> BadRequest:
    """Return the answer to a request with too many events."""
    return BadRequest(413, f"more than {MAX_EVENTS} events in one request: send fewer at once", "too_many_events")


def _add(checked: Checked, refused: list[Refusal], piece: Checked, seen: int) -> None:
    """Add what a piece held; `seen` events stand before it."""
    groups = {(group.destination, group.batch_key): group for group in checked.groups}
    for group in piece.groups:
        whole = groups.get((group.destination, group.batch_key))
        if whole is None:
            checked.groups.append(group)
            continue
        whole.events += group.events
        whole.size += group.size
        if whole.traits is not None and group.traits is not None:
            whole.traits += group.traits
    warnings = dict(checked.warnings)
    for rule, times in piece.warnings.items():
        warnings[rule] = warnings.get(rule, 0) + times
    checked.warnings = warnings
    checked.accepted += piece.accepted
    checked.key_mismatch |= piece.key_mismatch
    refused += [Refusal(seen + each.index, each.error, each.reason, each.sample) for each in piece.refused]
