"""`forwarder receive` as a real process and its options one by one."""

import http.client
import json
import signal
import socket
import ssl
import sys
from pathlib import Path

import click
import pytest
import trustme
from click.testing import CliRunner

from forwarder.cli import receive as receive_module
from forwarder.cli.receive import receive
from forwarder.receiver import Faults, Receiver, Seen
from tests.support.clients import Numbered, Poster
from tests.support.processes import Process, ReceiverProcess

COMMAND = (sys.executable, "-m", "forwarder", "receive", "--http", "127.0.0.1:0")


def build(*arguments: str) -> Receiver:
    context = receive.make_context("receive", list(arguments))
    return receive_module._build(context.params, None)


def test_it_prints_its_address_a_line_a_request_and_the_totals_and_ends_with_0() -> None:
    with Process(COMMAND) as process:
        url = process.wait_for_line(lambda _: True).removeprefix("listening on ")
        with Poster(url) as poster:
            assert poster.post("/v2/", [1, 2]) == 200
            assert poster.post("/v4/", [3]) == 404
        line = process.wait_for_line(lambda line: "POST /v2/ " in line)
        assert "200  telemetrydeck  POST /v2/  2 events" in line
        assert "numbered ×2" in line
        assert process.terminate() == 0
        assert process.lines[-1] == "2 events in 2 requests: 2 telemetrydeck, 0 encharge"


def test_json_lines_are_printed_when_asked_for_and_sigint_ends_it_too() -> None:
    with Process([*COMMAND, "--json"]) as process:
        url = json.loads(process.wait_for_line(lambda _: True))["url"]
        with Poster(url) as poster:
            assert poster.post("/v2/", [1]) == 200
        record = json.loads(process.wait_for_line(lambda line: '"number"' in line))
        assert (record["status"], record["vendor"], record["events"]) == (200, "telemetrydeck", 1)
        process.signal(signal.SIGINT)
        assert process.wait() == 0


def test_what_was_stored_survives_a_kill_and_faults_change_at_run_time(tmp_path: Path) -> None:
    with (
        ReceiverProcess(tmp_path, "--store-bodies", str(tmp_path / "bodies")) as receiver,
        Poster(receiver.url) as poster,
    ):
        assert poster.post("/v2/", [1, 2]) == 200
        receiver.order({"status": 503, "requests": 1})
        assert [poster.post("/v2/", [3]), poster.post("/v2/", [4])] == [503, 200]
        assert receiver.counts()["events"] == 3
        receiver.kill9()
        assert receiver.exit_code == -signal.SIGKILL
        receiver.start()
        assert poster.post("/v2/", [5]) == 0  # the kept connection is gone
        assert poster.post("/v2/", [6]) == 200
        receiver.wait_for_numbers({1, 2, 4, 6})
        assert [row.event for row in receiver.events()] == [Numbered.telemetrydeck(n) for n in (1, 2, 4, 6)]
    assert len(list((tmp_path / "bodies").iterdir())) == 4
    assert poster.unanswered == {5}
    assert (poster.acknowledged, poster.refused) == ({1, 2, 4, 6}, {3})


def test_it_speaks_https_with_a_certificate_of_its_own(tmp_path: Path) -> None:
    authority = trustme.CA()
    pem = tmp_path / "cert.pem"
    authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(pem)
    trusted = ssl.create_default_context()
    authority.configure_trust(trusted)
    with Process([*COMMAND, "--tls-cert", str(pem)]) as process:
        port = int(process.wait_for_line(lambda line: "https://127.0.0.1:" in line).rpartition(":")[2])
        connection = http.client.HTTPSConnection("localhost", port, context=trusted, timeout=10)
        connection.request("GET", "/_receiver")
        assert connection.getresponse().status == 200
        connection.close()


@pytest.mark.parametrize(
    ("arguments", "order"),
    [
        ("--status 503 --retry-after 5 --for 3", Faults(status=503, retry_after="5", requests=3)),
        ("--fail-rate 0.2 --fail-status 500", Faults(fail_rate=0.2, fail_status=500)),
        ("--latency 200ms", Faults(latency=0.2)),
        ("--refuse-type A --refuse-type B", Faults(refuse_types=("A", "B"))),
        ("--refuse-user u --refuse-status 422", Faults(refuse_users=("u",), refuse_status=422)),
        ("--refuse-app a --answer nope", Faults(refuse_apps=("a",), answer="nope")),
        ("--reset after-storing", Faults(reset="after-storing")),
        ("--hang before-body", Faults(hang="before-body")),
        ("--max-body 64KiB --max-events 50", Faults(max_body=65536, max_events=50)),
        ("--status 401 --only-vendor encharge --only-path /v1", Faults(status=401, vendor="encharge", path="/v1")),
    ],
)
def test_every_fault_option_orders_its_fault(arguments: str, order: Faults) -> None:
    assert build(*arguments.split()).faults == (order,)


def test_without_fault_options_nothing_is_ordered() -> None:
    assert build("--key", "k", "--require-received-at", "--fast", "--vendor", "encharge").faults == ()


def test_a_seed_draws_the_same_lots_every_time() -> None:
    first, second = (build("--fail-rate", "0.5", "--seed", "7").orders for _ in range(2))
    order = Faults(fail_rate=0.5)
    lots = [first.unlucky(order) for _ in range(20)]
    assert lots == [second.unlucky(order) for _ in range(20)]
    assert True in lots
    assert False in lots


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ("--latency soon", "a duration such as"),
        ("--max-body 64KB", "a size such as"),
        ("--http 8770", "--http"),
        ("--http unix:/x", "--http"),
        ("--status 99", "--status"),
        ("--reset now", "--reset"),
        ("--for 3", "need a fault"),
        ("--fast --max-events 3", "--fast"),
        ("--fast --store x", "--fast"),
        ("--only-vendor encharge", "need a fault"),
        ("--tls-key pyproject.toml", "--tls-cert"),
        ("--tls-cert pyproject.toml", "no usable certificate"),
    ],
)
def test_wrong_usage_is_exit_2_and_names_the_option(arguments: str, says: str) -> None:
    result = CliRunner().invoke(receive, arguments.split())
    assert result.exit_code == 2
    assert says in result.stderr


def test_an_address_in_use_is_exit_1_and_named() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        result = CliRunner().invoke(receive, ["--http", address])
    assert result.exit_code == 1
    assert address in result.stderr


def test_a_flood_is_summed_up_instead_of_printed_line_by_line(capsys: pytest.CaptureFixture[str]) -> None:
    now = 1.0
    reporter = receive_module._Reporter(as_json=False, wall=lambda: now)
    seen = Seen(number=1, at=0.0, method="POST", path="/v2/", vendor="telemetrydeck", status=200, events=3)
    for _ in range(60):
        reporter(seen)
    assert len(capsys.readouterr().out.splitlines()) == 50
    now = 2.0
    reporter(seen)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "… and 10 more requests with 30 events"
    assert len(lines) == 2


def test_foreign_text_cannot_command_the_terminal() -> None:
    seen = Seen(number=1, at=0.0, method="POST", path="/v2/\n\x1b[2J", types={"\x1b]0;title\x07": 1}, error="\r\x9b")
    line = click.unstyle(receive_module.readable(seen))
    assert line.isprintable()
    assert "title" in line


def test_the_help_shows_examples_and_names_every_control_path() -> None:
    text = CliRunner().invoke(receive, ["--help"]).stdout
    for word in ("--fail-rate 0.2 --latency 200ms", "/_receiver/faults", "/_receiver/received", "/_receiver/requests"):
        assert word in text
