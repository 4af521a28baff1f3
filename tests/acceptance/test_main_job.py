"""The main job, end to end: real processes, real sockets, real signals."""

import http.client
import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.acceptance.conftest import KEY, Client
from tests.support.clients import Numbered, Pounder, send_datagrams
from tests.support.processes import DAEMON, Daemon, ReceiverProcess


def balanced(daemon: Daemon) -> bool:
    return all(value == 0 for name, value in daemon.metrics().items() if name.startswith("forwarder_ledger_imbalance"))


def test_events_over_http_udp_and_both_unix_sockets_arrive_byte_for_byte(
    daemon: Daemon, receiver: ReceiverProcess, client: Client
) -> None:
    client(daemon.http).post("/v2/namespace/com.example/", range(10))
    client(f"{daemon.spool}.http.sock").post("/events", range(10, 20))
    send_datagrams(daemon.udp, map(Numbered.telemetrydeck, range(20, 30)))
    send_datagrams(f"{daemon.spool}.dgram.sock", map(Numbered.encharge, range(30, 40)))
    client(daemon.http).post("/v1", [40], Numbered.encharge)

    receiver.wait_for_numbers(range(41))

    built = {Numbered.telemetrydeck(n) for n in range(30)} | {Numbered.encharge(n) for n in range(30, 41)}
    assert {row.event for row in receiver.events()} == built
    assert balanced(daemon)


def test_p1_every_event_with_a_2xx_before_a_sigkill_arrives_after_the_restart(
    daemon: Daemon, receiver: ReceiverProcess
) -> None:
    acknowledged: set[int] = set()
    for life in range(3):
        pounders = [
            Pounder(daemon.http, path="/v2/", first=life * 10_000_000),
            Pounder(daemon.http, path="/v2/", first=life * 10_000_000 + 3_000_000, batch=1),
            Pounder(
                daemon.http,
                path="/v1",
                build=lambda n: Numbered.encharge(n, person=f"p{n % 7}@example.com"),
                first=life * 10_000_000 + 6_000_000,
                batch=1,
            ),
        ]
        for pounder in pounders:
            pounder.start()
        for pounder in pounders:
            pounder.wait_for_acknowledged(150)
        daemon.kill9()
        for pounder in pounders:
            acknowledged |= pounder.stop()
        daemon.start()

    receiver.wait_for_numbers(acknowledged)
    assert len(acknowledged) >= 3 * 3 * 150
    assert balanced(daemon)


def test_p8_after_a_sigkill_no_more_arrives_twice_than_was_in_flight(
    daemon: Daemon, receiver: ReceiverProcess, client: Client
) -> None:
    poster = client(daemon.http)
    receiver.order({"latency": 0.2})
    for start in range(0, 2000, 100):
        assert poster.post("/v2/", range(start, start + 100)) == http.client.OK
    daemon.kill9()
    receiver.order()
    daemon.start()
    receiver.wait_for_numbers(range(2000))

    arrived = [Numbered.of(row.event) for row in receiver.events()]
    assert len(arrived) - len(set(arrived)) <= 4 * 100  # concurrency requests of max_events


def test_sigterm_drains_exits_0_and_what_could_not_go_out_does_so_after_the_next_start(
    daemon: Daemon, receiver: ReceiverProcess, client: Client
) -> None:
    client(daemon.http).post("/v2/", range(50))
    assert daemon.terminate() == 0
    assert receiver.numbers() == set(range(50)), "a drain sends what waits for the flush interval"

    daemon.start()
    receiver.order({"status": 503})
    client(daemon.http).post("/v2/", range(50, 100))
    assert daemon.terminate() == 0

    receiver.order()
    daemon.start()
    receiver.wait_for_numbers(range(100))
    assert balanced(daemon)


def test_while_the_vendor_is_down_neither_memory_nor_log_grows_with_the_backlog(
    daemon: Daemon, receiver: ReceiverProcess, client: Client
) -> None:
    receiver.kill9()
    poster = client(daemon.http)
    for start in range(0, 20_000, 500):
        poster.post("/v2/", range(start, start + 500), lambda n: Numbered.telemetrydeck(n, padding=500))
    before, logged = daemon.rss_bytes, len(daemon.lines)
    for start in range(20_000, 120_000, 500):
        poster.post("/v2/", range(start, start + 500), lambda n: Numbered.telemetrydeck(n, padding=500))

    assert len(poster.acknowledged) == 120_000
    assert daemon.rss_bytes - before < 24 * 1024 * 1024, "60 MiB more were queued"
    assert len(daemon.lines) - logged < 20

    receiver.start()
    receiver.wait_for_numbers(range(120_000), timeout_s=60)
    assert balanced(daemon)


def test_a_second_daemon_on_the_same_spool_says_who_holds_it_and_exits_5(daemon: Daemon) -> None:
    other = daemon.config.with_name("other.toml")
    text = daemon.config.read_text()
    for address in (daemon.http, daemon.admin):
        text = text.replace(f'"{address}"', '"127.0.0.1:0"')
    other.write_text(text)

    second = subprocess.run([*DAEMON, str(other)], capture_output=True, text=True, timeout=30, check=False)

    assert second.returncode == 5
    assert f"pid {daemon.pid}" in second.stderr


