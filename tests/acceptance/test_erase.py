"""The tools beside a running daemon: looking harms nothing, erasing goes through the control socket."""

import json
import subprocess
import sys
from functools import partial

from tests.acceptance.conftest import Client
from tests.support.clients import Numbered, Pounder
from tests.support.processes import Daemon, ReceiverProcess


def forwarder(daemon: Daemon, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "forwarder", *arguments, "--config", str(daemon.config)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_an_erased_person_is_neither_on_disk_nor_sent_even_if_their_events_were_about_to_be(
    daemon: Daemon, receiver: ReceiverProcess, client: Client
) -> None:
    receiver.order({"status": 503})
    poster = client(daemon.http)
    for number in range(20):
        person = "jane@example.com" if number % 2 else "john@example.com"
        poster.post("/v1", [number], partial(Numbered.encharge, person=person))
    poster.post_body("/v1", b'{"name": 1, "properties": {"email": "Jane@example.com"}}', [])
    daemon.wait_for_line(lambda line: "503" in line)  # some are leased, sent, and wait for the next try

    dry = forwarder(daemon, "erase", "--email", "jane@example.com", "--dry-run", "--json")
    done = forwarder(daemon, "erase", "--email", "jane@example.com", "--json")
    assert done.returncode == 0, done.stderr
    for found, dry_run in ((json.loads(dry.stdout), True), (json.loads(done.stdout), False)):
        encharge = next(one for one in found["destinations"] if one["destination"] == "encharge")
        assert encharge["queued"] == 10
        assert encharge["in_flight"]
        assert (found["dry_run"], found["samples"], found["complete"]) == (dry_run, 1, True)

    before = len(receiver.events())
    receiver.order()
    receiver.wait_for_numbers(range(0, 20, 2))
    assert not [row.event for row in receiver.events()[before:] if b"jane" in row.event.lower()]
    ledger = daemon.metrics()
    assert ledger['forwarder_ledger_events{destination="encharge",outcome="erased"}'] == 10
    assert ledger['forwarder_ledger_imbalance_events{destination="encharge"}'] == 0
    assert daemon.terminate() == 0
    left = b"".join(path.read_bytes() for path in daemon.spool.rglob("*") if path.is_file())
    assert b"jane" not in left.lower()
    daemon.start()
    assert forwarder(daemon, "audit").returncode == 0


def test_looking_at_a_spool_under_load_finds_nothing_wrong_and_disturbs_nothing(
    daemon: Daemon, receiver: ReceiverProcess
) -> None:
    pounder = Pounder(daemon.http, batch=50)
    pounder.start()
    pounder.wait_for_acknowledged(200)
    for _ in range(2):
        for arguments in (["audit"], ["spool", "verify"], ["spool", "ls"], ["spool", "export", "telemetrydeck"]):
            result = forwarder(daemon, *arguments)
            assert result.returncode == 0, (arguments, result.stdout[-2000:], result.stderr[-2000:])
    receiver.wait_for_numbers(pounder.stop())


def test_adopting_beside_a_running_daemon_is_refused_with_who_holds_the_spool(daemon: Daemon) -> None:
    (daemon.spool / "spool" / "old").mkdir()
    result = forwarder(daemon, "spool", "adopt", "old", "encharge")
    assert result.returncode == 5
    assert f"pid {daemon.pid}" in result.stderr
