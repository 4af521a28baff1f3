"""The lane against scripted vendors, in virtual time: nothing here waits."""

import math
from collections.abc import Callable

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forwarder.core.lane.batch import Batch
from forwarder.core.lane.effect import Split
from forwarder.core.lane.holds import HoldNothing
from forwarder.core.lane.outcome import Answer, Answers, Result, Unreachable
from forwarder.core.lane.retry import RetryPolicy
from forwarder.core.lane.rules import OrderLimits, Rules
from forwarder.core.seams import Outcome, Trait
from tests.support.virtual_clock import Simulation, Vendor, run_now

OK = Answer(200)
DAY = 86400.0


def batched(**changes: object) -> Rules:
    rules = Rules(
        answers=Answers(name="td"),
        batched=True,
        policy=RetryPolicy(initial=1.0, max=300.0),
        concurrency=4,
        drop_expired=True,
    )
    return msgspec.structs.replace(rules, **changes)


def ordered(**changes: object) -> Rules:
    return batched(**{"batched": False, "concurrency": 8, "drop_expired": False, **changes})


def always(result: Result, seconds: float = 0.05) -> Vendor:
    return lambda _batch, _now: (result, seconds)


def script(decide: Callable[[set[int], float], Result], seconds: float = 0.05) -> Vendor:
    def vendor(batch: Batch, now: float) -> tuple[Result, float]:
        return decide({seq for span in batch.spans for seq in range(span.first, span.end)}, now), seconds

    return vendor


def people(sim: Simulation, count: int, *, persons: int | None = None) -> None:
    for n in range(count):
        sim.spool.put([b"{%d}" % n], traits=[Trait(0, (1 + n % (persons or count),))])


# --- the ordinary way


def test_a_backlog_goes_in_full_batches_and_the_rest_after_the_interval() -> None:
    sim = Simulation(batched(), always(OK))
    sim.spool.put([b"{}"] * 250)
    sim.run(60)
    assert [len(r.sequences) for r in sim.requests] == [100, 100, 50]
    assert sim.requests[1].at < 1 < sim.requests[2].at <= 10
    assert sim.spool.ended(Outcome.DELIVERED) == list(range(1, 251))


def test_traffic_starts_slowly_and_widens_to_concurrency() -> None:
    sim = Simulation(batched(), always(OK, 1.0))
    sim.spool.put([b"{}"] * 2000)
    sim.run(60)
    starts = [sum(1 for r in sim.requests if r.at == at) for at in sorted({r.at for r in sim.requests})]
    assert starts[:4] == [1, 2, 4, 4]


def test_the_window_does_not_grow_with_the_backlog() -> None:
    sim = Simulation(batched(), always(Unreachable("connect"), 0.01))
    for _ in range(200):
        sim.spool.put([b"x" * 1000] * 100)
    sim.run(3600)
    assert 0 < sim.delivery.window.bytes < 6 * 1024 * 1024
    assert len(sim.requests) < 60


def test_the_rate_limit_holds() -> None:
    sim = Simulation(batched(events_per_second=50.0), always(OK, 0.01))
    sim.spool.put([b"{}"] * 1000)
    sim.run(120)
    assert sim.spool.queued == 0
    for second in range(1, 20):
        assert sum(len(r.sequences) for r in sim.requests if r.at <= second) <= 50 * second + 100


# --- failures of the destination


def test_an_outage_costs_few_requests_and_ends_with_one_probe_and_slow_start() -> None:
    sim = Simulation(batched(), script(lambda _s, now: Answer(503) if now < 3600 else OK))
    for _ in range(50):
        sim.spool.put([b"{}"] * 100)
    sim.run(DAY)
    during = [r for r in sim.requests if r.at < 3600]
    after = [r for r in sim.requests if r.at >= 3600]
    assert len(during) < 45, "bounded by the backoff"
    assert sim.spool.ended(Outcome.DELIVERED) == list(range(1, 5001))
    assert after[0].at < 3600 + 300
    assert after[1].at > after[0].at, "one probe first"
    assert after[-1].at < after[0].at + 5, "what was set aside in the outage does not wait for its own backoff"
    assert len(sim.reported("delivery_failing")) == 1
    assert [r.facts["after"] for r in sim.reported("delivery_recovered")] == ["503"]


