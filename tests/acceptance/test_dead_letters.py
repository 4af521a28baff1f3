"""Dead letters as an operator meets them: real daemon, real stand-in, real command line, real kills."""

import http.client
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
from tests.acceptance.conftest import Client
from tests.support.clients import Numbered
from tests.support.configs import BOTH
from tests.support.processes import DAEMON, Daemon, ReceiverProcess

STRACE = ("strace", "-D", "-f", "-qq", "-o", "/dev/null", "-e", "trace=fsync")
SMALL = 'dead_letters = { max_size = "64KiB" }\n\n[destinations.telemetrydeck]'
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
            assert poster.post("/v2/", numbers[:1]) == http.client.OK
            assert poster.post("/v1", numbers[1:], Numbered.encharge) == http.client.OK
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


@needs_strace
@pytest.mark.prove
@pytest.mark.timeout(300)
@pytest.mark.parametrize("call", ["fsync", "rename,renameat,renameat2", "unlink,unlinkat", "write,pwritev2"])
@pytest.mark.parametrize("when", [1, 2, 3, 5])
def test_wherever_a_replay_is_killed_nothing_is_lost_or_doubled(
    daemon: Daemon, receiver: ReceiverProcess, client: Client, *, call: str, when: int
) -> None:
    """SIGKILL at the n-th system call of one kind, from the moment on at which the replay begins."""
    receiver.order({"refuse_types": ["numbered"], "refuse_status": 400, "requests": 200}, {})
    poster = client(daemon.http)
    for n in range(15):
        poster.post("/v1", [n], lambda n: Numbered.encharge(n, person=f"p{n}@example.com"))
    until(lambda: of(daemon, "encharge")["dead_letters"]["present"] == 15)
    receiver.order({"status": 503})
    tracer = subprocess.Popen(
        ["strace", "-f", "-qq", "-o", "/dev/null", "-p", str(daemon.pid), "-e", f"trace={call}"]
        + [word for path in _replay_files(daemon.spool) for word in ("-P", str(path))]
        + ["-e", f"inject={call}:signal=KILL:when={when}"],
        stderr=subprocess.DEVNULL,
    )
    until(lambda: "TracerPid:\t0" not in Path(f"/proc/{daemon.pid}/status").read_text())
    command = [sys.executable, "-m", "forwarder", "dead", "replay", "encharge", "--all"]
    subprocess.run([*command, "--config", str(daemon.config)], capture_output=True, timeout=60, check=False)
    tracer.terminate()
    tracer.wait(30)
    daemon.kill9()  # if it was not killed: a kill after the end of the replay

    daemon.start()
    found = of(daemon, "encharge")
    assert found["dead_letters"]["replayed"] + found["dead_letters"]["present"] == 15
    assert found["spool"]["imbalance"] == found["dead_letter_imbalance"] == 0
    receiver.order()
    if found["dead_letters"]["present"]:
        dead(daemon, "replay", "encharge", "--all")
    receiver.wait_for_numbers(range(15))
    until(lambda: of(daemon, "encharge")["spool"]["queued_events"] == 0)
    arrived = [Numbered.of(row.event) for row in receiver.events()]
    assert sorted(arrived) == list(range(15))


def test_a_replay_command_that_is_killed_half_way_can_be_run_again(
    daemon: Daemon, receiver: ReceiverProcess, client: Client
) -> None:
    receiver.order({"refuse_types": ["bad"], "refuse_status": 400})
    events = [Numbered.telemetrydeck(n) for n in range(60)]
    events[1::2] = [event.replace(b'"numbered"', b'"bad"') for event in events[1::2]]
    client(daemon.http).post_body("/v2/", b"[" + b",".join(events) + b"]", range(60))
    until(lambda: of(daemon, "telemetrydeck")["dead_letters"]["present"] == 30)
    receiver.order()
    command = [sys.executable, "-m", "forwarder", "dead", "replay", "telemetrydeck", "--all", "--rate", "5"]
    running = subprocess.Popen([*command, "--config", str(daemon.config)], stdout=subprocess.DEVNULL)
    until(lambda: of(daemon, "telemetrydeck")["dead_letters"]["replayed"] > 0)
    running.kill()
    running.wait(30)
    assert of(daemon, "telemetrydeck")["dead_letters"]["present"] > 0, "killed half-way"

    dead(daemon, "replay", "telemetrydeck", "--all")
    receiver.wait_for_numbers(range(60))
    assert sorted(Numbered.of(row.event) for row in receiver.events()) == list(range(60))
    found = of(daemon, "telemetrydeck")
    assert (found["dead_letters"]["replayed"], found["dead_letter_imbalance"]) == (30, 0)


