"""Packing: one frame a batch key and age, in order of arrival within it; sequences without a gap."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forwarder.core.seams import Done, Durability, Failed, Group, Stored, Trait
from forwarder.core.spool import packing
from forwarder.core.spool.frame import MAX_PAYLOAD, Frame
from forwarder.core.spool.packing import Entry


def nobody(_: Stored | Failed) -> None:
    """Wait for nothing."""


def entry(
    events: list[bytes],
    key: bytes = b"k",
    *,
    level: Durability = Durability.FSYNC,
    traits: list[Trait] | None = None,
    age: float | None = None,
    done: Done | None = nobody,
) -> Entry:
    return Group("td", key, events, sum(map(len, events)), traits, age), level, done, 100.0


def contents(packed: packing.Packed) -> list[tuple[int, bytes, bytes]]:
    found = []
    for frame in packed.frames:
        starts = frame.starts
        for at in range(frame.count):
            event = bytes(frame.payload[starts[at] : starts[at + 1] - 1])
            found.append((frame.sequence + at, frame.batch_key, event))
    return found


def test_groups_of_one_key_become_one_frame_in_order_of_arrival() -> None:
    packed = packing.pack([entry([b"{1}"], b"a"), entry([b"{2}"], b"b"), entry([b"{3}", b"{4}"], b"a")], 10)
    assert contents(packed) == [(10, b"a", b"{1}"), (11, b"a", b"{3}"), (12, b"a", b"{4}"), (13, b"b", b"{2}")]
    assert packed.next_sequence == 14


def test_events_with_traits_and_without_and_of_other_ages_are_kept_apart() -> None:
    entries = [entry([b"{1}"]), entry([b"{2}"], traits=[Trait(1, (7,))]), entry([b"{3}"], age=5.0), entry([b"{4}"])]
    frames = packing.pack(entries, 1).frames
    assert [(frame.count, frame.accepted_at, bool(frame.traits)) for frame in frames] == [
        (2, 100.0, False),
        (1, 100.0, True),
        (1, 5.0, False),
    ]


def test_who_waits_for_delivery_is_told_all_sequences_of_the_group() -> None:
    large = [b"{" + b"x" * 400_000 + b"}"] * 5
    waiting = entry(large, b"b", level=Durability.DELIVERED)
    packed = packing.pack([entry([b"{}"], b"b"), waiting], 1)
    [(done, pieces)] = packed.delivery
    assert done is nobody
    assert sorted(sequence for first, end in pieces for sequence in range(first, end)) == [2, 3, 4, 5, 6]


def test_an_answered_group_waits_for_nothing() -> None:
    assert packing.pack([entry([b"{}"], level=Durability.DELIVERED, done=None)], 1).delivery == []


@given(
    st.lists(
        st.tuples(
            st.sampled_from([b"a", b"b", b"c"]),
            st.lists(st.integers(2, 300_000), min_size=1, max_size=12),
            st.booleans(),
        ),
        max_size=8,
    ),
    st.integers(1, 1 << 60),
)
def test_every_event_is_in_exactly_one_frame_none_of_which_is_too_large(
    groups: list[tuple[bytes, list[int], bool]], first: int
) -> None:
    number = 0
    entries: list[Entry] = []
    sent: dict[bytes, list[bytes]] = {}
    for key, sizes, traits in groups:
        events = []
        for size in sizes:
            number += 1
            events.append(b"{" + b"%d" % number + b"x" * size + b"}")
        full = key + (b"+" if traits else b"")
        sent.setdefault(full, []).extend(events)
        entries.append(entry(events, full, traits=[Trait()] * len(events) if traits else None))
    packed = packing.pack(entries, first)
    found = contents(packed)
    assert sorted(sequence for sequence, _, _ in found) == list(range(first, packed.next_sequence))
    for key, events in sent.items():
        assert [event for _, of, event in sorted(found) if of == key] == events
    assert all(frame.count == 1 or len(frame.payload) <= MAX_PAYLOAD for frame in packed.frames)


@pytest.mark.parametrize("traits", [None, [Trait(aged=1, order=(7, 8)), Trait()]])
@pytest.mark.parametrize("age", [None, 5.0])
@pytest.mark.parametrize("level", [Durability.FSYNC, Durability.DELIVERED])
def test_a_group_alone_makes_the_same_frame_as_beside_another(
    traits: list[Trait] | None, age: float | None, level: Durability
) -> None:
    one = entry([b"{1}", b"{22}"], b"a", level=level, traits=traits, age=age)
    alone = packing.pack([one], 10)
    beside = packing.pack([one, entry([b"{3}"], b"b")], 10)
    assert len(alone.frames) == 1
    assert facts(alone.frames[0]) == facts(beside.frames[0])
    assert alone.next_sequence == beside.next_sequence - 1
    assert alone.delivery == beside.delivery


@pytest.mark.parametrize("odd", [
    {},
    {"level": Durability.MEMORY},
    {"level": Durability.DELIVERED},
    {"age": 5.0},
    {"traits": [Trait(1, (7,))]},
    {"key": b"b"},
])  # fmt: skip
def test_groups_of_one_key_alone_make_the_same_frames_as_beside_another_key(odd: dict[str, Any]) -> None:
    some = [entry([b"{1}", b"{22}"], b"a"), entry([b"{3}"], **{"key": b"a", **odd}), entry([b"{44}"], b"a")]
    for entries in (some, some[1:], [some[0], some[2], some[1]]):
        alone = packing.pack(entries, 10)
        beside = packing.pack([*entries, entry([b"{5}"], b"z")], 10)
        assert [*map(facts, alone.frames)] == [*map(facts, beside.frames[:-1])]
        assert (alone.next_sequence, alone.delivery) == (beside.next_sequence - 1, beside.delivery)
    assert [events for group, *_ in some for events in group.events] == [b"{1}", b"{22}", b"{3}", b"{44}"]


def test_groups_that_are_too_large_together_are_not_one_frame() -> None:
    large = b"{" + b"x" * (MAX_PAYLOAD // 3) + b"}"
    packed = packing.pack([entry([large], b"a"), entry([large], b"a"), entry([large], b"a")], 10)
    assert [frame.count for frame in packed.frames] == [2, 1]


def facts(frame: Frame) -> tuple[object, ...]:
    return (
        frame.sequence, frame.accepted_at, frame.batch_key, frame.lengths, frame.payload, frame.traits, frame.count
    )  # fmt: skip
