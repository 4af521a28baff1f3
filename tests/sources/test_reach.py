"""Sockets that are handed in are judged by where they are bound, like addresses in the file."""

import socket

import msgspec
import pytest

from forwarder.config.model import Listen, Secret
from forwarder.errors import ConfigurationError
from forwarder.sources import listen

FAR = "0.0.0.0"  # noqa: S104 - the case in question


@pytest.mark.parametrize(("host", "kind", "key", "settings", "welcome"), [
    ("127.0.0.1", socket.SOCK_STREAM, "http", {}, True),
    ("127.0.0.1", socket.SOCK_DGRAM, "udp", {}, True),
    (FAR, socket.SOCK_STREAM, "http", {}, False),
    (FAR, socket.SOCK_STREAM, "http", {"auth_token": Secret(file="token")}, True),
    (FAR, socket.SOCK_STREAM, "http", {"allow_remote": ("http",)}, True),
    (FAR, socket.SOCK_STREAM, "http", {"allow_remote": ("udp", "admin")}, False),
    (FAR, socket.SOCK_DGRAM, "udp", {}, False),
    (FAR, socket.SOCK_DGRAM, "udp", {"auth_token": Secret(file="token")}, False),
    (FAR, socket.SOCK_DGRAM, "udp", {"allow_remote": ("udp",)}, True),
])  # fmt: skip
def test_p11_a_socket_bound_beyond_loopback_needs_what_its_address_would_need(
    host: str,
    kind: socket.SocketKind,
    key: str,
    settings: dict[str, object],
    welcome: bool,  # noqa: FBT001
) -> None:
    with socket.socket(socket.AF_INET, kind) as sock:
        sock.bind((host, 0))
        rules = msgspec.structs.replace(Listen(), **settings)
        if welcome:
            listen.check_reach(sock, rules, key=key)
            return
        with pytest.raises(ConfigurationError, match=rf"listen\.{key}.*allow_remote"):
            listen.check_reach(sock, rules, key=key)


def test_a_unix_socket_is_judged_by_its_permissions_alone() -> None:
    with socket.socket(socket.AF_UNIX) as sock:
        listen.check_reach(sock, Listen(), key="http")