def test_retry_after_is_honoured_before_anything_else_is_sent() -> None:
    sim = Simulation(batched(), script(lambda _s, now: Answer(429, retry_after_s=120.0) if now < 1 else OK))
    sim.spool.put([b"{}"] * 500)
    sim.run(600)
    assert sim.requests[1].at >= 120
    assert sim.spool.queued == 0


def test_names_that_do_not_resolve_are_flagged_after_a_quarter_of_an_hour() -> None:
    sim = Simulation(batched(), always(Unreachable("dns", detail="nom.example does not resolve")))
    sim.spool.put([b"{}"] * 100)
    sim.run(800)
    assert not sim.reported("name_does_not_resolve")
    sim.run(3600)
    assert len(sim.reported("name_does_not_resolve")) == 1
    assert "check configuration: destinations.td.url" in sim.delivery.lane.words(sim.clock.now)


# --- one bad event


@pytest.mark.parametrize("bad", [Answer(500), Unreachable("timeout", ambiguous=True)])
def test_a_batch_that_always_fails_does_not_hold_the_others_and_its_culprit_becomes_poison(bad: Result) -> None:
    sim = Simulation(batched(), script(lambda s, _now: bad if 42 in s else OK))
    for _ in range(20):
        sim.spool.put([b"{}"] * 100)
    sim.run(30)
    assert len(sim.spool.ended(Outcome.DELIVERED)) >= 1900
    for minute in range(400):
        sim.spool.put([b"{%d}" % minute] * 100)
        sim.run(60)
    assert sim.buried_sequences("poison") == [42]
    assert len(sim.spool.ended(Outcome.DELIVERED)) == sim.spool.next_sequence - 2


def test_a_lone_failing_event_is_kept_while_nothing_shows_that_it_is_to_blame() -> None:
    sim = Simulation(batched(), always(Answer(500)))
    sim.spool.put([b"{}"])
    sim.run(DAY)
    assert sim.spool.queued == 1
    assert len(sim.requests) < 700


@pytest.mark.parametrize("bad", [Answer(500), Unreachable("timeout", ambiguous=True)])
def test_the_companions_of_a_failing_event_arrive_even_where_nothing_else_is_sent(bad: Result) -> None:
    sim = Simulation(batched(), script(lambda s, _now: bad if 42 in s else OK))
    sim.spool.put([b"{}"] * 100)
    sim.run(600)
    assert sim.spool.ended(Outcome.DELIVERED) == [n for n in range(1, 101) if n != 42]
    assert sim.spool.queued == 1


@pytest.mark.parametrize("rules", [batched(max_events=10), ordered(max_ambiguous=1000)], ids=["batched", "ordered"])
@pytest.mark.parametrize("concurrency", [1, 4])
def test_p4_a_request_that_hangs_takes_the_place_of_no_other(rules: Rules, concurrency: int) -> None:
    def vendor(batch: Batch, _now: float) -> tuple[Result, float]:
        if any(span.first <= 3 < span.end for span in batch.spans):
            return Unreachable("timeout", ambiguous=True), 30.0
        return OK, 0.05

    sim = Simulation(msgspec.structs.replace(rules, concurrency=concurrency, max_attempts=10_000), vendor)
    people(sim, 10)
    sim.run(300)  # it has hung twice as ordinary traffic, and is set aside
    for _ in range(200):
        at = sim.clock.now
        sim.spool.put([b"{}"] * 10, traits=[Trait(0, (1000 + n,)) for n in range(10)])
        sim.run(20, until=lambda: sim.spool.queued == 1)
        assert sim.spool.queued == 1
        assert sim.clock.now - at <= 12, "no longer than the interval: nobody waits for a time-out"
        sim.run(7)
    assert sum(3 in r.sequences for r in sim.requests) >= 5, "it was tried meanwhile"


def test_a_fresh_event_does_not_wait_long_behind_a_lone_suspect() -> None:
    sim = Simulation(ordered(), script(lambda s, _now: Answer(500) if 1 in s else OK))
    people(sim, 1)
    sim.run(7200)
    at = sim.clock.now
    sim.spool.put([b"{}"], traits=[Trait(0, (77,))])
    sim.run(5)
    assert 2 in sim.spool.ended(Outcome.DELIVERED)
    assert sim.requests[-1].at <= at + 2.1


