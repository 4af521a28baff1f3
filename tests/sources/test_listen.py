"""Addresses become sockets, or errors that name the setting."""

import socket
import stat
from pathlib import Path

import pytest

from forwarder.config.model import Address
from forwarder.errors import ConfigurationError
from forwarder.sources import listen

STREAM, DATAGRAM = socket.SOCK_STREAM, socket.SOCK_DGRAM


def refused(address: Address, kind: socket.SocketKind = STREAM) -> str:
    with pytest.raises(ConfigurationError) as caught:
        listen.bind(address, kind, key="listen.http")
    (problem,) = caught.value.problems
    assert problem.startswith("listen.http: ")
    return problem


def one(address: Address, kind: socket.SocketKind = STREAM) -> socket.socket:
    (sock,) = listen.bind(address, kind, key="listen.http").sockets
    return sock


def test_a_free_port_is_bound() -> None:
    with one(Address(host="127.0.0.1")) as sock:
        assert sock.getsockname()[0] == "127.0.0.1"
        assert not sock.getblocking()


@pytest.mark.parametrize("kind", [STREAM, DATAGRAM])
def test_a_port_in_use_is_an_error_that_names_the_address(kind: socket.SocketKind) -> None:
    with one(Address(host="127.0.0.1"), kind) as sock:
        sock.listen() if kind == STREAM else None
        port = sock.getsockname()[1]
        assert f"127.0.0.1:{port}: in use by another process" in refused(Address(host="127.0.0.1", port=port), kind)


def test_a_missing_ipv6_is_a_note() -> None:
    bound = listen.bind(Address(host="2001:db8::1"), STREAM, key="listen.http")  # nobody's address
    assert not bound.sockets
    assert "[2001:db8::1]:0 is not listened on" in bound.note


def test_a_missing_ipv4_address_is_an_error() -> None:
    assert "cannot listen on 192.0.2.1:0" in refused(Address(host="192.0.2.1"))


def test_a_name_that_does_not_resolve_is_an_error() -> None:
    assert "cannot listen on" in refused(Address(host="no-such-host.invalid"))


@pytest.mark.parametrize("kind", [STREAM, DATAGRAM])
def test_a_unix_socket_has_its_mode_and_replaces_a_stale_one(tmp_path: Path, kind: socket.SocketKind) -> None:
    path = tmp_path / "door.sock"
    for mode in (0o600, 0o666):
        sock = one(Address(unix=str(path), mode=mode), kind)
        assert stat.S_IMODE(path.stat().st_mode) == mode
        with socket.socket(socket.AF_UNIX, kind) as client:
            client.connect(str(path))
        sock.close()
    assert [each.name for each in tmp_path.iterdir()] == ["door.sock"]


@pytest.mark.parametrize("kind", [STREAM, DATAGRAM])
def test_a_unix_socket_that_is_listened_on_is_left_alone(tmp_path: Path, kind: socket.SocketKind) -> None:
    address = Address(unix=str(tmp_path / "door.sock"))
    with one(address, kind):
        assert "in use by another process" in refused(address, kind)
        listen.unlink(address, kind)
        assert (tmp_path / "door.sock").exists()
    listen.unlink(address, kind)
    assert not (tmp_path / "door.sock").exists()


def test_a_file_is_never_replaced(tmp_path: Path) -> None:
    path = tmp_path / "precious"
    path.write_text("data")
    assert "is not a socket" in refused(Address(unix=str(path)))
    listen.unlink(Address(unix=str(path)), STREAM)
    assert path.read_text() == "data"


def test_a_missing_directory_and_an_unknown_group_are_errors(tmp_path: Path) -> None:
    assert "No such file or directory" in refused(Address(unix=str(tmp_path / "none" / "door.sock")))
    assert "no-such-group" in refused(Address(unix=str(tmp_path / "door.sock"), group="no-such-group"))
    assert not list(tmp_path.iterdir())


def test_an_open_unix_socket_gets_another_mode(tmp_path: Path) -> None:
    path = tmp_path / "door.sock"
    with one(Address(unix=str(path), mode=0o600)):
        listen.permit(Address(unix=str(path), mode=0o666), key="listen.http")
        assert stat.S_IMODE(path.stat().st_mode) == 0o666
        with pytest.raises(ConfigurationError, match=r"listen\.http: .*no-such-group"):
            listen.permit(Address(unix=str(path), group="no-such-group"), key="listen.http")
