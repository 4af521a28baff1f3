"""Millions of events and tens of thousands of persons and keys against the lane, in virtual time."""

import msgspec
import pytest

from forwarder.core.lane.batch import Batch
from forwarder.core.lane.effect import Ambiguous
from forwarder.core.lane.holds import HELD_PERSONS_LIMIT, LINKS_LIMIT
from forwarder.core.lane.keys import KNOWN_LIMIT, PARKED_LIMIT
from forwarder.core.lane.outcome import Answer, Answers, Result, Unreachable
from forwarder.core.lane.rules import Rules
from forwarder.core.seams import Outcome, Trait
from tests.support.virtual_clock import Simulation

OK = Answer(200)
DAY = 86400.0
SECONDS = 0.05
BATCHED = Rules(answers=Answers(name="td"), batched=True, concurrency=4, drop_expired=True)
ORDERED = Rules(answers=Answers(name="en"), batched=False, concurrency=8)
PROBES_A_DAY = 900
"""Full jitter waits 150 s on average at the longest backoff: 576 a day, and some more at its beginning."""
LONGEST_BACKOFF_S = 300.0


def outlive_a_day_of_outage(rules: Rules, total: int, *, traits: bool) -> Simulation:
    """Let so many events arrive over a day in which every answer is 503; assert the bounds of docs/DELIVERY.md."""

    def vendor(_batch: Batch, now: float) -> tuple[Result, float]:
        return (Answer(503) if now < DAY else OK), SECONDS

    sim = Simulation(rules, vendor)
    steps = 50
    for step in range(steps):
        numbers = range(step * (total // steps), (step + 1) * (total // steps))
        sim.spool.put([b"{}"] * len(numbers), traits=[Trait(0, (1 + n % 5000,)) for n in numbers] if traits else None)
        sim.run(DAY / steps)
    assert len(sim.requests) <= PROBES_A_DAY
    assert sim.delivery.window.bytes <= (10 if rules.batched else 17) * 1024 * 1024
    assert sim.delivery.window.records <= (total if rules.batched else 10_000)

    sim.run(2 * DAY, until=lambda: sim.spool.queued == 0)
    assert sim.spool.queued == 0
    assert len(sim.spool.ended(Outcome.DELIVERED)) == total
    accepted = [request for request in sim.requests if request.result == OK]
    assert sum(len(request.sequences) for request in accepted) == total, "nothing arrived twice"
    size = rules.max_events if rules.batched else 1
    assert len(accepted) <= total / size * 1.01
    least = total / size * SECONDS / rules.concurrency
    assert accepted[-1].at - DAY <= LONGEST_BACKOFF_S + 1.2 * least + 10, "the drain is as fast as the vendor"
    return sim


def test_a_day_of_outage_with_a_million_events_costs_few_requests_no_duplicate_and_a_short_drain() -> None:
    outlive_a_day_of_outage(BATCHED, 1_000_000, traits=False)


@pytest.mark.prove
@pytest.mark.timeout(900)
@pytest.mark.parametrize(("rules", "total"), [(BATCHED, 5_000_000), (ORDERED, 200_000)], ids=["batched", "ordered"])
def test_a_day_of_outage_with_millions_of_events_keeps_the_same_bounds(rules: Rules, total: int) -> None:
    sim = outlive_a_day_of_outage(rules, total, traits=not rules.batched)
    assert len(sim.reported("delivery_failing")) == len(sim.reported("delivery_recovered")) == 1


def test_hours_without_answers_send_few_events_twice_and_kill_few() -> None:
    def vendor(_batch: Batch, now: float) -> tuple[Result, float]:
        return (Unreachable("timeout", ambiguous=True), 30.0) if now < DAY / 4 else (OK, SECONDS)

    sim = Simulation(ORDERED, vendor)
    total = 4000
    for start in range(0, total, 1000):
        sim.spool.put([b"{}"] * 1000, traits=[Trait(0, (1 + n % 20_000,)) for n in range(start, start + 1000)])
    sim.run(DAY / 2)
    unanswered = sum(isinstance(effect, Ambiguous) for effect in sim.effects)
    assert unanswered <= PROBES_A_DAY / 4 + ORDERED.concurrency * 3, "what was sent without an answer bounds duplicates"
    dead = sim.buried_sequences("ambiguous")
    assert len(dead) <= unanswered / 3
    assert len(sim.spool.ended(Outcome.DELIVERED)) == total - len(dead)
    sent = [sequence for request in sim.requests for sequence in request.sequences]
    assert len(sent) - len(set(sent)) <= unanswered


def test_p7_order_holds_with_tens_of_thousands_of_persons_and_memory_stays_bounded() -> None:
    persons, total = 8000, 12_000

    def vendor(batch: Batch, now: float) -> tuple[Result, float]:
        draw = hash((batch.first, batch.attempts, round(now))) % 50
        return (Answer(503) if draw == 0 else Answer(500) if draw == 1 else OK), 0.01 + draw / 100

    sim = Simulation(ORDERED, vendor)
    for start in range(0, total, 1000):
        # Every third event is of one of ten busy persons, each with thousands of events; some link two persons.
        keys = [_person(n, persons) for n in range(start, start + 1000)]
        sim.spool.put([b"{}"] * 1000, traits=[Trait(0, key) for key in keys])
    worst = 0
    delivery = sim.delivery
    while sim.spool.queued:
        sim.run(30)
        worst = max(worst, delivery.window.records)
        assert delivery.holds.persons <= HELD_PERSONS_LIMIT
        assert len(delivery.holds._by_key) <= delivery.holds.keys_limit + 8
        assert len(delivery.links._parent) <= LINKS_LIMIT
    assert worst <= 10_000, "the look-ahead"
    assert len(sim.spool.ended(Outcome.DELIVERED)) == total
    last: dict[int, int] = {}
    for request in sim.requests:
        if request.result == OK:
            (sequence,) = request.sequences
            for key in request.batch.spans[0].order():
                assert last.get(key, 0) < sequence, "nobody overtakes a person's earlier event"
                last[key] = sequence


def _person(n: int, persons: int) -> tuple[int, ...]:
    if n % 3 == 0:
        return (1 + n % 10,)
    one = 100 + n % persons
    return (one, 100 + (n * 7) % persons) if n % 50 == 1 else (one,)


def test_thousands_of_batch_keys_are_parked_and_resumed_within_bounds() -> None:
    keys = 1100
    healed = DAY / 8

    def vendor(_batch: Batch, now: float) -> tuple[Result, float]:
        return (Answer(404) if now < healed else OK), 0.01

    sim = Simulation(msgspec.structs.replace(BATCHED, interval=0.0), vendor)
    for n in range(keys):
        sim.spool.put([b"{}"], key=b"%d" % n)
    sim.run(healed)
    assert sim.state == "parked"
    assert sim.spool.queued == keys
    assert sim.buried == []
    found = sim.delivery._settlement.keys
    assert len(found.parked) <= PARKED_LIMIT + 1
    assert len(found._known) <= KNOWN_LIMIT
    sim.run(2 * DAY)
    assert sim.spool.queued == 0
    assert sim.delivery.parked_keys == {}
    assert sim.spool.acked_twice == []


def test_full_batches_of_one_key_leave_no_trace_behind_a_key_that_waits() -> None:
    sim = Simulation(msgspec.structs.replace(BATCHED, interval=3600.0), lambda _batch, _now: (OK, 0.01))
    sim.spool.put([b"{}"], key=b"rare")
    for _ in range(300):
        sim.spool.put([b"{}"] * 1000, key=b"busy")
        sim.run(1)
    assert len(sim.delivery._queue._due) < 1100  # type: ignore[union-attr]
    assert sim.spool.queued == 1