def test_in_an_outage_no_set_of_suspects_makes_more_requests_than_the_backoff_allows() -> None:
    sim = Simulation(ordered(max_ambiguous=100), always(Answer(500), 0.01))
    people(sim, 400)
    sim.run(DAY)
    assert len(sim.requests) < 1200
    assert sim.spool.queued == 400


def test_suspects_that_are_alone_with_a_dead_vendor_share_one_backoff() -> None:
    sim = Simulation(ordered(), script(lambda s, now: Answer(500) if now > 300 or min(s) <= 100 else OK))
    people(sim, 400)
    sim.run(300)
    assert len(sim.spool.ended(Outcome.DELIVERED)) == 300
    before = len(sim.requests)
    sim.run(DAY)
    assert sim.spool.queued == 100
    assert len(sim.requests) - before < 1000, "not a backoff each"


# --- bisection


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 100), st.data())
def test_bisection_finds_the_culprits_within_its_bound(total: int, data: st.DataObject) -> None:
    bad = data.draw(st.sets(st.integers(1, total), min_size=1, max_size=min(total - 1, 8)))
    sim = Simulation(batched(concurrency=3), script(lambda s, _now: Answer(400, body_start="no") if s & bad else OK))
    sim.spool.put([b"{}"] * total)
    sim.run(60)
    assert sim.buried_sequences("refused") == sorted(bad)
    assert sim.spool.ended(Outcome.DELIVERED) == sorted(set(range(1, total + 1)) - bad)
    assert sim.spool.acked_twice == []
    assert len(sim.requests) <= 2 * len(bad) * math.ceil(math.log2(total)) + 1
    assert {order.answer for order in sim.buried} == {"no"}


def test_a_refusal_ends_a_backoff() -> None:
    def vendor(s: set[int], now: float) -> Result:
        if now < 5:
            return Answer(503)
        return Answer(422) if 7 in s else OK

    sim = Simulation(batched(), script(vendor))
    sim.spool.put([b"{}"] * 100)
    sim.run(120)
    assert sim.state == "flowing"
    assert sim.buried_sequences("refused") == [7]


def test_an_isolation_interrupted_by_an_outage_goes_on_and_loses_nothing() -> None:
    sim = Simulation(
        batched(), script(lambda s, now: Answer(503) if 0.1 < now < 200 else Answer(400) if 7 in s else OK)
    )
    sim.spool.put([b"{}"] * 100)
    sim.run(3600)
    assert sim.buried_sequences("refused") == [7]
    assert len(sim.spool.ended(Outcome.DELIVERED)) == 99


def test_many_culprits_beside_accepted_events_are_no_storm() -> None:
    sim = Simulation(batched(), script(lambda s, _now: Answer(400) if max(s) > 50 else OK))
    sim.spool.put([b"{}"] * 100)
    sim.run(60)
    assert sim.buried_sequences("refused") == list(range(51, 101))
    assert sim.state == "flowing"


def test_a_413_halves_what_is_sent_and_the_limit_is_remembered() -> None:
    def vendor(batch: Batch, _now: float) -> tuple[Result, float]:
        return (Answer(413) if batch.size > 3000 else OK), 0.01

    sim = Simulation(batched(max_bytes=10_000), vendor)
    for _ in range(10):
        sim.spool.put([b"x" * 100] * 100)
    sim.run(60)
    assert len(sim.spool.ended(Outcome.DELIVERED)) == 1000
    assert sim.buried == []
    refused = [r for r in sim.requests if r.result != OK]
    assert len(refused) <= 6, "learned, not tried again with every batch"
    assert 0 < int(str(sim.spool.remembered["limit:6b"])) <= 5000


def test_a_single_event_that_is_too_large_is_a_dead_letter_of_that_name() -> None:
    sim = Simulation(batched(), script(lambda s, _now: Answer(413) if 3 in s else OK))
    sim.spool.put([b"{}"] * 5)
    sim.run(60)
    assert sim.buried_sequences("too_large") == [3]


# --- refusal storms


