import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forwarder.core.lane.lane import TRANSITIONS, IllegalTransition, Lane, Signal, State, parked_delay
from forwarder.core.lane.retry import RetryPolicy


def make(concurrency: int = 8) -> Lane:
    return Lane(policy=RetryPolicy(initial=1.0, max=300.0), concurrency=concurrency, now=0.0)


def fail(lane: Lane, now: float, **more: float) -> None:
    lane.failed(lane.epoch, cause="503", now=now, jitter=0.5, retry_after_s=more.get("after"))


def test_a_new_lane_flows_with_one_request_at_first() -> None:
    lane = make()
    assert lane.state is State.FLOWING
    assert lane.room(0) == 1
    assert lane.room(1) == 0


def test_slow_start_doubles_a_round_up_to_concurrency() -> None:
    lane = make(concurrency=6)
    widths = []
    for _ in range(4):
        width = lane.room(0)
        widths.append(width)
        for _ in range(width):
            lane.passed(lane.epoch, now=1.0)
    assert widths == [1, 2, 4, 6]


def test_a_failure_moves_the_whole_lane_and_waits() -> None:
    lane = make()
    fail(lane, 10.0)
    assert lane.state is State.BACKING_OFF
    assert lane.room(0) == 0
    assert not lane.due(10.4)
    assert lane.due(10.5)


def test_retry_after_wins_over_a_shorter_backoff() -> None:
    lane = make()
    fail(lane, 10.0, after=42.0)
    assert not lane.due(51.9)
    assert lane.due(52.0)


def test_a_retry_after_of_zero_cannot_shorten_the_backoff() -> None:
    lane = make()
    fail(lane, 10.0, after=0.0)
    assert lane.next_at == 10.5


def test_thirty_timeouts_of_one_outage_are_one_failure() -> None:
    lane = make()
    epoch = lane.epoch
    for n in range(30):
        lane.failed(epoch, cause="timeout", now=10.0 + n, jitter=0.5)
    assert lane.attempt == 1
    assert lane.next_at == 10.5


def test_a_late_retry_after_extends_the_wait() -> None:
    lane = make()
    epoch = lane.epoch
    lane.failed(epoch, cause="503", now=10.0, jitter=0.5)
    lane.failed(epoch, cause="429", now=10.1, jitter=0.5, retry_after_s=60.0)
    assert lane.next_at == pytest.approx(70.1)


def test_a_late_success_does_not_end_a_backoff() -> None:
    lane = make()
    epoch = lane.epoch
    fail(lane, 10.0)
    assert lane.passed(epoch, now=10.1) is None
    assert lane.state is State.BACKING_OFF


def test_one_probe_decides_and_then_slow_start_begins_again() -> None:
    lane = make()
    for _ in range(20):
        lane.passed(lane.epoch, now=1.0)
    assert lane.room(0) == 8
    fail(lane, 10.0)
    epoch = lane.begin(10.5)
    assert lane.state is State.PROBING
    assert not lane.due(100.0)
    assert lane.room(0) == 0
    change = lane.passed(epoch, now=10.6)
    assert change is not None
    assert change.new is State.FLOWING
    assert lane.room(0) == 1


def test_failing_probes_wait_longer_and_longer() -> None:
    lane = make()
    fail(lane, 0.0)
    waits = []
    for _ in range(10):
        assert lane.next_at is not None
        now = lane.next_at
        epoch = lane.begin(now)
        lane.failed(epoch, cause="503", now=now, jitter=0.5)
        waits.append(lane.next_at - now)
    assert waits == [1, 2, 4, 8, 16, 32, 64, 128, 150, 150]


def test_a_parked_lane_probes_from_one_to_fifteen_minutes() -> None:
    lane = make()
    lane.park(lane.epoch, cause="401", now=0.0, jitter=0.999)
    waits = []
    for _ in range(7):
        assert lane.next_at is not None
        now = lane.next_at
        epoch = lane.begin(now)
        lane.park(epoch, cause="401", now=now, jitter=0.999)
        waits.append(round(lane.next_at - now))
    assert waits == [120, 240, 480, 900, 900, 900, 900]


def test_only_the_first_park_of_an_episode_is_announced() -> None:
    lane = make()
    first = lane.park(lane.epoch, cause="401", now=0.0, jitter=0.5)
    second = lane.park(lane.begin(60.0), cause="401", now=60.0, jitter=0.5)
    assert first is not None
    assert first.first
    assert second is not None
    assert not second.first


