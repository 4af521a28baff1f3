"""Under a service manager: its sockets are used and kept, its questions answered. The manager is played by the test."""

import http.client
import socket
from collections.abc import Iterator
from pathlib import Path
from signal import SIGHUP

import pytest

from tests.acceptance.conftest import KEY
from tests.support.clients import Numbered, Poster, Pounder, send_datagrams
from tests.support.manager import Manager
from tests.support.processes import Daemon, ReceiverProcess

CONFIG = """
[listen]
http = ["systemd:stream"]
udp = ["systemd:datagram"]
unix_datagram = ["systemd:datagram"]
admin = "$ADMIN"

[spool]
directory = "$SPOOL"
min_free = "1MiB"

[destinations.telemetrydeck]
kind = "telemetrydeck"
url = "$UPSTREAM"
flush = { interval = "100ms" }

[destinations.encharge]
kind = "encharge"
url = "$UPSTREAM/v1"
write_key = { file = "$KEYFILE" }

[drain]
timeout = "5s"
"""


class Service:
    """A daemon under a manager that holds a TCP and a unix socket as `stream`, a UDP and a unix one as `datagram`."""

    def __init__(self, directory: Path, manager: Manager, receiver: ReceiverProcess, key_file: Path) -> None:
        self.manager = manager
        self.daemon = Daemon(
            directory, CONFIG, command=manager.command, env=manager.env, UPSTREAM=receiver.url, KEYFILE=key_file
        )
        tcp, udp = socket.create_server(("127.0.0.1", 0)), socket.socket(type=socket.SOCK_DGRAM)
        udp.bind(("127.0.0.1", 0))
        self.http_path, self.datagram_path = str(directory / "http.sock"), str(directory / "dgram.sock")
        stream, datagram = socket.socket(socket.AF_UNIX), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        stream.bind(self.http_path)
        stream.listen()
        datagram.bind(self.datagram_path)
        self.http = f"127.0.0.1:{tcp.getsockname()[1]}"
        self.udp = f"127.0.0.1:{udp.getsockname()[1]}"
        for name, sock in (("stream", tcp), ("stream", stream), ("datagram", udp), ("datagram", datagram)):
            manager.listen(name, sock)
        self.daemon._env.update(manager.env)
        self.daemon.pass_fds = manager.descriptors


@pytest.fixture
def service(tmp_path: Path, receiver: ReceiverProcess, key_file: Path) -> Iterator[Service]:
    with Manager(tmp_path, watchdog_s=1.0) as manager:
        service = Service(tmp_path, manager, receiver, key_file)
        yield service
        service.daemon.kill9()


def test_what_was_sent_to_the_held_sockets_before_the_service_ran_arrives(
    service: Service, receiver: ReceiverProcess
) -> None:
    send_datagrams(service.udp, map(Numbered.telemetrydeck, range(10)))
    send_datagrams(service.datagram_path, map(Numbered.encharge, range(10, 20)))
    pounders = [Pounder(service.http, first=1000), Pounder(service.http_path, first=100_000)]
    for pounder in pounders:
        pounder.start()  # they connect to the backlog and wait

    service.daemon.start()

    for pounder in pounders:
        pounder.wait_for_acknowledged(10)
    posted = set().union(*(pounder.stop() for pounder in pounders))
    receiver.wait_for_numbers({*range(20), *posted})
    assert not any(pounder.poster.refused or pounder.poster.unanswered for pounder in pounders)


def test_restarts_under_load_lose_no_request_and_no_datagram(service: Service, receiver: ReceiverProcess) -> None:
    service.daemon.start()
    pounder = Pounder(service.http, first=1000)
    pounder.start()
    for life in range(3):
        pounder.wait_for_acknowledged(50 * (life + 1))
        assert service.daemon.terminate() == 0
        send_datagrams(service.udp, map(Numbered.telemetrydeck, range(life * 10, life * 10 + 10)))
        service.daemon.start()
    pounder.wait_for_acknowledged(200)
    posted = pounder.stop()

    receiver.wait_for_numbers({*range(30), *posted})
    assert not pounder.poster.refused
    assert not pounder.poster.unanswered