@pytest.mark.parametrize(
    "editor", ["new file, line ends of Windows", "in place, no last line end", "new file, byte order mark"]
)
def test_after_an_edit_in_any_editor_a_file_is_replayed_as_it_is_now(
    daemon: Daemon, receiver: ReceiverProcess, client: Client, editor: str
) -> None:
    receiver.order({"refuse_types": ["bad"], "refuse_status": 400})
    client(daemon.http).post_body("/v2/", signals(range(20), n3="bad", n7="bad", n9="bad"), range(20))
    until(lambda: of(daemon, "telemetrydeck")["dead_letters"]["present"] == 3)
    (path,) = dead_letter_line.paths(daemon.spool / "dead" / "telemetrydeck")
    text = path.read_bytes().replace(b'"bad"', b'"mended"')
    if editor.startswith("in place"):
        path.write_bytes(text.removesuffix(b"\n"))
    else:
        other = path.with_name("edited~")
        other.write_bytes(text.replace(b"\n", b"\r\n") if "Windows" in editor else b"\xef\xbb\xbf" + text)
        other.rename(path)
    # A letter that dies after the edit is written to the directory, not to a file that has no name any more.
    client(daemon.http).post_body("/v2/", signals(range(20, 40), n5="bad"), range(20, 40))
    until(lambda: of(daemon, "telemetrydeck")["dead_letters"]["present"] == 4)
    assert "3 dead letters" in dead(daemon, "replay", "telemetrydeck", "--type", "mended")
    receiver.wait_for_numbers({*range(40)} - {25})
    assert [Numbered.of(json.dumps(one["event"]).encode()) for one in listed(daemon, "telemetrydeck")] == [25]
    found = of(daemon, "telemetrydeck")
    assert (found["dead_letters"]["replayed"], found["dead_letters"]["purged"]) == (3, 0)
    assert found["spool"]["imbalance"] == found["dead_letter_imbalance"] == 0


def test_what_the_size_limit_takes_away_counts_as_purged(
    tmp_path: Path, daemon: Daemon, receiver: ReceiverProcess, client: Client
) -> None:
    assert daemon.terminate() == 0
    text = daemon.config.read_text().replace("[destinations.telemetrydeck]", SMALL, 1)
    receiver.order({"refuse_types": ["bad"], "refuse_status": 400})
    small = Daemon(tmp_path, text)
    small.http, small.admin = daemon.http, daemon.admin
    with small:
        bad = [Numbered.telemetrydeck(n, padding=8000).replace(b'"numbered"', b'"bad"') for n in range(40)]
        good = [Numbered.telemetrydeck(n) for n in range(100, 140)]
        mixed = [event for pair in zip(good, bad, strict=True) for event in pair]
        client(small.http).post_body("/v2/", b"[" + b",".join(mixed) + b"]", [])
        until(lambda: of(small, "telemetrydeck")["spool"]["ledger"].get("died", 0) == 40)
        found = of(small, "telemetrydeck")
        letters = found["dead_letters"]
        assert letters["purged"] > 0
        assert letters["bytes"] <= 64 * 1024
        assert letters["present"] + letters["purged"] == 40
        assert len(listed(small, "telemetrydeck")) == letters["present"]
        assert found["dead_letter_imbalance"] == 0
        assert sum(line["count"] for line in small.logged("dead_letters_purged")) == letters["purged"]
        receiver.wait_for_numbers(range(100, 140))


def _replay_files(spool: Path) -> list[Path]:
    """Return what a replay touches: announcement, letters, totals, and the spool's segments."""
    dead_ = spool / "dead" / "encharge"
    names = ("replay.json", ".replay.json.new", "totals.json", ".totals.json.new", f"{1:012d}.ndjson")
    return [
        *(dead_ / name for name in (*names, f".{1:012d}.ndjson.new")),
        dead_,
        *spool.glob("spool/encharge/*.segment"),
    ]


def _killed_at(*paths: Path) -> tuple[str, ...]:
    """Return a command that kills the daemon the moment it syncs one of these files."""
    watched = [word for path in paths for word in ("-P", str(path))]
    return (*STRACE, *watched, "-e", "inject=fsync:signal=KILL:when=1")


def _requests(name: str, status: str) -> str:
    return f'forwarder_requests_total{{destination="{name}",status="{status}"}}'