@pytest.mark.parametrize("unproven", [True, False])
def test_a_parked_probe_that_fails_for_another_reason_stays_parked(*, unproven: bool) -> None:
    lane = make()
    lane.park(lane.epoch, cause="401: check the key", now=0.0, jitter=0.5)
    epoch = lane.begin(60.0)
    if unproven:
        lane.unproven(epoch, now=60.0, jitter=0.5)
    else:
        lane.failed(epoch, cause="503", now=60.0, jitter=0.5)
    assert lane.state is State.PARKED
    assert lane.words(60.0).startswith("401: check the key, next try in ")


def test_resume_makes_the_next_probe_due_at_once() -> None:
    lane = make()
    lane.park(lane.epoch, cause="401", now=0.0, jitter=0.5)
    assert not lane.due(1.0)
    lane.resume(1.0)
    assert lane.due(1.0)


def test_a_suspects_failed_probe_does_not_lengthen_the_backoff() -> None:
    lane = make()
    fail(lane, 0.0)
    lane.failed(lane.begin(1.0), cause="500", now=1.0, jitter=0.5, grows=False)
    assert lane.attempt == 1


def test_a_stopped_lane_stays_stopped_whatever_comes_late() -> None:
    lane = make()
    epoch = lane.epoch
    lane.stop("drained", 1.0)
    lane.passed(epoch, now=2.0)
    lane.failed(epoch, cause="503", now=2.0, jitter=0.5)
    lane.park(epoch, cause="401", now=2.0, jitter=0.5)
    assert lane.state is State.STOPPED
    assert lane.words(3.0) == "drained"
    lane.start(4.0)
    assert lane.room(0) == 1


def test_whatever_is_not_in_the_table_raises() -> None:
    lane = make()
    for state, signal in itertools.product(State, Signal):
        lane.state = state
        if (state, signal) in TRANSITIONS:
            assert lane._move(signal, 0.0).new is TRANSITIONS[state, signal]
        else:
            with pytest.raises(IllegalTransition):
                lane._move(signal, 0.0)


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["begin", "pass", "fail", "park", "unproven", "late", "resume"]),
        st.floats(0, 400),
        st.floats(0, 1, exclude_max=True),
        st.one_of(st.none(), st.floats(0, 3600)),
    ),
    max_size=60,
)


@settings(max_examples=300)
@given(STEPS)
def test_any_order_of_answers_keeps_the_lane_in_its_table(steps: list[tuple[str, float, float, float | None]]) -> None:
    lane = make()
    now, open_epochs = 0.0, [0]
    for action, seconds, jitter, after in steps:
        now += seconds
        epoch = open_epochs[-1] if action != "late" else open_epochs[0]
        match action:
            case "begin":
                if lane.due(now) or lane.room(0):
                    open_epochs.append(lane.begin(now))
            case "pass":
                lane.passed(epoch, now=now)
            case "fail" | "late":
                lane.failed(epoch, cause="x", now=now, jitter=jitter, retry_after_s=after)
            case "park":
                lane.park(epoch, cause="x", now=now, jitter=jitter, retry_after_s=after)
            case "unproven":
                lane.unproven(epoch, now=now, jitter=jitter)
            case "resume":
                lane.resume(now)
        waiting = lane.state in (State.BACKING_OFF, State.PARKED)
        assert (lane.next_at is not None) == waiting
        assert lane.next_at is None or lane.next_at <= now + 3600
        assert (lane.parked is not None) <= (lane.state in (State.PARKED, State.PROBING))
        assert bool(lane.room(0)) == (lane.state is State.FLOWING)


def test_parked_delay_is_spread_by_a_tenth() -> None:
    assert parked_delay(0, 0.0) == 54.0
    assert parked_delay(99, 0.0) == 810.0


def test_a_lane_stands_parked_since_it_was_parked_however_often_it_is_probed() -> None:
    lane = make()
    assert lane.standing_since == 0.0
    fail(lane, 5.0)
    assert lane.standing_since == 5.0
    lane.failed(lane.begin(9.0), cause="503", now=9.0, jitter=0.5)
    assert lane.standing_since == 5.0, "the second failure of one outage"
    lane.park(lane.begin(30.0), cause="401", now=31.0, jitter=0.5)
    lane.park(lane.begin(90.0), cause="401", now=91.0, jitter=0.5)
    assert lane.standing_since == 31.0
    lane.passed(lane.begin(200.0), now=201.0)
    assert lane.standing_since == 201.0