def test_a_storm_parks_the_key_and_buries_nothing() -> None:
    def vendor(batch: Batch, _now: float) -> tuple[Result, float]:
        return (Answer(400) if batch.key == b"bad" else OK), 0.01

    sim = Simulation(batched(), vendor)
    for n in range(10):
        sim.spool.put([b"{}"] * 100, key=b"bad" if n % 2 else b"good")
    sim.run(30)
    assert sim.buried == []
    assert len(sim.spool.ended(Outcome.DELIVERED)) == 500
    assert sim.state == "flowing"
    assert "refusal storm: 20 events" in sim.delivery.parked_keys["bad"]
    assert sum(r.batch.key == b"bad" for r in sim.requests) < 70


def test_a_storm_on_the_only_key_parks_the_destination_and_ends_by_itself() -> None:
    sim = Simulation(batched(), script(lambda s, now: Answer(400) if now < 7200 or 50 in s else OK))
    sim.spool.put([b"{}"] * 300)
    sim.run(7000)
    assert sim.state == "parked"
    assert sim.buried == []
    assert sim.spool.queued == 300
    parked = [r for r in sim.requests if r.at > 60]
    assert all(len(r.sequences) == 1 for r in parked), "gentle"
    assert len(parked) <= 14
    assert len({r.sequences[0] for r in parked}) == len(parked), "another one each time"
    sim.run(3600)
    assert sim.buried_sequences("refused") == [50]
    assert len(sim.spool.ended(Outcome.DELIVERED)) == 299


def test_a_storm_parks_an_ordered_lane_and_buries_nothing() -> None:
    sim = Simulation(ordered(), always(Answer(422)))
    people(sim, 500)
    sim.run(3600)
    assert sim.state == "parked"
    assert sim.buried == []
    assert len(sim.requests) < 45
    assert len(sim.reported("delivery_parked")) == 1


def test_fewer_refusals_than_a_storm_are_the_events_fault() -> None:
    sim = Simulation(ordered(), always(Answer(422)))
    people(sim, 19)
    sim.run(60)
    assert sim.buried_sequences("refused") == list(range(1, 20))


def test_a_trickle_of_refusals_without_one_success_is_a_storm_too() -> None:
    sim = Simulation(ordered(), always(Answer(400)))
    for _ in range(60):
        people(sim, 1)
        sim.run(60)
    assert sim.state == "parked"
    assert len(sim.buried) == 19


# --- parking


@pytest.mark.parametrize(
    "result", [Answer(401), Answer(402), Answer(407), Answer(302, location="https://elsewhere"), Unreachable("tls")]
)
def test_wrong_configuration_parks_and_costs_nothing(result: Result) -> None:
    sim = Simulation(batched(), script(lambda _s, now: result if now < 10_000 else OK))
    for _ in range(100):
        sim.spool.put([b"{}"] * 100)
    sim.run(9_000)
    assert sim.state == "parked"
    assert len(sim.requests) < 16
    assert len(sim.reported("delivery_parked")) == 1
    sim.run(DAY)
    assert len(sim.spool.ended(Outcome.DELIVERED)) == 10_000
    assert len(sim.reported("delivery_recovered")) == 1


def test_a_parked_lane_is_resumed_by_another_event_when_the_head_is_bad() -> None:
    def vendor(s: set[int], now: float) -> Result:
        if now < 100:
            return Answer(401)
        return Answer(500) if s & {1, 2, 3} else OK

    sim = Simulation(ordered(), script(vendor))
    people(sim, 50)
    sim.run(DAY / 4)
    assert len(sim.spool.ended(Outcome.DELIVERED)) == 47


def test_resume_probes_at_once() -> None:
    sim = Simulation(batched(), script(lambda _s, now: Answer(401) if now < 10 else OK))
    sim.spool.put([b"{}"] * 100)
    sim.run(20)
    sim.delivery.resume(sim.clock.now)
    sim.run(20)
    assert sim.spool.queued == 0


