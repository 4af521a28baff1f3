"""A real daemon, a real stand-in, and between them a proxy that does everything that a network or a vendor can do."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from signal import SIGTERM

import pytest

from tests.acceptance.conftest import KEY, Client
from tests.support.account import Account
from tests.support.clients import Numbered
from tests.support.processes import Daemon, ReceiverProcess
from tests.support.proxy import Mode, ProxyThread

HOSTILE = [mode for mode in Mode if mode is not Mode.FAITHFUL]
HARMLESS = {Mode.TRICKLE, Mode.CLOSE_AFTER_ANSWER, Mode.TRUNCATED_ANSWER, Mode.HUGE_ANSWER}
"""The status arrives, and the status decides."""
MIB = 1024 * 1024
PADDING = 1800

CONFIG = """
[listen]
http = ["$HTTP"]
udp = []
admin = "$ADMIN"

[spool]
directory = "$SPOOL"
min_free = "1MiB"

[destinations.telemetrydeck]
kind = "telemetrydeck"
url = "$UPSTREAM"
flush = { interval = "50ms" }
timeout = "$TIMEOUT"
retry = { initial = "$INITIAL", max = "$MAX" }

[destinations.encharge]
kind = "encharge"
url = "$UPSTREAM/v1"
write_key = { file = "$KEYFILE" }
timeout = "$TIMEOUT"
retry = { initial = "$INITIAL", max = "$MAX" }

[drain]
timeout = "5s"
"""


@pytest.fixture
def proxy(receiver: ReceiverProcess) -> Iterator[ProxyThread]:
    with ProxyThread(receiver.port) as thread:
        yield thread


def daemon_behind(
    proxy: ProxyThread, directory: Path, key_file: Path, *, timeout: str, initial: str, longest: str
) -> Daemon:
    return Daemon(
        directory, CONFIG, UPSTREAM=proxy.url, KEYFILE=key_file, TIMEOUT=timeout, INITIAL=initial, MAX=longest
    )


def test_whatever_the_network_does_every_event_arrives_or_is_dead_with_a_reason(
    tmp_path: Path, key_file: Path, receiver: ReceiverProcess, proxy: ProxyThread, client: Client
) -> None:
    with daemon_behind(proxy, tmp_path, key_file, timeout="500ms", initial="40ms", longest="200ms") as daemon:
        account = Account(daemon, receiver, client(daemon.http))
        for round_, mode in enumerate(HOSTILE):
            before, began = proxy.attempts, time.monotonic()
            proxy.misbehave(mode)
            account.send(round_ * 1000, signals=40, events=6)
            if mode in HARMLESS:
                account.wait()
            else:
                proxy.wait_for_attempts(before + 4)
            made, took = proxy.attempts - before, time.monotonic() - began
            assert made <= 60 + 60 * took, f"{mode}: {made} requests in {took:.1f} s"
            proxy.misbehave(Mode.FAITHFUL)
            account.wait()
        assert set(account.dead().values()) <= {"ambiguous"}
        assert account.balanced()
        assert daemon.running
        assert not [line for line in daemon.lines if "Traceback" in line or "lane_crashed" in line]


def test_p8_an_encharge_event_without_an_answer_is_sent_at_most_max_ambiguous_times(
    tmp_path: Path, key_file: Path, receiver: ReceiverProcess, proxy: ProxyThread, client: Client
) -> None:
    proxy.misbehave(Mode.RESET_AFTER_REQUEST)
    with daemon_behind(proxy, tmp_path, key_file, timeout="1s", initial="20ms", longest="50ms") as daemon:
        account = Account(daemon, receiver, client(daemon.http))
        account.send(0, signals=0, events=5)
        account.wait()
        arrived = [Numbered.of(row.event) for row in receiver.events()]
        assert account.dead() == dict.fromkeys(range(5), "ambiguous")
        assert {n: arrived.count(n) for n in range(5)} == dict.fromkeys(range(5), 3)
        assert daemon.metrics()['forwarder_ambiguous_requests_total{destination="encharge"}'] == 15
        assert account.balanced()


def test_a_destination_that_hangs_does_not_slow_the_other_one_or_the_door(
    tmp_path: Path, key_file: Path, receiver: ReceiverProcess, client: Client
) -> None:
    receiver.order({"hang": "after-body", "vendor": "encharge"})
    with ProxyThread(receiver.port) as straight:
        daemon = daemon_behind(straight, tmp_path, key_file, timeout="30s", initial="40ms", longest="200ms")
        with daemon:
            account = Account(daemon, receiver, client(daemon.http))
            account.send(0, signals=0, events=20)
            straight.wait_for_attempts(1)
            account.send(1000, signals=500, events=0)
            receiver.wait_for_numbers(range(1000, 1500))
            lanes = {one["name"]: one["lane"] for one in daemon.status()["destinations"]}
            assert lanes["encharge"]["in_flight"] >= 1
            assert lanes["telemetrydeck"]["state"] == "flowing"
            receiver.order()
            account.wait()


@pytest.mark.prove
@pytest.mark.timeout(400)
@pytest.mark.parametrize("mode", HOSTILE, ids=lambda mode: mode.name.lower())
def test_a_long_hostile_time_costs_few_requests_and_no_memory(
    tmp_path: Path, key_file: Path, receiver: ReceiverProcess, proxy: ProxyThread, client: Client, *, mode: Mode
) -> None:
    with daemon_behind(proxy, tmp_path, key_file, timeout="1s", initial="250ms", longest="2s") as daemon:
        account = Account(daemon, receiver, client(daemon.http))
        account.send(0, signals=2000, events=50, padding=PADDING)
        account.wait()
        memory, before, began = daemon.rss_bytes, proxy.attempts, time.monotonic()
        proxy.misbehave(mode)
        for step in range(1, 26):
            account.send(step * 10_000, signals=2000, events=10, padding=PADDING)
            if mode in HARMLESS:
                account.wait()
            else:
                proxy.wait_for_attempts(before + step)
        made, took = proxy.attempts - before, time.monotonic() - began
        if mode not in HARMLESS:
            # Per lane: full jitter waits half of the longest delay on average, or the time-out of a request.
            assert made <= 40 + 2 * 4 * took, f"{made} requests in {took:.0f} s"
        assert daemon.rss_bytes - memory < 48 * MIB, "the backlog of 90 MiB is on disk"
        proxy.misbehave(Mode.FAITHFUL)
        account.wait(timeout_s=180)
        assert set(account.dead().values()) <= {"ambiguous"}
        assert account.balanced()
        assert json.dumps(daemon.status())
        assert KEY not in "\n".join(daemon.lines)


def test_a_second_sigterm_ends_at_once_and_corrupts_nothing(
    daemon: Daemon, receiver: ReceiverProcess, client: Client
) -> None:
    text = daemon.config.read_text().replace('timeout = "5s"', 'timeout = "10m"')
    daemon.config.write_text(text)
    daemon.restart()
    receiver.order({"hang": "after-body"})
    poster = client(daemon.http)
    poster.post("/v2/", range(100))
    poster.post_body("/events", b"\n".join(map(Numbered.encharge, range(100, 105))), range(100, 105))
    daemon.signal(SIGTERM)
    daemon.wait_for_line(lambda line: '"stopping"' in line)
    assert daemon.terminate() == 0, "far sooner than the time that a drain may take"

    receiver.order()
    daemon.start()
    receiver.wait_for_numbers(range(105))
    account = Account(daemon, receiver, poster)
    account.sent = set(range(105))
    account.wait()
    assert account.balanced()
