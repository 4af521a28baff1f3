"""What other programs print, read back: callgrind's dump, strace's summary, the daemon's metrics and status."""

import pytest

from benchmarks import callgrind, calls, udp
from benchmarks.udp import Outcome

STRACE = """\
% time     seconds  usecs/call     calls    errors syscall
------ ----------- ----------- --------- --------- ----------------
 60.00    0.600000           3    200000        12 read
 30.00    0.300000           6     50000           write
 10.00    0.100000         100      1000           futex
------ ----------- ----------- --------- --------- ----------------
100.00    1.000000           3    251000        12 total
"""
METRICS = """\
# TYPE forwarder_received_events_total counter
forwarder_received_events_total{listener="udp:127.0.0.1:8090"} 240.0
forwarder_received_events_total{listener="http:127.0.0.1:8080"} 2.0
forwarder_received_events_total_created{listener="udp:127.0.0.1:8090"} 1.7e9
forwarder_udp_kernel_drops_total{listener="udp:127.0.0.1:8090"} 16.0
"""


def test_the_total_of_a_dump_is_the_sum_over_all_functions() -> None:
    dump = "version: 1\nevents: Ir\nsummary: 7\n\nfn=(1) main\n3 5\n4 7\n\ntotals: 1333468\n"
    assert callgrind.total(dump) == 1_333_468


def test_a_dump_without_a_total_is_no_measurement() -> None:
    with pytest.raises(RuntimeError, match="no totals"):
        callgrind.total("version: 1\n")


def test_system_calls_are_read_with_and_without_errors_most_frequent_first() -> None:
    assert calls.counts(STRACE) == [("read", 200_000), ("write", 50_000), ("futex", 1_000)]


def test_received_events_and_drops_are_summed_over_listeners() -> None:
    assert udp.counts(METRICS) == (242, 16)


def outcome(dropped: int, buffer: int = 4_000) -> Outcome:
    return Outcome(sent=100, rate=udp.RATE, received=100 - dropped, dropped=dropped, core=0.9, buffer=buffer)


@pytest.mark.parametrize("drops", [(0, 7, 0, 0, 9), (0, 1), (3,)])
def test_a_drop_in_any_round_is_a_drop(drops: tuple[int, ...]) -> None:
    steady = [outcome(each) for each in drops]
    first, second, *_ = udp.rows(steady, [outcome(50)], limit=8_000)
    assert (first.demanded, first.reached) == ("0", False)
    assert second.reached is True
    assert ", ".join(map(str, drops)) in first.measured


def test_no_drop_in_any_round_is_the_demanded_figure_whatever_a_flood_drops() -> None:
    assert udp.rows([outcome(0), outcome(0)], [outcome(50)], limit=8_000)[0].reached is True


@pytest.mark.parametrize(("limit", "words"), [(4_000, "needs no privilege"), (3_999, "needs root or CAP_NET_ADMIN")])
def test_the_table_says_what_receive_buffer_was_granted_and_what_that_took(limit: int, words: str) -> None:
    measured = [row.measured for row in udp.rows([outcome(0)], [outcome(0, buffer=5_000)], limit=limit)]
    assert [each for each in measured if each.startswith(f"4,000 bytes granted, net.core.rmem_max {limit:,}")]
    assert [each for each in measured if each.endswith(words)]


def test_the_receive_buffer_is_the_udp_listeners() -> None:
    status = b'{"ready":true,"listeners":[{"kind":"http"},{"kind":"udp","receive_buffer":4194304,"note":""}]}'
    assert udp.buffer_in(status) == 4_194_304