def test_ready_status_reloading_and_stopping_are_said_in_order(service: Service) -> None:
    manager, daemon = service.manager, service.daemon
    daemon.start()
    ready = manager.wait_for("READY=1")
    assert manager.messages[ready - 1][1].startswith("STATUS=accepting; ")

    daemon.signal(SIGHUP)
    reloading = manager.wait_for("RELOADING=1", after=ready)
    assert manager.messages[reloading - 1][1].removeprefix("MONOTONIC_USEC=").isdigit()
    again = manager.wait_for("READY=1", after=reloading)

    assert daemon.terminate() == 0
    manager.wait_for("STOPPING=1", after=again)


def test_the_watchdog_is_fed_through_a_vendor_outage(service: Service, receiver: ReceiverProcess) -> None:
    receiver.order({"status": 503})
    service.daemon.start()
    with Poster(service.http) as poster:
        assert poster.post("/v2/", range(5)) == http.client.OK
    manager = service.manager
    position = manager.wait(lambda lines: any("backing off after 503" in line for line in lines), "the outage")
    for _ in range(3):
        position = manager.wait_for("WATCHDOG=1", after=position)


def test_a_socket_of_the_wrong_kind_is_refused_by_name(service: Service) -> None:
    text = service.daemon.config.read_text()
    service.daemon.config.write_text(text.replace('http = ["systemd:stream"]', 'http = ["systemd:datagram"]'))
    with pytest.raises(AssertionError, match=r'listen\.http: "systemd:datagram" is not a stream socket'):
        service.daemon.start()


def test_a_socket_that_was_not_passed_is_refused_with_the_names_that_were(service: Service) -> None:
    text = service.daemon.config.read_text()
    service.daemon.config.write_text(text.replace('http = ["systemd:stream"]', 'http = ["systemd:http"]'))
    with pytest.raises(AssertionError, match=r"passed: datagram, stream"):
        service.daemon.start()


def test_a_listener_taken_out_and_put_back_by_reloads_serves_the_same_socket(service: Service) -> None:
    service.daemon.start()
    with_it = service.daemon.config.read_text()
    position = service.manager.wait_for("READY=1")
    for text in (with_it.replace('http = ["systemd:stream"]', "http = []"), with_it):
        service.daemon.config.write_text(text)
        service.daemon.signal(SIGHUP)
        position = service.manager.wait_for("READY=1", after=position)
    with Poster(service.http) as poster:
        assert poster.post("/v2/", range(5)) == http.client.OK


def test_the_key_never_shows_in_what_is_said_to_the_manager(service: Service) -> None:
    service.daemon.start()
    service.manager.wait_for("WATCHDOG=1")
    assert not any(KEY in line for message in service.manager.messages for line in message)


def test_p11_a_held_socket_beyond_loopback_stops_the_start_unless_it_is_allowed(
    tmp_path: Path, receiver: ReceiverProcess, key_file: Path
) -> None:
    with Manager(tmp_path) as manager:
        service = Service(tmp_path, manager, receiver, key_file)
        far = socket.create_server(("0.0.0.0", 0))  # noqa: S104 - the case in question
        manager.listen("stream", far)
        service.daemon._env.update(manager.env)
        service.daemon.pass_fds = manager.descriptors
        with pytest.raises(AssertionError, match="before such a line"):
            service.daemon.start()
        assert service.daemon.exit_code == 2
        assert "listen.allow_remote" in service.daemon.output()
        config = service.daemon.config.read_text()
        service.daemon.config.write_text(config.replace("[listen]", '[listen]\nallow_remote = ["http"]'))
        service.daemon.start()
        service.daemon.kill9()
