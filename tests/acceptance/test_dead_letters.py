"""Dead letters as an operator meets them: real daemon, real stand-in, real command line, real kills."""

import json
import math
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from forwarder.spool import dead_letter_line
from forwarder.spool.dead_letter_match import Match
from tests.acceptance.conftest import BOTH, Client
from tests.support.clients import Numbered
from tests.support.processes import DAEMON, Daemon, ReceiverProcess

STRACE = ("strace", "-D", "-f", "-qq", "-o", "/dev/null", "-e", "trace=fsync")
needs_strace = pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")


def dead(daemon: Daemon, *arguments: str) -> str:
    """Run `forwarder dead …`; return what it printed."""
    command = [sys.executable, "-m", "forwarder", "dead", *arguments, "--config", str(daemon.config)]
    found = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert found.returncode == 0, found.stderr
    return found.stdout


def listed(daemon: Daemon, name: str, *arguments: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in dead(daemon, "ls", name, "--json", *arguments).splitlines()]


def of(daemon: Daemon, name: str) -> dict[str, Any]:
    return next(found for found in daemon.status()["destinations"] if found["name"] == name)


def until(condition: Callable[[], bool], timeout_s: float = 30.0) -> None:
    """Look at another process until it shows something."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it never came about"
        time.sleep(0.05)


def signals(numbers: range, **types: str) -> bytes:
    """Return a body in which single events have another type: `n7="bad"`."""
    events = [Numbered.telemetrydeck(n) for n in numbers]
    for name, word in types.items():
        at = int(name[1:])
        events[at] = events[at].replace(b'"numbered"', b'"%s"' % word.encode())
    return b"[" + b",".join(events) + b"]"


def test_dead_letters_are_found_mended_replayed_and_purged_and_the_books_balance(
    daemon: Daemon, receiver: ReceiverProcess, client: Client
) -> None:
    receiver.order({"refuse_types": ["bad", "worse", "worst"], "refuse_status": 422})
    client(daemon.http).post_body("/v2/", signals(range(60), n5="bad", n6="worse", n7="bad", n8="worst"), range(60))
    until(lambda: of(daemon, "telemetrydeck")["spool"]["ledger"]["died"] == 4)

    letters = listed(daemon, "telemetrydeck")
    by_number = {Numbered.of(json.dumps(one["event"]).encode()): one for one in letters}
    assert sorted(by_number) == [5, 6, 7, 8]
    assert {one["status"] for one in letters} == {422}
    assert len(listed(daemon, "telemetrydeck", "--type", "bad")) == 2
    assert len(listed(daemon, "telemetrydeck", "--where", "payload.number=6")) == 1
    assert listed(daemon, "telemetrydeck", "--status", "400") == []
    assert len(listed(daemon, "telemetrydeck", "--since", "1h", "--reason", "refused")) == 4
    one = by_number[6]["sequence"]
    assert '"worse"' in dead(daemon, "show", "telemetrydeck", str(one))

    assert "2 dead letters" in dead(daemon, "replay", "telemetrydeck", "--type", "bad", "--dry-run")
    (path,) = dead_letter_line.paths(daemon.spool / "dead" / "telemetrydeck")
    subprocess.run(["sed", "-i", 's/"worse"/"mended"/', str(path)], check=True)
    receiver.order({"refuse_types": ["worst"], "refuse_status": 422})
    assert "2 dead letters" in dead(daemon, "replay", "telemetrydeck", "--type", "bad", "--rate", "50")
    assert "1 dead letters" in dead(daemon, "replay", "telemetrydeck", "--sequence", str(one), "--keep-age")
    receiver.wait_for_numbers({*range(60)} - {8})
    assert "1 dead letters" in dead(daemon, "purge", "telemetrydeck", "--where", "payload.number=8", "--yes")

    found = of(daemon, "telemetrydeck")
    assert found["dead_letters"]["present"] == 0
    assert (found["dead_letters"]["replayed"], found["dead_letters"]["purged"]) == (3, 1)
    assert found["spool"]["ledger"]["died"] == 4
    assert found["spool"]["imbalance"] == found["dead_letter_imbalance"] == 0
    assert daemon.metrics()['forwarder_replayed_events_total{destination="telemetrydeck"}'] == 3


def test_p4_bisection_over_sockets_keeps_its_bound_and_costs_the_good_nothing(
    daemon: Daemon, receiver: ReceiverProcess, client: Client
) -> None:
    receiver.order({"refuse_types": ["bad"], "refuse_status": 400})
    client(daemon.http).post_body("/v2/", signals(range(100), n17="bad", n58="bad", n59="bad"), range(100))
    receiver.wait_for_numbers({*range(100)} - {17, 58, 59})
    until(lambda: of(daemon, "telemetrydeck")["dead_letters"]["present"] == 3)

    requests = sum(daemon.metrics().get(_requests("telemetrydeck", status), 0) for status in ("200", "400"))
    assert requests <= 2 * 3 * math.ceil(math.log2(100)) + 1
    arrived = [Numbered.of(row.event) for row in receiver.events()]
    assert len(arrived) == len(set(arrived)) == 97


def test_p4_an_event_that_always_gets_a_500_becomes_poison_and_the_others_arrive(
    tmp_path: Path, daemon: Daemon, receiver: ReceiverProcess, client: Client, key_file: Path
) -> None:
    assert daemon.terminate() == 0
    quick = BOTH.replace('"100ms", max = "500ms"', '"10ms", max = "20ms"')
    with Daemon(tmp_path, quick, UPSTREAM=receiver.url, KEYFILE=key_file) as hasty:
        receiver.order({"refuse_types": ["bad"], "refuse_status": 500})
        poster = client(hasty.http)
        poster.post_body("/v2/", signals(range(40), n11="bad"), range(40))
        bad = Numbered.encharge(1000, person="bad@example.com").replace(b'"numbered"', b'"bad"')
        poster.post_body("/events", bad, [1000])
        expected = {*range(40)} - {11}
        for round_ in range(200):  # others must succeed meanwhile: only that shows that the event is to blame
            numbers = [2000 + 2 * round_, 2001 + 2 * round_]
            poster.post("/v2/", numbers[:1])
            poster.post("/v1", numbers[1:], Numbered.encharge)
            expected |= set(numbers)
            receiver.wait_for_numbers(expected)
            if all(of(hasty, name)["dead_letters"]["present"] for name in ("telemetrydeck", "encharge")):
                break
        for name in ("telemetrydeck", "encharge"):
            (letter,) = listed(hasty, name)
            assert (letter["reason"], letter["status"]) == ("poison", 500)
            assert letter["attempts"] >= 10
            assert of(hasty, name)["lane"]["state"] == "flowing"


@needs_strace
def test_a_kill_between_a_dead_letter_and_its_ack_sends_nothing_again(
    tmp_path: Path, daemon: Daemon, receiver: ReceiverProcess, client: Client
) -> None:
    letters = daemon.spool / "dead" / "telemetrydeck"
    assert daemon.terminate() == 0
    receiver.order({"refuse_types": ["bad"], "refuse_status": 400})
    traced = Daemon(tmp_path, daemon.config.read_text(), command=(*_killed_at(letters / f"{1:012d}.ndjson"), *DAEMON))
    traced.http, traced.admin = daemon.http, daemon.admin
    with traced:
        client(daemon.http).post_body("/v2/", signals(range(30), n4="bad"), range(30))
        traced.wait()
    assert [Numbered.of(one.event) for one in dead_letter_line.read(letters, Match())] == [4], "written, not acked"

    receiver.order()
    daemon.start()
    receiver.wait_for_numbers({*range(30)} - {4})
    client(daemon.http).post("/v2/", [100])
    receiver.wait_for_numbers([100])
    found = of(daemon, "telemetrydeck")
    assert 4 not in receiver.numbers()
    assert found["spool"]["ledger"]["died"] == found["dead_letters"]["present"] == 1
    assert found["spool"]["imbalance"] == found["dead_letter_imbalance"] == 0


@needs_strace
def test_a_replay_killed_half_way_loses_and_doubles_nothing(
    tmp_path: Path, daemon: Daemon, receiver: ReceiverProcess, client: Client
) -> None:
    receiver.order({"refuse_types": ["numbered"], "refuse_status": 400, "requests": 200}, {})
    poster = client(daemon.http)
    for n in range(15):
        poster.post("/v1", [n], lambda n: Numbered.encharge(n, person=f"p{n}@example.com"))
    until(lambda: of(daemon, "encharge")["dead_letters"]["present"] == 15)
    receiver.order({"status": 503})
    assert daemon.terminate() == 0
    totals = daemon.spool / "dead" / "encharge" / ".totals.json.new"
    traced = Daemon(tmp_path, daemon.config.read_text(), command=(*_killed_at(totals), *DAEMON))
    traced.http, traced.admin = daemon.http, daemon.admin
    with traced:
        command = [sys.executable, "-m", "forwarder", "dead", "replay", "encharge", "--all"]
        subprocess.run([*command, "--config", str(daemon.config)], capture_output=True, timeout=60, check=False)
        traced.wait()

    daemon.start()
    found = of(daemon, "encharge")
    assert found["dead_letters"]["replayed"] + found["dead_letters"]["present"] == 15
    assert found["spool"]["queued_events"] == found["dead_letters"]["replayed"]
    assert found["spool"]["imbalance"] == found["dead_letter_imbalance"] == 0
    receiver.order()
    if found["dead_letters"]["present"]:
        dead(daemon, "replay", "encharge", "--all")
    receiver.wait_for_numbers(range(15))
    arrived = [Numbered.of(row.event) for row in receiver.events()]
    assert sorted(arrived) == list(range(15))


def _killed_at(*paths: Path) -> tuple[str, ...]:
    """Return a command that kills the daemon the moment it syncs one of these files."""
    watched = [word for path in paths for word in ("-P", str(path))]
    return (*STRACE, *watched, "-e", "inject=fsync:signal=KILL:when=1")


def _requests(name: str, status: str) -> str:
    return f'forwarder_requests_total{{destination="{name}",status="{status}"}}'