def test_p11_no_secret_is_in_a_log_a_metric_the_status_the_spool_or_a_dead_letter(
    daemon: Daemon, receiver: ReceiverProcess, client: Client
) -> None:
    presented = "presented-key-3c5e"
    receiver.order({"refuse_types": ["numbered"], "refuse_status": 400, "vendor": "encharge"})
    poster = client(daemon.http)
    assert poster.post(f"/v1/{presented}", [1], Numbered.encharge) == http.client.OK
    assert poster.post(f"/v1/{KEY}", [2], Numbered.encharge) == http.client.OK
    poster.post_body(f"/v1/{presented}", b'{"name": 1}', [])
    poster.post_body(f"/unknown/{presented}", b"{}", [])
    receiver.order()
    poster.post("/v1", [3], Numbered.encharge)
    receiver.wait_for_numbers([3])
    outputs = [daemon.get("/status")[1], daemon.get("/metrics")[1]]
    assert daemon.terminate() == 0

    outputs += ["\n".join(daemon.lines).encode()]
    outputs += [path.read_bytes() for path in daemon.spool.rglob("*") if path.is_file()]
    assert any(b"someone@example.com" in output for output in outputs), "the search looks into the spool"
    for secret in (presented.encode(), KEY.encode()):
        assert not [output[:200] for output in outputs if secret in output]


def test_p5_a_wrong_key_parks_the_destination_and_a_corrected_file_resumes_it(
    daemon: Daemon, receiver: ReceiverProcess, client: Client, key_file: Path
) -> None:
    key_file.write_text("wrong\n")
    daemon.restart()
    poster = client(daemon.http)
    poster.post("/v1", [1], Numbered.encharge)
    daemon.wait_for_line(lambda line: "parked" in line and '"error"' in line)
    poster.post("/v2/", [2])
    receiver.wait_for_numbers([2])  # the other destination goes on

    key_file.write_text(KEY + "\n")
    receiver.wait_for_numbers([1, 2])
    assert balanced(daemon)


def test_p7_the_events_of_one_person_arrive_in_order_while_the_vendor_fails_now_and_then(
    daemon: Daemon, receiver: ReceiverProcess, client: Client
) -> None:
    receiver.order({"fail_rate": 0.2, "vendor": "encharge"})
    people = ["a@example.com", "b@example.com", "c@example.com"]
    events = [Numbered.encharge(n, person=people[n % 3]) for n in range(150)]
    client(daemon.http).post_body("/events", b"\n".join(events), range(150))
    receiver.wait_for_numbers(range(20))
    receiver.order()
    receiver.wait_for_numbers(range(150))

    for person in range(3):
        arrived = [n for row in receiver.events() if (n := Numbered.of(row.event)) % 3 == person]
        assert list(dict.fromkeys(arrived)) == sorted(set(arrived))


def test_p4_a_poisonous_event_does_not_sink_its_batch(
    daemon: Daemon, receiver: ReceiverProcess, client: Client
) -> None:
    receiver.order({"refuse_types": ["poison"], "refuse_status": 400})
    good = [Numbered.telemetrydeck(n) for n in range(30)]
    bad = good[7].replace(b"numbered", b"poison").replace(b'"7"', b'"777"')
    client(daemon.http).post_body("/v2/", b"[" + b",".join([*good[:15], bad, *good[15:]]) + b"]", range(30))

    receiver.wait_for_numbers(range(30))
    dead = subprocess.run(
        [sys.executable, "-m", "forwarder", "dead", "ls", "telemetrydeck", "--config", str(daemon.config), "--json"],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert '"777"' not in json.dumps([row.event.decode() for row in receiver.events()])
    assert "refused" in dead.stdout
    assert balanced(daemon)


def test_a_dry_run_accepts_and_keeps_but_delivers_nothing(
    tmp_path: Path, daemon: Daemon, receiver: ReceiverProcess, client: Client
) -> None:
    assert daemon.terminate() == 0
    dry = Daemon(tmp_path, daemon.config.read_text(), command=(*DAEMON[:-1], "--dry-run", DAEMON[-1]))
    dry.http, dry.admin = daemon.http, daemon.admin
    with dry:
        assert client(dry.http).post("/v2/", range(5)) == http.client.OK
        assert dry.terminate() == 0
    assert receiver.numbers() == set()

    daemon.start()
    receiver.wait_for_numbers(range(5))


@pytest.mark.parametrize("command", ["run", "check"])
def test_no_configuration_is_exit_2_with_one_to_paste(tmp_path: Path, command: str) -> None:
    found = subprocess.run(
        [sys.executable, "-m", "forwarder", command],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert found.returncode == 2
    assert "[destinations." in found.stdout + found.stderr
