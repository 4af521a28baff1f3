"""Open files: the daemon takes what its connections may need, and what it cannot get the connections go without."""

import os
import re
import resource
import signal
import socket
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import msgspec
import pytest

from forwarder.app import descriptors
from forwarder.app.descriptors import PER_CONNECTION, SPOOL_FILES, Share
from forwarder.config import load
from forwarder.config.model import Config, Listen
from tests.support.configs import DOOR
from tests.support.processes import DAEMON, Daemon, ReceiverProcess

UNITS = Path(__file__).parents[2] / "systemd"
CLIENTS, CROWD = 600, 200
LIMIT = 256
SOFT_ALONE, BOTH = "-S -n", "-n"
"""Options of `ulimit`: the hard limit stays, or comes down too."""
EVENT = b'[{"appID":"A","clientUser":"u","type":"t"}]'
REQUEST = b"POST /v2/ HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%s" % (len(EVENT), EVENT)
PATIENCE_S = 30


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[ReceiverProcess]:
    with ReceiverProcess(tmp_path) as process:
        yield process


@pytest.fixture
def roomy() -> Iterator[None]:
    """Let this process, which plays the clients, have enough descriptors itself."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = max(soft, 3 * CLIENTS)
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted if hard == resource.RLIM_INFINITY else min(wanted, hard), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def limited(directory: Path, receiver: ReceiverProcess, options: str, listen: str = "", *, loop: str = "") -> Daemon:
    """Return a daemon whose limit of open files `ulimit` sets, with these options; `loop` may be asyncio's own."""
    shell = ("sh", "-c", f'ulimit {options} {LIMIT} && exec "$@"', "sh")
    env = without_uvloop(directory / "modules") if loop == "asyncio" else {}
    return Daemon(directory, DOOR, command=(*shell, *DAEMON), env=env, UPSTREAM=receiver.url, LISTEN=listen)


def without_uvloop(directory: Path) -> dict[str, str]:
    """Return an environment in which uvloop is as good as not installed."""
    directory.mkdir()
    (directory / "uvloop.py").write_text('raise ImportError("not for this test")\n')
    return {"PYTHONPATH": str(directory)}


def connect(daemon: Daemon) -> socket.socket:
    host, _, port = daemon.http.rpartition(":")
    return socket.create_connection((host, int(port)), timeout=PATIENCE_S)


def ask(sock: socket.socket) -> int:
    """Post an event; return the status, 0 when the connection was closed instead."""
    try:
        sock.sendall(REQUEST)
        answer = sock.recv(4096)
    except ConnectionError:
        return 0
    return int(answer.split()[1]) if answer else 0


def open_files(daemon: Daemon) -> tuple[int, int]:
    """Return the limits, soft and hard."""
    return resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE)


def told(daemon: Daemon) -> list[str]:
    notes = [str(record["note"]) for record in daemon.logged("configuration_note")]
    return [note for note in notes if "open files" in note]


