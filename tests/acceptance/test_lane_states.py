"""What `/status`, `/metrics` and `forwarder status` say of a lane is what it does: each state over a real daemon."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from signal import SIGHUP
from typing import Any

import pytest

from tests.acceptance.conftest import Client
from tests.support.clients import Numbered, Poster
from tests.support.configs import BOTH
from tests.support.processes import DAEMON, Daemon, ReceiverProcess

STATES = ("flowing", "backing_off", "probing", "parked", "stopped")
PATIENT = BOTH.replace('"100ms", max = "500ms"', '"1h", max = "1h"')
"""Whatever fails is not tried again by itself while a test lasts."""


class Bench:
    """Encharge is put into a state; TelemetryDeck shows that time has passed and the daemon works."""

    def __init__(self, daemon: Daemon, receiver: ReceiverProcess, poster: Poster) -> None:
        self.daemon = daemon
        self.receiver = receiver
        self.poster = poster
        self.sent: list[int] = []
        self._numbers = count(1)

    def post(self, events: int = 1) -> None:
        for number in [next(self._numbers) for _ in range(events)]:
            self.poster.post("/v1", [number], lambda n: Numbered.encharge(n, person=f"p{n}@example.com"))
            self.sent.append(number)

    def pass_time(self) -> None:
        """Return once a signal that was sent now has made its whole way: the lane next to it had its turns, too."""
        marker = 1_000_000 + next(self._numbers)
        self.poster.post("/v2/", [marker])
        self.receiver.wait_for_numbers([marker])

    def order(self, **fault: object) -> None:
        self.receiver.order({"vendor": "encharge", **fault})

    def resume(self) -> None:
        command = [sys.executable, "-m", "forwarder", "resume", "encharge", "--config", str(self.daemon.config)]
        subprocess.run(command, check=True, capture_output=True, timeout=30)

    @property
    def lane(self) -> dict[str, Any]:
        found: dict[str, Any] = next(one for one in self.daemon.status()["destinations"] if one["name"] == "encharge")[
            "lane"
        ]
        return found

    def until(self, condition: Callable[[dict[str, Any]], bool], timeout_s: float = 30.0) -> dict[str, Any]:
        """Look at the lane of another process until it shows something."""
        deadline = time.monotonic() + timeout_s
        while not condition(lane := self.lane):
            assert time.monotonic() < deadline, lane
            time.sleep(0.02)
        return lane

    def requests(self) -> float:
        """Return the requests to Encharge that have ended."""
        found = self.daemon.metrics().items()
        return sum(n for name, n in found if name.startswith('forwarder_requests_total{destination="encharge"'))

    def assert_everywhere(self, state: str) -> dict[str, Any]:
        """Assert that all three ways to look show the same state; return the lane."""
        command = [sys.executable, "-m", "forwarder", "status", "--json", "--config", str(self.daemon.config)]
        shown = json.loads(subprocess.run(command, check=True, capture_output=True, timeout=30).stdout)
        lane: dict[str, Any] = next(one["lane"] for one in shown["destinations"] if one["name"] == "encharge")
        metrics = self.daemon.metrics()
        gauges = {name: metrics[f'forwarder_lane_state{{destination="encharge",state="{name}"}}'] for name in STATES}
        assert gauges == {name: float(name == state) for name in STATES}
        assert lane["state"] == self.lane["state"] == state
        assert metrics['forwarder_in_flight_requests{destination="encharge"}'] == lane["in_flight"]
        return lane


@pytest.fixture
def bench(tmp_path: Path, key_file: Path, receiver: ReceiverProcess, client: Client) -> Iterator[Bench]:
    with Daemon(tmp_path, PATIENT, UPSTREAM=receiver.url, KEYFILE=key_file) as daemon:
        yield Bench(daemon, receiver, client(daemon.http))


def test_flowing_means_that_events_go_out(bench: Bench) -> None:
    bench.post(20)
    bench.receiver.wait_for_numbers(bench.sent)
    lane = bench.assert_everywhere("flowing")
    assert (lane["reason"], lane["next_try_at"], lane["last_error"]) == ("", None, None)
    assert lane["concurrency"] > 1, "widened by what succeeded"
    assert bench.requests() == 20


def test_backing_off_means_that_nothing_goes_out_before_the_next_try(bench: Bench) -> None:
    bench.order(status=503)
    bench.post()
    bench.until(lambda lane: lane["state"] == "backing_off")
    bench.post(5)
    bench.pass_time()
    lane = bench.assert_everywhere("backing_off")
    assert 300 < lane["next_try_at"] - time.time() <= 3601
    assert lane["reason"].startswith("after 503, next try in ")
    assert (lane["in_flight"], lane["concurrency"]) == (0, 0)
    assert bench.requests() == 1


def test_probing_means_one_request_and_no_other(bench: Bench) -> None:
    bench.order(status=503)
    bench.post()
    bench.until(lambda lane: lane["state"] == "backing_off")
    bench.order(hang="after-body")
    bench.resume()
    bench.until(lambda lane: lane["in_flight"] == 1)
    bench.post(5)
    bench.pass_time()
    lane = bench.assert_everywhere("probing")
    assert lane["reason"] == "after 503; one request is trying it"
    assert (lane["in_flight"], lane["next_try_at"]) == (1, None)
    assert bench.requests() == 1

    bench.receiver.order()  # which resets what hangs
    bench.until(lambda lane: lane["state"] == "backing_off")
    assert bench.requests() == 2
    bench.resume()
    bench.receiver.wait_for_numbers(bench.sent)
    bench.assert_everywhere("flowing")


def test_parked_means_that_events_are_kept_and_nothing_goes_out_before_the_next_gentle_try(bench: Bench) -> None:
    bench.order(status=401)
    bench.post()
    bench.until(lambda lane: lane["state"] == "parked")
    bench.post(5)
    bench.pass_time()
    lane = bench.assert_everywhere("parked")
    assert 30 < lane["next_try_at"] - time.time() <= 61
    assert "destinations.encharge.write_key" in lane["reason"]
    assert lane["in_flight"] == 0
    assert bench.requests() == 1
    assert len(bench.daemon.logged("delivery_parked")) == 1


def test_stopped_means_that_nothing_is_ever_sent(
    tmp_path: Path, key_file: Path, receiver: ReceiverProcess, client: Client
) -> None:
    command = (*DAEMON[:-1], "--dry-run", DAEMON[-1])
    with Daemon(tmp_path, PATIENT, command=command, UPSTREAM=receiver.url, KEYFILE=key_file) as daemon:
        bench = Bench(daemon, receiver, client(daemon.http))
        bench.post(5)
        lane = bench.assert_everywhere("stopped")
        assert lane["reason"].startswith("dry run")
        assert bench.requests() == 0
        assert receiver.counts()["requests"] == 0


# --- what ends a parking


def park(bench: Bench) -> None:
    bench.order(status=401)
    bench.post()
    bench.until(lambda lane: lane["state"] == "parked")
    bench.receiver.order()
    bench.post(3)
    bench.pass_time()
    assert bench.lane["state"] == "parked"


def assert_resumed(bench: Bench) -> None:
    bench.receiver.wait_for_numbers(bench.sent)
    bench.assert_everywhere("flowing")
    (parked,) = bench.daemon.logged("delivery_parked")
    (resumed,) = bench.daemon.logged("delivery_recovered")
    assert (parked["level"], resumed["level"]) == ("error", "info")
    assert "destinations.encharge.write_key" in parked["reason"]
    assert "forwarder resume" in parked["until"]


def test_p5_forwarder_resume_ends_a_parking(bench: Bench) -> None:
    park(bench)
    bench.resume()
    assert_resumed(bench)


def test_p5_a_reload_ends_a_parking(bench: Bench) -> None:
    park(bench)
    bench.daemon.signal(SIGHUP)
    assert_resumed(bench)


def test_p5_a_changed_secret_file_ends_a_parking(bench: Bench, key_file: Path) -> None:
    park(bench)
    key_file.write_text(key_file.read_text() + "\n\n")
    assert bench.lane["state"] == "parked", "the same key is no new key"
    key_file.write_text("another\n")  # which is wrong
    bench.until(lambda lane: lane["state"] == "parked" and bench.requests() == 2)
    key_file.write_text("acceptance-write-key-7d1f\n")
    assert_resumed(bench)


@pytest.mark.prove
@pytest.mark.timeout(300)
def test_p5_a_parking_ends_by_itself_once_a_probe_succeeds(bench: Bench) -> None:
    park(bench)
    bench.until(lambda lane: lane["state"] == "flowing", timeout_s=200)
    assert_resumed(bench)