def test_an_unknown_app_parks_its_key_and_the_others_flow() -> None:
    healed = 4000.0

    def vendor(batch: Batch, now: float) -> tuple[Result, float]:
        return (Answer(404) if batch.key == b"b" and now < healed else OK), 0.01

    sim = Simulation(batched(), vendor)
    for n in range(400):
        sim.spool.put([b"{}"] * 100, key=b"ab"[n % 2 : n % 2 + 1])
    sim.run(3900)
    assert len(sim.spool.ended(Outcome.DELIVERED)) == 20_000
    assert sim.state == "flowing"
    assert list(sim.delivery.parked_keys) == ["b"]
    assert sim.delivery.window.records <= 200, "the rest waits in the spool"
    assert sum(r.batch.key == b"b" for r in sim.requests) < 16
    sim.run(DAY)
    assert sim.spool.queued == 0
    assert sim.delivery.parked_keys == {}
    assert sim.spool.acked_twice == []


def test_when_no_key_succeeds_the_destination_is_parked_and_a_new_key_is_tried_at_once() -> None:
    def vendor(batch: Batch, _now: float) -> tuple[Result, float]:
        return (OK if batch.key == b"new" else Answer(403)), 0.01

    sim = Simulation(batched(), vendor)
    for key in (b"a", b"b", b"c"):
        sim.spool.put([b"{}"] * 100, key=key)
    sim.run(30)
    assert sim.state == "parked"
    sim.spool.put([b"{}"] * 100, key=b"new", accepted_at=sim.clock.wall() - 60)
    sim.run(30)
    assert sim.state == "flowing"
    assert sim.spool.ended(Outcome.DELIVERED) == list(range(301, 401))
    assert sorted(sim.delivery.parked_keys) == ["a", "b", "c"]
    assert {r.batch.key for r in sim.requests if 30 <= r.at < 40} == {b"a", b"b", b"c", b"new"}, "asked again at once"


def test_the_operators_word_on_a_status_comes_first() -> None:
    answers = Answers(name="td", vendor={409: "isolate"}, overrides={409: "delivered"})
    sim = Simulation(batched(answers=answers), always(Answer(409)))
    sim.spool.put([b"{}"] * 100)
    sim.run(30)
    assert len(sim.spool.ended(Outcome.DELIVERED)) == 100


# --- ambiguity


def test_an_event_is_sent_at_most_max_ambiguous_times_without_an_answer() -> None:
    sim = Simulation(ordered(), script(lambda s, _n: Unreachable("timeout", ambiguous=True) if 5 in s else OK))
    people(sim, 20)
    sim.run(DAY)
    assert sim.buried_sequences("ambiguous") == [5]
    assert sum(5 in r.sequences for r in sim.requests) == 3
    assert len(sim.spool.ended(Outcome.DELIVERED)) == 19
    assert sim.spool.remembered == {}


def test_ambiguous_sends_are_counted_over_a_restart() -> None:
    vendor = script(lambda s, _n: Unreachable("reset", ambiguous=True) if 1 in s else OK)
    first = Simulation(ordered(), vendor)
    people(first, 1)
    first.run(600, until=lambda: len(first.requests) == 2 and first.delivery.in_flight == 0)
    assert first.spool.remembered == {"ambiguous:1": 2}
    second = Simulation(ordered(), vendor)
    people(second, 1)
    second.delivery.restore({**first.spool.remembered, "ambiguous:0": 1}, first_sequence=1)
    second.run(600)
    assert len(second.requests) == 1
    assert second.buried_sequences("ambiguous") == [1]


def test_batches_are_never_given_up_for_ambiguity() -> None:
    sim = Simulation(batched(), script(lambda _s, now: Unreachable("timeout", ambiguous=True) if now < 900 else OK))
    sim.spool.put([b"{}"] * 100)
    sim.run(DAY)
    assert len(sim.spool.ended(Outcome.DELIVERED)) == 100


# --- age


def test_what_is_too_old_at_lease_is_never_sent() -> None:
    sim = Simulation(batched(), always(OK))
    sim.spool.put([b"{}"] * 10, accepted_at=sim.clock.wall() - 8 * DAY)
    sim.spool.put([b"{}"] * 10, accepted_at=sim.clock.wall() - 6 * DAY)
    sim.run(60)
    assert sim.spool.ended(Outcome.EXPIRED) == list(range(1, 11))
    assert sim.spool.ended(Outcome.DELIVERED) == list(range(11, 21))