@pytest.mark.usefixtures("roomy")
def test_more_clients_than_the_soft_limit_of_open_files_are_served(tmp_path: Path, receiver: ReceiverProcess) -> None:
    with limited(tmp_path, receiver, SOFT_ALONE) as daemon, ExitStack() as stack:
        clients = [stack.enter_context(connect(daemon)) for _ in range(CLIENTS)]
        assert Counter(map(ask, clients)) == {200: CLIENTS}
        assert daemon.get("/livez")[0] == 200
        assert open_files(daemon)[0] > CLIENTS


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
@pytest.mark.usefixtures("roomy")
def test_where_the_hard_limit_is_low_connections_beyond_are_told_so_and_admin_listener_and_spool_go_on(
    tmp_path: Path, receiver: ReceiverProcess, loop: str
) -> None:
    with limited(tmp_path, receiver, BOTH, loop=loop) as daemon, ExitStack() as stack:
        first = stack.enter_context(connect(daemon))
        assert ask(first) == 200
        clients = [stack.enter_context(connect(daemon)) for _ in range(CROWD)]
        assert daemon.get("/livez")[0] == 200, "while all of them are open"
        statuses = Counter(map(ask, clients))
        assert set(statuses) <= {200, 503, 0}
        assert statuses[503] > 0
        assert statuses[200] + 1 == descriptors.share(load_file(daemon.config), LIMIT).max_connections
        assert ask(first) == 200
        assert daemon.get("/readyz")[0] == 200
        (note,) = told(daemon)
        assert "listen.max_connections" in note
        assert "LimitNOFILE" in note
        assert note in daemon.status()["notes"]


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
@pytest.mark.usefixtures("roomy")
def test_after_a_burst_of_connections_at_a_low_hard_limit_the_admin_listener_answers(
    tmp_path: Path, receiver: ReceiverProcess, loop: str
) -> None:
    with limited(tmp_path, receiver, BOTH, loop=loop) as daemon, ExitStack() as stack:
        os.kill(daemon.pid, signal.SIGSTOP)  # so that all of them are there at once
        for _ in range(CLIENTS):
            stack.enter_context(begin_to_connect(daemon.http))
        admin = stack.enter_context(begin_to_connect(daemon.admin))
        os.kill(daemon.pid, signal.SIGCONT)
        admin.settimeout(PATIENCE_S)
        admin.sendall(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert admin.recv(4096).startswith(b"HTTP/1.1 200 ")


def begin_to_connect(address: str) -> socket.socket:
    """Return a connection that is there as soon as the listener has room for it."""
    host, _, port = address.rpartition(":")
    sock = socket.socket()
    sock.setblocking(False)  # noqa: FBT003  the standard library's signature
    sock.connect_ex((host, int(port)))
    return sock


def load_file(path: Path) -> Config:
    return load(path, environ={"HOME": str(path.parent)})[0]


def test_a_reload_that_raises_max_connections_raises_the_limit_too(tmp_path: Path, receiver: ReceiverProcess) -> None:
    with limited(tmp_path, receiver, SOFT_ALONE, "max_connections = 50") as daemon:
        before = open_files(daemon)[0]
        daemon.config.write_text(daemon.config.read_text().replace("= 50", "= 700"))
        os.kill(daemon.pid, signal.SIGHUP)
        daemon.wait_for_line(lambda line: '"reloaded"' in line)
        assert open_files(daemon)[0] >= min(before + 2 * (700 - 50), open_files(daemon)[1])


@pytest.mark.usefixtures("roomy")
def test_a_reload_beyond_the_hard_limit_says_so_and_keeps_to_what_there_is(
    tmp_path: Path, receiver: ReceiverProcess
) -> None:
    with limited(tmp_path, receiver, BOTH, "max_connections = 5") as daemon, ExitStack() as stack:
        assert told(daemon) == []
        daemon.config.write_text(daemon.config.read_text().replace("= 5\n", "= 5000\n"))
        os.kill(daemon.pid, signal.SIGHUP)
        daemon.wait_for_line(lambda line: '"reloaded"' in line)
        clients = [stack.enter_context(connect(daemon)) for _ in range(CROWD)]
        assert daemon.get("/livez")[0] == 200
        statuses = Counter(map(ask, clients))
        assert statuses[200] == descriptors.share(load_file(daemon.config), LIMIT).max_connections
        assert len(told(daemon)) == 1


# ---- the sharing of what there is


@pytest.fixture
def config(tmp_path: Path) -> Config:
    file = tmp_path / "forwarder.toml"
    file.write_text(
        '[listen]\nhttp = ["127.0.0.1:1"]\nmax_connections = 1000\n[destinations.td]\nkind = "telemetrydeck"\n'
    )
    return load_file(file)


def test_with_enough_descriptors_there_are_as_many_connections_as_configured(config: Config) -> None:
    assert descriptors.share(config, descriptors.needed(config)) == Share(max_connections=1000)


@pytest.mark.parametrize("limit", [128, 256, 512, 1024, 2048])
def test_connections_and_what_is_set_aside_are_never_more_than_there_is(config: Config, limit: int) -> None:
    found = descriptors.share(config, limit)
    assert 1 <= found.max_connections < 1000
    assert descriptors.set_aside(config) + PER_CONNECTION * found.max_connections <= limit
    assert "1000 connections need" in found.note


def test_however_few_there_are_one_connection_is_taken(config: Config) -> None:
    assert descriptors.share(config, 10).max_connections == 1


def test_every_destination_has_descriptors_of_its_own(config: Config) -> None:
    one, (only,) = descriptors.set_aside(config), config.destinations
    two = descriptors.set_aside(msgspec.structs.replace(config, destinations=(only, only)))
    assert two - one >= SPOOL_FILES + only.concurrency


@pytest.mark.parametrize("unit", ["forwarder.service", "examples/limits.conf"])
def test_the_units_allow_the_open_files_that_the_defaults_need(config: Config, unit: str) -> None:
    found = re.search(r"^LimitNOFILE=(\d+)$", (UNITS / unit).read_text(), re.MULTILINE)
    assert found is not None
    defaults = msgspec.structs.replace(config, listen=Listen())
    assert descriptors.share(defaults, int(found[1])) == Share(max_connections=Listen().max_connections)
