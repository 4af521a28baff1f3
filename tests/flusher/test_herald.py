"""The lane's log: few lines, none of them missing at the end."""

from structlog.testing import capture_logs

from forwarder.core.lane.effect import Report
from forwarder.flusher.herald import Herald
from tests.support.hand_clock import HandClock


def failing(n: int = 0) -> Report:
    return Report("warning", "delivery_failing", {"n": n})


def recovered(n: int = 0) -> Report:
    return Report("info", "delivery_recovered", {"n": n})


def test_a_kind_of_line_comes_once_in_five_seconds_and_the_last_of_it_is_never_lost() -> None:
    clock = HandClock()
    with capture_logs() as lines:
        herald = Herald("td", clock)
        for n in range(100):
            herald.tell(failing(n))
        herald.tell_late()
        assert [line["n"] for line in lines] == [0]
        clock.advance(5.0)
        herald.tell_late()
        assert [(line["n"], line.get("suppressed")) for line in lines] == [(0, None), (99, 98)]
        clock.advance(5.0)
        herald.tell(failing(200))
    assert [(line["n"], line.get("suppressed")) for line in lines[2:]] == [(200, None)]


def test_an_outage_that_begins_right_after_another_one_is_told_and_stands_last() -> None:
    clock = HandClock()
    with capture_logs() as lines:
        herald = Herald("td", clock)
        for report in (failing(1), recovered(1), failing(2)):
            clock.advance(1.0)
            herald.tell(report)
        for _ in range(10):
            clock.advance(1.0)
            herald.tell_late()
    assert [(line["event"], line["n"]) for line in lines] == [
        ("delivery_failing", 1),
        ("delivery_recovered", 1),
        ("delivery_failing", 2),
    ]


def test_lines_that_come_late_keep_their_order() -> None:
    clock = HandClock()
    with capture_logs() as lines:
        herald = Herald("td", clock)
        herald.tell(recovered(0))
        clock.advance(3.0)
        herald.tell(failing(1))
        for report in (recovered(1), failing(2), recovered(2)):
            clock.advance(0.5)
            herald.tell(report)
        clock.advance(2.0)
        herald.tell_late()
        assert len(lines) == 2, "the failure may not be told yet, so its end must wait"
        herald.tell_late(all_=True)
    assert [(line["event"], line["n"]) for line in lines[2:]] == [("delivery_failing", 2), ("delivery_recovered", 2)]
    assert [line.get("suppressed") for line in lines[2:]] == [None, 1]