def test_what_expires_while_it_waits_for_a_dead_vendor_is_never_sent_late() -> None:
    sim = Simulation(ordered(max_age=3600.0), script(lambda _s, now: Answer(503) if now < 7200 else OK))
    people(sim, 30)
    sim.run(DAY)
    assert sim.buried_sequences("expired") == list(range(1, 31))
    assert all(r.at <= 3600 for r in sim.requests)


def test_what_expires_while_parked_becomes_a_dead_letter_even_where_the_policy_is_drop() -> None:
    sim = Simulation(batched(max_age=3600.0), always(Answer(401)))
    sim.spool.put([b"{}"] * 250)
    sim.run(2 * 3600)
    assert sim.buried_sequences("expired") == list(range(1, 251))
    assert sim.spool.ended(Outcome.EXPIRED) == []


def test_nothing_expires_while_the_clock_is_not_to_be_trusted() -> None:
    sim = Simulation(batched(max_age=3600.0), always(Answer(503)))
    sim.spool.put([b"{}"] * 10)
    sim.run(60)
    sim.clock.offset += 30 * DAY
    sim.run(600)
    assert sim.spool.queued == 10
    sim.clock.offset -= 30 * DAY
    sim.run(2 * 3600)
    assert sim.spool.ended(Outcome.EXPIRED) == list(range(1, 11))


def test_records_of_a_parked_key_that_expire_in_the_spool_become_dead_letters() -> None:
    def vendor(batch: Batch, _now: float) -> tuple[Result, float]:
        return (Answer(404) if batch.key == b"b" else OK), 0.01

    sim = Simulation(batched(max_age=3600.0), vendor)
    for key in (b"a", b"b", b"b", b"b"):
        sim.spool.put([b"{}"] * 100, key=key)
    sim.run(3700)
    spans = run_now(sim.spool.lease(1, HoldNothing()))
    sim.spool.rewind()
    spans += run_now(sim.spool.lease(1 << 20, HoldNothing()))
    assert sim.delivery.expire_in_spool(spans, now=sim.clock.now, wall=sim.clock.wall()) == []
    sim.perform()
    assert sim.buried_sequences("expired") == list(range(101, 401))
    assert sim.spool.ended(Outcome.EXPIRED) == []


# --- order, end to end in the core


@settings(max_examples=40, deadline=None)
@given(st.lists(st.lists(st.integers(1, 5), max_size=3, unique=True).map(tuple), max_size=40), st.integers(0, 1000))
def test_a_hostile_receiver_cannot_reorder_a_person(events: list[tuple[int, ...]], seed: int) -> None:
    def vendor(batch: Batch, now: float) -> tuple[Result, float]:
        draw = hash((batch.first, batch.attempts, seed, round(now))) % 10
        results: list[Result] = [Answer(503), Answer(500), Unreachable("connect"), Answer(429, retry_after_s=3.0)]
        return (results[draw] if draw < 4 else OK), 0.01 + draw / 3

    sim = Simulation(ordered(), vendor)
    for keys in events:
        sim.spool.put([b"{}"], traits=[Trait(0, keys)])
    sim.run(DAY)
    assert sim.spool.ended(Outcome.DELIVERED) == list(range(1, len(events) + 1))
    began = {seq: r.at for r in sim.requests for seq in r.sequences if r.result == OK}
    for later, keys in enumerate(events, 1):
        for earlier in range(1, later):
            if set(keys) & set(events[earlier - 1]):
                assert began[earlier] < began[later]


def test_p7_the_limits_of_the_order_are_settings_and_a_reload_changes_them() -> None:
    small = OrderLimits(records=100, per_person=5, persons=10, links=3)
    sim = Simulation(ordered(order=small), always(Unreachable("connect")))
    people(sim, 1000, persons=50)
    sim.run(60)
    delivery = sim.delivery
    assert delivery.window.records == 100
    assert delivery.links.limit == 3
    assert delivery.holds.persons_limit == 10

    delivery.retune(ordered(), now=sim.clock.now, wall=sim.clock.wall())
    sim.run(60)
    assert delivery.window.records == 1000
    assert delivery.links.limit == 100_000
    assert delivery.holds.persons_limit == 1000


