"""Receipts for humans: what a daemon logs of its deliveries, line by line."""

import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.conftest import KEY, Client
from tests.support.clients import Numbered
from tests.support.configs import BOTH
from tests.support.processes import Daemon, ReceiverProcess

EPISODE = ("delivery_failing", "delivery_recovered", "delivery_parked")


def requests(daemon: Daemon, **labels: str) -> float:
    wanted = [f'{name}="{value}"' for name, value in labels.items()]
    found = [(name, n) for name, n in daemon.metrics().items() if name.startswith("forwarder_requests_total")]
    return sum(n for name, n in found if all(part in name for part in wanted))


def until(condition: Callable[[], bool]) -> None:
    """Look at another process until it shows something."""
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, "it never came about"
        time.sleep(0.05)


def of(daemon: Daemon, destination: str, event: str) -> list[dict[str, Any]]:
    return [record for record in daemon.logged(event) if record["destination"] == destination]


@pytest.fixture(params=["debug", "info"])
def level(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def talker(tmp_path: Path, key_file: Path, receiver: ReceiverProcess, level: str) -> Iterator[Daemon]:
    config = f'{BOTH}\n[log]\nlevel = "{level}"\n'
    with Daemon(tmp_path, config, UPSTREAM=receiver.url, KEYFILE=key_file) as daemon:
        yield daemon


def test_a_batch_is_one_line_at_debug_and_none_above(
    talker: Daemon, receiver: ReceiverProcess, client: Client, level: str
) -> None:
    poster = client(talker.http)
    poster.post("/v2/", range(250))
    poster.post_body("/events", b"\n".join(map(Numbered.encharge, range(250, 257))), range(250, 257))
    receiver.wait_for_numbers(range(257))
    metrics = requests(talker)
    assert talker.terminate() == 0
    lines = talker.logged("request")
    if level == "info":
        assert lines == []
        return
    assert len(lines) == metrics, "one a request"
    assert {(line["level"], line["status"]) for line in lines} == {("debug", "200")}
    for name, events in (("telemetrydeck", 250), ("encharge", 7)):
        assert sum(line["events"] for line in lines if line["destination"] == name) == events
    assert not [line for line in talker.lines if "someone@example.com" in line or KEY in line], "no payload, no key"


def test_an_outage_is_one_line_when_it_begins_and_one_with_totals_when_it_ends(
    talker: Daemon, receiver: ReceiverProcess, client: Client, level: str
) -> None:
    poster = client(talker.http)
    for outage in range(2):
        receiver.order({"status": 503, "requests": 8})
        poster.post("/v2/", range(outage * 100, outage * 100 + 100))
        receiver.wait_for_numbers(range(outage * 100, outage * 100 + 100))
        until(lambda n=outage: len(of(talker, "telemetrydeck", "delivery_recovered")) > n)  # type: ignore[misc]
    failing, recovered = (of(talker, "telemetrydeck", event) for event in EPISODE[:2])
    assert len(failing) == len(recovered) == 2
    for line in failing:
        assert (line["level"], line["reason"]) == ("warning", "503")
        assert line["retry_in_s"] >= 0
    for line in recovered:
        assert (line["level"], line["after"]) == ("info", "503")
        assert line["outage_s"] > 0
    assert sum(line["failed_requests"] for line in recovered) == 16 == requests(talker, status="503")
    assert of(talker, "telemetrydeck", "delivery_parked") == []
    assert_every_change_of_state_is_told(talker, level)


def test_a_parking_is_one_line_at_error_and_one_with_totals_when_it_ends(
    talker: Daemon, receiver: ReceiverProcess, client: Client, key_file: Path, level: str
) -> None:
    poster = client(talker.http)
    poster.post("/v1", [0], Numbered.encharge)
    receiver.wait_for_numbers([0])
    receiver.order({"status": 401, "vendor": "encharge"})
    poster.post("/v1", [1], Numbered.encharge)
    talker.wait_for_line(lambda line: "delivery_parked" in line)
    for wrong in ("wrong", "wrong again"):
        before = requests(talker, destination="encharge")
        key_file.write_text(wrong)
        until(lambda n=before: requests(talker, destination="encharge") > n)  # type: ignore[misc]
    receiver.order()
    key_file.write_text(KEY)
    receiver.wait_for_numbers([0, 1])
    talker.wait_for_line(lambda line: "delivery_recovered" in line)
    (parked,), (recovered,) = (of(talker, "encharge", event) for event in ("delivery_parked", "delivery_recovered"))
    assert parked["level"] == "error"
    assert "destinations.encharge.write_key" in parked["reason"]
    assert (recovered["level"], recovered["outage_s"] > 0) == ("info", True)
    assert recovered["failed_requests"] == requests(talker, status="401")
    assert_every_change_of_state_is_told(talker, level)


def assert_every_change_of_state_is_told(daemon: Daemon, level: str) -> None:
    """At debug each one; an episode of a thousand probes must not be two thousand lines at info."""
    moves = daemon.logged("lane_moved")
    if level == "info":
        assert moves == []
        return
    for name in ("telemetrydeck", "encharge"):
        states = [(move["old"], move["new"]) for move in moves if move["destination"] == name]
        assert all(before[1] == after[0] for before, after in pairwise(states)), "none is left out"
        if states:
            assert states[0][0] == states[-1][1] == "flowing"
    assert [move for move in moves if move["new"] == "probing"]
