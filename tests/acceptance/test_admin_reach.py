"""The admin listener beyond loopback: only if allowed, only for probes and metrics, whoever bound the socket."""

import http.client
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from signal import SIGHUP

import pytest

from tests.support.manager import Manager
from tests.support.processes import Daemon, ReceiverProcess, free_port

OPEN = ("/livez", "/readyz", "/metrics")
CLOSED = ("/", "/status", "/history", "/dead-letters", "/nowhere")
CONFIG = """
[listen]
http = ["$HTTP"]
udp = []
admin = "$PLACE"
allow_remote = ["admin"]
[spool]
directory = "$SPOOL"
min_free = "1MiB"
[destinations.telemetrydeck]
kind = "telemetrydeck"
url = "$UPSTREAM"
"""


class Site:
    """A daemon whose admin listener is on every address: bound by itself, or passed by a service manager."""

    def __init__(self, directory: Path, receiver: ReceiverProcess, stack: ExitStack, *, by_manager: bool) -> None:
        self.port = free_port()
        if not by_manager:
            self.daemon = Daemon(directory, CONFIG, PLACE=f"0.0.0.0:{self.port}", UPSTREAM=receiver.url)
        else:
            manager = stack.enter_context(Manager(directory))
            manager.listen("admin", socket.create_server(("0.0.0.0", self.port)))  # noqa: S104 - the case in question
            self.daemon = Daemon(
                directory,
                CONFIG,
                command=manager.command,
                env=manager.env,
                PLACE="systemd:admin",
                UPSTREAM=receiver.url,
            )
            self.daemon.pass_fds = manager.descriptors
        self.daemon.admin = f"127.0.0.1:{self.port}"
        stack.callback(self.daemon.kill9)

    def forbid(self) -> None:
        text = self.daemon.config.read_text()
        self.daemon.config.write_text(text.replace('allow_remote = ["admin"]\n', ""))

    def ask(self, method: str, path: str) -> int:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request(method, path, headers={"Host": "forwarder.pod.cluster:8766"})
            answer = connection.getresponse()
            answer.read()
            return answer.status
        finally:
            connection.close()


@pytest.fixture(params=[False, True], ids=["own", "systemd"])
def site(request: pytest.FixtureRequest, tmp_path: Path, receiver: ReceiverProcess) -> Iterator[Site]:
    with ExitStack() as stack:
        yield Site(tmp_path, receiver, stack, by_manager=request.param)


def test_p11_beyond_loopback_it_serves_probes_and_metrics_and_nothing_else(site: Site) -> None:
    site.daemon.start()
    assert {path: site.ask("GET", path) for path in OPEN} == dict.fromkeys(OPEN, http.client.OK)
    assert {path: site.ask("GET", path) for path in CLOSED} == dict.fromkeys(CLOSED, http.client.NOT_FOUND)
    assert {site.ask(method, "/status") for method in ("POST", "PUT", "DELETE")} == {http.client.METHOD_NOT_ALLOWED}


def test_p11_beyond_loopback_it_does_not_start_without_leave_and_names_the_setting(site: Site) -> None:
    site.forbid()
    with pytest.raises(AssertionError, match="before such a line"):
        site.daemon.start()
    assert site.daemon.exit_code == 2
    assert "listen.admin" in site.daemon.output()
    assert 'listen.allow_remote = ["admin"]' in site.daemon.output()


def test_p11_a_reload_that_takes_the_leave_away_is_refused(site: Site) -> None:
    site.daemon.start()
    site.forbid()
    site.daemon.signal(SIGHUP)
    site.daemon.wait_for_line(lambda line: "reload_refused" in line)
    (refused,) = site.daemon.logged("reload_refused")
    assert 'listen.allow_remote = ["admin"]' in "".join(refused["problems"])
    assert site.ask("GET", "/readyz") == http.client.OK, "it goes on as it was"