def test_p7_the_look_ahead_is_bounded_in_bytes_too() -> None:
    mib = 1024 * 1024
    sim = Simulation(ordered(order=OrderLimits(bytes=4 * mib)), always(Unreachable("connect")))
    for person in range(200):
        sim.spool.put([b"x" * mib], traits=[Trait(0, (1 + person,))])
    sim.run(60)
    assert 4 * mib <= sim.delivery.window.bytes <= 6 * mib, "what was begun is leased whole"


# --- what else an answer may say


@pytest.mark.parametrize("status", [200, 404, 422, 429, 500, 503, 401, 302])
def test_p6_retry_after_is_honoured_on_any_status(status: int) -> None:
    def decide(_s: set[int], now: float) -> Result:
        return Answer(status, retry_after_s=700.0) if now < 1 else OK

    sim = Simulation(batched(), script(decide))
    sim.spool.put([b"{}"] * 1000)
    sim.run(DAY)
    assert all(request.at < 1 or request.at >= 700 for request in sim.requests)
    assert len([request for request in sim.requests if request.at < 1]) == 1
    assert sim.spool.queued == 0


def test_a_parked_key_whose_probe_gets_a_500_does_not_slow_the_other_keys() -> None:
    def vendor(batch: Batch, now: float) -> tuple[Result, float]:
        if batch.key != b"b":
            return OK, 0.01
        return (Answer(403) if now < 5 else Answer(500)), 0.01

    sim = Simulation(batched(interval=0.0), vendor)
    for n in range(600):
        sim.spool.put([b"{}"], key=b"b" if n < 3 else b"a")
        sim.run(2)
    assert not sim.reported("delivery_failing")
    assert len(sim.spool.ended(Outcome.DELIVERED)) == 597
    assert list(sim.delivery.parked_keys) == ["b"]


def test_an_unknown_status_blames_the_batch_so_that_it_cannot_hold_the_others() -> None:
    sim = Simulation(batched(), script(lambda s, _now: Answer(777) if 42 in s else OK))
    for _ in range(20):
        sim.spool.put([b"{}"] * 100)
    sim.run(60)
    assert len(sim.spool.ended(Outcome.DELIVERED)) >= 1900


@settings(max_examples=25, deadline=None)
@given(st.integers(101, 1000), st.data())
def test_p4_the_bound_of_bisection_holds_for_large_batches(total: int, data: st.DataObject) -> None:
    bad = data.draw(st.sets(st.integers(1, total), min_size=1, max_size=18))
    sim = Simulation(batched(max_events=1000), script(lambda s, _now: Answer(422) if s & bad else OK))
    sim.spool.put([b"{}"] * total)
    sim.run(600)
    assert sim.buried_sequences("refused") == sorted(bad)
    assert len(sim.spool.ended(Outcome.DELIVERED)) == total - len(bad)
    assert len(sim.requests) <= 2 * len(bad) * math.ceil(math.log2(total)) + 1


# --- the end


def test_a_drain_gives_everything_back_that_is_not_in_flight() -> None:
    sim = Simulation(ordered(), always(Answer(503)))
    people(sim, 100, persons=3)
    sim.run(30)
    sim.delivery.give_back()
    sim.perform()
    assert len(sim.spool.leased) == sim.delivery.in_flight == 0
    assert sim.delivery.window.bytes == sim.delivery.window.records == 0


def test_splits_are_counted() -> None:
    sim = Simulation(batched(), script(lambda s, _n: Answer(400) if 1 in s else OK))
    sim.spool.put([b"{}"] * 4)
    sim.run(30)
    assert sum(isinstance(effect, Split) for effect in sim.effects) == 2


def test_new_settings_take_effect_without_losing_a_lease() -> None:
    sim = Simulation(batched(), script(lambda _s, now: Answer(401) if now < 50 else OK))
    sim.spool.put([b"{}"] * 1000)
    sim.run(51)
    rules = batched(max_events=10, concurrency=1, interval=1.0)
    sim.delivery.retune(rules, now=sim.clock.now, wall=sim.clock.wall())
    sim.run(600)
    assert len(sim.spool.ended(Outcome.DELIVERED)) == 1000
    assert sim.spool.acked_twice == []
