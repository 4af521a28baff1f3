"""Order per person against a receiver that fails, delays and reorders."""

import random
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forwarder.core.lane.batch import Batch
from forwarder.core.lane.holds import Holds, Links
from forwarder.core.lane.order import Orderer
from forwarder.core.seams import Trait
from tests.support.fake_spool import FakeSpool
from tests.support.virtual_clock import VirtualClock, run_now


class Person:
    """Feeds an Orderer from a spool and remembers what was delivered, in order."""

    def __init__(self, events: Sequence[tuple[int, ...]], *, per_person: int = 4, persons: int = 3) -> None:
        self.links = Links()
        self.holds = Holds(self.links, persons_limit=persons)
        self.order = Orderer(links=self.links, holds=self.holds, per_person=per_person)
        self.spool = FakeSpool(VirtualClock())
        self.events = events
        for start in range(0, len(events), 7):
            part = events[start : start + 7]
            self.spool.put([b"{}"] * len(part), traits=[Trait(0, keys) for keys in part])
        self.delivered: list[int] = []
        self.open: list[Batch] = []
        self.in_window = 0
        self.most = 0

    def lease(self, room: int = 12) -> None:
        while self.in_window < room:
            if self.holds.settle():
                self.spool.rewind()
            spans = run_now(self.spool.lease(3, self.holds))
            if not spans:
                return
            taken = sum(span.count for span in spans)
            rejected = self.order.add(spans, now=0, wall=0)
            self.spool.release(rejected)
            self.in_window += taken - len(rejected)
            self.most = max(self.most, self.in_window)

    def start(self, most: int) -> None:
        while len(self.open) < most and (batch := self.order.take(0)) is not None:
            self.open.append(batch)

    def deliver(self, batch: Batch) -> None:
        self.open.remove(batch)
        self.delivered.append(batch.first)
        self.order.done(batch)
        self.in_window -= 1


def play(person: Person, choose: random.Random) -> None:
    for _ in range(50 * len(person.events) + 50):
        person.lease()
        person.start(choose.randint(1, 4))
        if not person.open:
            return
        # A failed request simply stays open: nothing may overtake it.
        if choose.random() < 0.6:
            person.deliver(choose.choice(person.open))


def assert_in_order(person: Person) -> None:
    position = {sequence: at for at, sequence in enumerate(person.delivered)}
    assert sorted(position) == list(range(1, len(person.events) + 1)), "each exactly once"
    for later, keys in enumerate(person.events, 1):
        for earlier in range(1, later):
            if set(keys) & set(person.events[earlier - 1]):
                assert position[earlier] < position[later], f"{later} overtook {earlier}"


KEYS = st.lists(st.integers(1, 6), max_size=3, unique=True).map(tuple)


@settings(max_examples=300, deadline=None)
@given(st.lists(KEYS, max_size=60), st.integers(0, 2**32))
def test_no_event_overtakes_another_of_the_same_person(events: list[tuple[int, ...]], seed: int) -> None:
    person = Person(events)
    play(person, random.Random(seed))  # noqa: S311  a script of delays, not a secret
    assert_in_order(person)


def test_identities_stay_united_after_the_linking_event_is_delivered() -> None:
    person = Person([(1,), (1, 2), (1,), (2,)])
    for _ in range(2):
        person.lease()
        person.start(1)
        person.deliver(person.open[0])
    person.start(4)
    assert [batch.first for batch in person.open] == [3], "4 names the same person as 3"


def test_persons_go_in_parallel_oldest_first() -> None:
    person = Person([(1,), (1,), (2,), (3,)])
    person.lease()
    person.start(9)
    assert [batch.first for batch in person.open] == [1, 3, 4]


def test_a_person_with_many_events_waits_in_the_spool_and_the_others_pass() -> None:
    person = Person([(1,)] * 500 + [(2,)], per_person=4)
    person.lease()
    person.start(9)
    assert [batch.first for batch in person.open] == [1, 501]
    assert person.in_window == 5
    play(person, random.Random(1))  # noqa: S311
    assert_in_order(person)
    assert person.most <= 12 + 7


def test_a_skipped_linking_event_holds_the_other_identity_too() -> None:
    person = Person([(1,)] * 6 + [(1, 2), (2,)], per_person=4)
    person.lease(room=100)
    person.start(9)
    assert [batch.first for batch in person.open] == [1], "8 must wait for 7, which waits for 6"
    play(person, random.Random(2))  # noqa: S311
    assert_in_order(person)


def test_beyond_the_limit_of_held_persons_the_window_takes_what_it_must_and_counts_it() -> None:
    person = Person([(key,) for key in (1, 2, 3, 4) for _ in range(6)], per_person=4, persons=3)
    person.lease(room=100)
    assert person.order.waits == 2
    play(person, random.Random(3))  # noqa: S311
    assert_in_order(person)


def test_everything_is_held_when_too_many_identities_are() -> None:
    links = Links()
    holds = Holds(links, persons_limit=3, keys_a_person=1)
    assert holds.hold_person((1,))
    assert holds.order((1, 2, 3))
    assert holds.order((99,)), "at the limit the lane waits"


def test_links_forget_the_least_recently_used() -> None:
    links = Links(limit=2)
    links.unite((1, 2))
    links.unite((3, 4))
    links.root(2)
    links.unite((5, 6))
    assert (links.root(2), links.root(4), links.root(6)) == (1, 4, 5)


@pytest.mark.parametrize("chain", [[(1, 2), (2, 3)], [(2, 3), (1, 2)], [(3, 2), (2, 1)]])
def test_identities_are_united_transitively(chain: list[tuple[int, ...]]) -> None:
    links = Links()
    for keys in chain:
        links.unite(keys)
    assert links.root(1) == links.root(2) == links.root(3)


@pytest.mark.parametrize(("per_person", "persons"), [(64, 1000), (8, 20), (2, 1)])
def test_p7_so_many_records_of_one_person_and_so_many_persons_set_aside_and_no_more(
    per_person: int, persons: int
) -> None:
    crowd = persons + 3
    person = Person([(1 + n % crowd,) for n in range(crowd * (per_person + 2))], per_person=per_person, persons=persons)
    person.lease(room=10**9)
    assert person.holds.persons == persons
    assert person.order.waits == 3 * 2, "only what was beyond the persons that may be set aside"
    assert person.in_window == crowd * per_person + 3 * 2
    assert {len(line) for line in person.order._lines.values()} == {per_person, per_person + 2}
    assert [batch.first for batch in person.open] == []
    while person.order.ready() or person.open:
        person.start(crowd)
        for batch in list(person.open):
            person.deliver(batch)
        person.lease(room=10**9)
    assert_in_line(person, crowd)


def assert_in_line(person: Person, crowd: int) -> None:
    assert sorted(person.delivered) == list(range(1, len(person.events) + 1)), "each exactly once"
    for one in range(crowd):
        own = [sequence for sequence in person.delivered if (sequence - 1) % crowd == one]
        assert own == sorted(own)
