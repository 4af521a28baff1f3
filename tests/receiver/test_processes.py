"""The process harness does what the acceptance tests rely on."""

import signal
import sys
from pathlib import Path

import pytest

from tests.support.clients import Numbered, Poster, Pounder
from tests.support.processes import Daemon

FAKE = (sys.executable, "-m", "tests.support.fake_daemon")
CONFIG = '[listen]\nhttp = "$HTTP"\nadmin = "$ADMIN"\n[spool]\ndirectory = "$SPOOL"\nnote = "$note"\n'


def test_a_daemon_is_ready_when_the_block_begins_and_gone_when_it_ends(tmp_path: Path) -> None:
    with Daemon(tmp_path, CONFIG, command=FAKE, note="x") as daemon, Poster(daemon.http) as poster:
        assert poster.post("/v2/", [1]) == 200
        assert daemon.running
        assert daemon.status() == {"ok": True}
        assert daemon.metrics() == {'a{b="c d"}': 3.0}
        assert 1 << 20 < daemon.rss_bytes < 1 << 30
        assert daemon.cpu_s >= 0
        assert len(daemon.logged("ready")) == 1
        assert str(tmp_path) in daemon.config.read_text()
    assert daemon.exit_code == -signal.SIGKILL


def test_a_restart_keeps_the_address_and_returns_the_exit_code(tmp_path: Path) -> None:
    with Daemon(tmp_path, CONFIG, command=FAKE, note="x") as daemon:
        first = daemon.pid
        assert daemon.restart() == 0
        assert daemon.pid != first
        daemon.kill9()
        daemon.start()
        with Poster(daemon.http) as poster:
            assert poster.post("/v2/", [1]) == 200
        assert len(daemon.logged("ready")) == 3
        assert daemon.terminate() == 0


def test_a_daemon_that_ends_instead_of_starting_shows_its_output(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path, CONFIG + "[refuse_to_start]", command=FAKE, note="x")
    with pytest.raises(AssertionError, match=r"ended with 2(.|\n)*not with this configuration"):
        daemon.start()


def test_a_paused_daemon_answers_when_it_is_resumed(tmp_path: Path) -> None:
    with Daemon(tmp_path, CONFIG, command=FAKE, note="x") as daemon, Poster(daemon.http, timeout_s=0.1) as poster:
        daemon.pause()
        assert poster.post("/v2/", [1]) == 0
        daemon.resume()
        with Poster(daemon.http) as patient:
            assert patient.post("/v2/", [2]) == 200
        assert poster.unanswered == {1}


def test_pounders_survive_a_kill_and_know_what_was_acknowledged(tmp_path: Path) -> None:
    with Daemon(tmp_path, CONFIG, command=FAKE, note="x") as daemon:
        pounders = [Pounder(daemon.http, first=first, batch=2) for first in (0, 1_000_000)]
        for pounder in pounders:
            pounder.start()
        for pounder in pounders:
            pounder.wait_for_acknowledged(10)
        daemon.kill9()
        daemon.start()
        for pounder in pounders:
            pounder.wait_for_acknowledged(len(pounder.poster.acknowledged) + 10)
        acknowledged = [pounder.stop() for pounder in pounders]
        assert all(len(numbers) >= 20 for numbers in acknowledged)
        assert not acknowledged[0] & acknowledged[1]


def test_numbered_events_are_found_again() -> None:
    assert Numbered.of(Numbered.telemetrydeck(17, padding=3)) == 17
    assert Numbered.of(Numbered.encharge(18, person="p@example.com")) == 18
