"""P6: one state machine a destination; backoff with full jitter, one probe, slow start, rate limit. Virtual time."""

from itertools import pairwise

import pytest

from forwarder.core.lane.batch import Batch
from forwarder.core.lane.outcome import Answer, Result, Unreachable
from forwarder.core.lane.retry import FLOOR, RetryPolicy
from forwarder.core.seams import Trait
from tests.core.lane.test_delivery import OK, always, batched, ordered, people, script
from tests.support.virtual_clock import Simulation

DOWN = [
    Answer(429),
    Answer(503),
    Answer(500),
    Answer(408),
    Unreachable("connect"),
    Unreachable("dns"),
    Unreachable("timeout", ambiguous=True),
    Unreachable("reset", ambiguous=True),
]


@pytest.mark.parametrize("down", DOWN)
def test_p6_a_failure_of_the_destination_moves_the_whole_lane(down: Result) -> None:
    sim = Simulation(ordered(max_ambiguous=1000), script(lambda _s, now: down if now >= 1 else OK, 0.2))
    people(sim, 200)
    sim.run(1.05)
    assert sim.delivery.in_flight == 8, "eight requests are under way when the destination goes down"
    sim.run(60, until=lambda: sim.delivery.in_flight == 0)
    assert sim.state == "backing_off"
    assert sim.delivery.lane.attempt == 1, "eight failures of one outage are one"
    before = len(sim.requests)
    sim.run(60)
    probes = [request.at for request in sim.requests[before:]]
    assert len(probes) > 3
    assert all(later - earlier > 0.2 for earlier, later in pairwise(probes)), "one at a time"


@pytest.mark.parametrize("policy", [RetryPolicy(1.0, 300.0), RetryPolicy(0.25, 8.0), RetryPolicy(5.0, 5.0)])
def test_p6_backoff_grows_exponentially_with_full_jitter_up_to_its_longest(policy: RetryPolicy) -> None:
    sim = Simulation(batched(policy=policy, interval=0.0), always(Answer(429), 0.0))
    sim.spool.put([b"{}"] * 100)
    sim.run(200 * policy.max)
    waits = [after.at - before.at for before, after in pairwise(sim.requests)]
    ceilings = [min(policy.max, policy.initial * 2.0 ** min(n, 60)) for n in range(len(waits))]
    for wait, ceiling in zip(waits, ceilings, strict=True):
        assert 0.999 * policy.initial * FLOOR <= wait <= ceiling + 0.01
    late = [wait / policy.max for wait in waits[20:]]
    assert min(late) < 0.15
    assert max(late) > 0.9
    assert 0.4 < sum(late) / len(late) < 0.6, "evenly between nothing and the longest: full jitter"


def test_p6_after_an_outage_one_probe_goes_first_and_then_traffic_widens_slowly() -> None:
    seconds = 1.0
    sim = Simulation(ordered(concurrency=16), script(lambda _s, now: Answer(503) if now < 100 else OK, seconds))
    people(sim, 2000)
    sim.run(600)
    healthy = [request.at for request in sim.requests if request.result == OK]
    starts = [healthy[0] + n * seconds for n in range(7)]
    rounds = [sum(start <= at < start + seconds for at in healthy) for start in starts]
    assert rounds[0] == 1
    assert all(after <= 2 * before for before, after in pairwise(rounds))
    assert max(rounds) == 16


def test_p6_the_rate_limit_holds_for_requests_and_events() -> None:
    sim = Simulation(ordered(requests_per_second=3.0), always(OK, 0.01))
    people(sim, 300)
    sim.run(300)
    assert sim.spool.queued == 0
    for start in range(0, 90, 7):
        assert sum(start <= request.at < start + 10 for request in sim.requests) <= 3 * 10 + 3
    other = Simulation(batched(events_per_second=200.0), always(OK, 0.01))
    other.spool.put([b"{}"] * 5000)
    other.run(300)
    for start in range(0, 20, 3):
        sent = sum(len(request.sequences) for request in other.requests if start <= request.at < start + 5)
        assert sent <= 200 * 5 + 300, "a second's worth and a batch beyond it"


def test_p6_lanes_share_nothing() -> None:
    """One is dead, one parked: a third one beside them does exactly what it does alone."""

    def times(others: list[Simulation]) -> list[float]:
        sim = Simulation(batched(), always(OK, 0.3))
        for _ in range(50):
            sim.spool.put([b"{}"] * 100)
            for lane in (sim, *others):
                lane.run(1.0)
        return [request.at for request in sim.requests]

    dead, parked = (Simulation(batched(), always(result)) for result in (Answer(503), Answer(401)))
    for lane in (dead, parked):
        lane.spool.put([b"{}"] * 10_000)
    assert times([dead, parked]) == times([])
    assert (dead.state, parked.state) == ("backing_off", "parked")


@pytest.mark.parametrize("bad", [Answer(500), Answer(400), Unreachable("timeout", ambiguous=True)])
def test_p4_one_persons_bad_event_delays_no_other_person(bad: Result) -> None:
    """The others go exactly as often as without it, and none later than a request takes."""

    def vendor(batch: Batch, _now: float) -> tuple[Result, float]:
        return (bad, 30.0) if batch.first == 1 else (OK, 0.05)

    sim = Simulation(ordered(max_ambiguous=1000, max_attempts=1000), vendor)
    people(sim, 1)
    sim.run(100)
    for n in range(50):
        at = sim.clock.now
        sim.spool.put([b"{}"], traits=[_person(n)])
        sim.run(30, until=lambda n=n: 2 + n in sim.spool.outcomes)  # type: ignore[misc]
        assert sim.clock.now - at <= 2.1, "at most one backoff of the first failures, then at once"
    assert sim.spool.queued <= 1


def _person(n: int) -> Trait:
    return Trait(0, (1000 + n,))
