from hypothesis import given, settings
from hypothesis import strategies as st

from forwarder.core.seams import Outcome
from forwarder.core.spool.intervals import Intervals
from forwarder.core.spool.ledger import Balance, Ledger
from forwarder.core.spool.timeline import LIMIT, Timeline

RANGES = st.tuples(st.integers(1, 60), st.integers(0, 12)).map(lambda r: (r[0], r[0] + r[1]))
STEPS = st.lists(st.tuples(st.booleans(), RANGES, st.integers(1, 3)), max_size=40)


@settings(deadline=None)
@given(STEPS, RANGES)
def test_intervals_behave_like_a_dictionary_of_sequences(
    steps: list[tuple[bool, tuple[int, int], int]], probe: tuple[int, int]
) -> None:
    found, model = Intervals(), dict[int, int]()
    for adds, (first, end), tag in steps:
        if adds:
            fresh = found.add(first, end, tag)
            assert [s for a, b in fresh for s in range(a, b)] == [s for s in range(first, end) if s not in model]
            model = {**dict.fromkeys(range(first, end), tag), **model}
        else:
            found.discard(first, end)
            model = {s: t for s, t in model.items() if not first <= s < end}
        assert {s: t for a, b, t in found for s in range(a, b)} == model
        for (_, end_a, tag_a), (start_b, _, tag_b) in zip(list(found), list(found)[1:], strict=False):
            assert end_a < start_b or (end_a == start_b and tag_a != tag_b)
    members = set(model) & set(range(*probe))
    assert found.count(*probe) == len(members)
    assert found.overlaps(*probe) == bool(members)
    gaps = [s for a, b in found.gaps(*probe) for s in range(a, b)]
    assert gaps == [s for s in range(*probe) if s not in model]
    assert found.skip(probe[0]) == next(s for s in range(probe[0], 200) if s not in model)


@settings(deadline=None)
@given(st.lists(st.tuples(RANGES, st.sampled_from(Outcome)), max_size=40))
def test_the_first_outcome_of_a_sequence_counts(acks: list[tuple[tuple[int, int], Outcome]]) -> None:
    ledger, model = Ledger(), dict[int, Outcome]()
    for (first, end), outcome in acks:
        ledger.record(first, end, outcome)
        model = {**dict.fromkeys(range(first, end), outcome), **model}
    words = [outcome.name.lower() for outcome in model.values()]
    assert ledger.totals() == {o.name.lower(): words.count(o.name.lower()) for o in Outcome}
    assert ledger.watermark == next(s for s in range(1, 200) if s not in model)
    assert ledger.end == max([1, *(s + 1 for s in model)])
    assert ledger.open(1, 100) == 99 - len(model)
    assert ledger.balance.sound


def test_acks_in_order_leave_no_interval() -> None:
    ledger = Ledger()
    for first in range(1, 1000, 10):
        ledger.record(first, first + 10, Outcome.DELIVERED)
    assert ledger.intervals == []
    assert ledger.balance == Balance(1001, (1000, 0, 0, 0, 0, 0, 0))


def test_the_age_of_a_record_is_never_understated() -> None:
    timeline = Timeline()
    for sequence in range(1, 10_000):
        timeline.mark(sequence, sequence * 2.0)
    assert len(timeline._times) <= LIMIT
    for sequence in (1, 77, 5000, 9999):
        at = timeline.at(sequence)
        assert at is not None
        assert at <= sequence * 2.0
    assert timeline.at(9999) == 9999 * 2.0
