"""From what was appended since the last commit to frames: grouped by batch key, in order of arrival within a key.

Hot: runs once a commit on the writer thread; per event there are list operations only.
"""

from array import array
from collections.abc import Sequence
from typing import NamedTuple

from forwarder.core.seams import Done, Durability, Group
from forwarder.core.spool import frame as frames
from forwarder.core.spool.frame import MAX_PAYLOAD, Frame

Entry = tuple[Group, Durability, Done | None, float]
"""What `append` leaves for the writer: group, level, who waits (None: answered already), accepted at."""

Piece = tuple[int, int]
"""Sequences `[first, end)`."""


Shared = tuple[bytes, bool, float | None]
"""What the events of one frame have in common: batch key, whether they have traits, an age that is kept (a replay)."""


class Packed(NamedTuple):
    """The frames of one commit, and who waits for the delivery of which records."""

    frames: list[Frame]
    next_sequence: int
    delivery: list[tuple[Done, list[Piece]]]


class _Draft:
    """A frame in the making."""

    __slots__ = ("accepted_at", "batch_key", "events", "rows", "sequence", "size")

    def __init__(self, batch_key: bytes, accepted_at: float) -> None:
        self.batch_key = batch_key
        self.accepted_at = accepted_at
        self.events: list[bytes] = []
        self.rows: list[tuple[int, tuple[int, ...]]] = []
        self.size = 0
        self.sequence = 0

    def frame(self) -> Frame:
        """Return the finished frame."""
        return Frame(
            sequence=self.sequence,
            accepted_at=self.accepted_at,
            batch_key=self.batch_key,
            lengths=array("I", map(len, self.events)),
            payload=b",".join(self.events),
            traits=frames.encode_traits(self.rows) if self.rows else b"",
        )


def pack(entries: Sequence[Entry], sequence: int) -> Packed:
    """Return the frames that hold `entries`, numbered from `sequence` on."""
    entry = entries[0] if len(entries) == 1 else _joined(entries)
    if entry is not None and entry[0].size + len(entry[0].events) <= MAX_PAYLOAD:
        return _alone(entry, sequence)
    packer = _Packer()
    for group, level, done, accepted_at in entries:
        pieces = packer.add(group, accepted_at)
        if level is Durability.DELIVERED and done is not None:
            packer.delivery.append((done, pieces))
    for draft in packer.drafts:
        draft.sequence = sequence
        sequence += len(draft.events)
    delivery = [
        (done, [(draft.sequence + start, draft.sequence + stop) for draft, start, stop in pieces])
        for done, pieces in packer.delivery
    ]
    return Packed([draft.frame() for draft in packer.drafts], sequence, delivery)


def _joined(entries: Sequence[Entry]) -> Entry | None:
    """Return groups that differ in nothing but their events as one; None if they are not so plain."""
    if not entries:
        return None
    (first, level, done, accepted_at), *others = entries
    if not _is_plain(first, level, first.batch_key):
        return None
    events, size = [*first.events], first.size
    for group, other_level, _, _ in others:
        if not _is_plain(group, other_level, first.batch_key):
            return None
        events += group.events
        size += group.size
    return Group(first.destination, first.batch_key, events, size), level, done, accepted_at


def _is_plain(group: Group, level: Durability, key: bytes) -> bool:
    alike = group.batch_key == key and group.traits is None and group.accepted_at is None
    return alike and level is not Durability.DELIVERED


def _alone(entry: Entry, sequence: int) -> Packed:
    """Return the one frame that holds one group: what most commits of a busy loop are, at a third of the steps."""
    group, level, done, accepted_at = entry
    events, traits = group.events, group.traits
    frame = Frame(
        sequence=sequence,
        accepted_at=accepted_at if group.accepted_at is None else group.accepted_at,
        batch_key=group.batch_key,
        lengths=array("I", map(len, events)),
        payload=b",".join(events),
        traits=frames.encode_traits([(trait.aged, trait.order) for trait in traits]) if traits else b"",
    )
    end = sequence + len(events)
    delivery = [(done, [(sequence, end)])] if level is Durability.DELIVERED and done is not None else []
    return Packed([frame], end, delivery)


class _Packer:
    def __init__(self) -> None:
        self.drafts: list[_Draft] = []
        self.delivery: list[tuple[Done, list[tuple[_Draft, int, int]]]] = []
        self._open: dict[Shared, _Draft] = {}

    def add(self, group: Group, accepted_at: float) -> list[tuple[_Draft, int, int]]:
        key = (group.batch_key, group.traits is None, group.accepted_at)
        if group.accepted_at is not None:
            accepted_at = group.accepted_at
        draft = self._open.get(key)
        if draft is None or draft.size + group.size + len(draft.events) + len(group.events) > MAX_PAYLOAD:
            draft = self._begin(key, accepted_at)
        if group.size + len(group.events) > MAX_PAYLOAD:
            return self._add_large(group, key, accepted_at)
        start = len(draft.events)
        draft.events += group.events
        draft.size += group.size
        if group.traits is not None:
            draft.rows += [(trait.aged, trait.order) for trait in group.traits]
        return [(draft, start, len(draft.events))]

    def _begin(self, key: Shared, accepted_at: float) -> _Draft:
        draft = self._open[key] = _Draft(key[0], accepted_at)
        self.drafts.append(draft)
        return draft

    def _add_large(self, group: Group, key: Shared, accepted_at: float) -> list[tuple[_Draft, int, int]]:
        """Spread one group over several frames."""
        draft = self._open[key]
        pieces: list[tuple[_Draft, int, int]] = []
        for at, event in enumerate(group.events):
            if draft.events and draft.size + len(draft.events) + len(event) > MAX_PAYLOAD:
                pieces.append((draft, 0, len(draft.events)))
                draft = self._begin(key, accepted_at)
            draft.events.append(event)
            draft.size += len(event)
            if group.traits is not None:
                draft.rows.append((group.traits[at].aged, group.traits[at].order))
        return [*pieces, (draft, 0, len(draft.events))]
