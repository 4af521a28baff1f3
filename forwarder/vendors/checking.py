"""How the door asks a vendor about events: the fast whole-body check, the careful check of one, and their sum."""

from collections.abc import Iterable
from typing import Protocol

import msgspec

from forwarder.core.seams import Group, Trait
from forwarder.vendors.base import Checked, Refusal
from forwarder.vendors.documents import SAMPLE_BYTES, Fault
from forwarder.vendors.pieces import Pieces


class Taken(msgspec.Struct, frozen=True, gc=False):
    """One event to store: where it goes, under which batch key, and what was noticed."""

    destination: str
    batch_key: bytes
    event: bytes
    trait: Trait | None = None
    warning: str | None = None
    key_mismatch: bool = False


class EventCheck(Protocol):
    """What one vendor makes of events that arrive on one path."""

    together: bool
    """`each` is worth trying, and order does not matter between requests."""

    def fast(self, text: bytes, received_at: bytes, key: bytes | None) -> Checked | None:
        """Check all of a body that `documents.strip` returned, or return None: then the careful way decides."""

    def each(self, found: Pieces, received_at: bytes) -> Checked | None:
        """Check bodies of one event each, as `pieces.of_bodies` found them; perhaps cut wrongly. The bodies are UTF-8.

        None when that is so, or any event is refused or out of the ordinary.
        """

    def event(self, event: bytes, received_at: bytes, key: bytes | None) -> Taken | Fault:
        """Check one object that is valid JSON, at most `max_event` long and not too deep."""


def total(verdicts: Iterable[Taken | Fault]) -> Checked:
    """Return the sum of what was decided for each event of a request, in order: grouped, counted, indexed."""
    checked = Checked([], 0, [], {})
    groups: dict[tuple[str, bytes], Group] = {}
    refused: list[Refusal] = []
    warnings: dict[str, int] = {}
    for index, verdict in enumerate(verdicts):
        if isinstance(verdict, Fault):
            refused.append(Refusal(index, verdict.error, verdict.reason, verdict.event[:SAMPLE_BYTES]))
            continue
        _put(groups, verdict)
        checked.accepted += 1
        checked.key_mismatch |= verdict.key_mismatch
        if verdict.warning:
            warnings[verdict.warning] = warnings.get(verdict.warning, 0) + 1
    checked.groups, checked.refused, checked.warnings = list(groups.values()), refused, warnings
    return checked


def _put(groups: dict[tuple[str, bytes], Group], taken: Taken) -> None:
    """Append an event to the group of its destination and batch key."""
    at = (taken.destination, taken.batch_key)
    group = groups.get(at)
    if group is None:
        group = groups[at] = Group(*at, [], 0, None if taken.trait is None else [])
    group.events.append(taken.event)
    group.size += len(taken.event)
    if group.traits is not None and taken.trait is not None:
        group.traits.append(taken.trait)
