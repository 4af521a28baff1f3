"""Readiness messages arrive, inherited sockets are found, and neither needs systemd."""

import os
import socket
from pathlib import Path

import pytest

from forwarder.app.systemd import Notifier, inherited_sockets


def test_messages_arrive_at_the_notify_socket(tmp_path: Path) -> None:
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(path)
        Notifier({"NOTIFY_SOCKET": path}).send("READY=1", "STATUS=0 queued")
        assert manager.recv(1024) == b"READY=1\nSTATUS=0 queued"


def test_an_abstract_notify_socket_is_understood() -> None:
    name = f"forwarder-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind("\0" + name)
        Notifier({"NOTIFY_SOCKET": "@" + name}).send("STOPPING=1")
        assert manager.recv(1024) == b"STOPPING=1"


def test_without_systemd_nothing_is_sent_and_nothing_fails(tmp_path: Path) -> None:
    Notifier({}).send("READY=1")
    Notifier({"NOTIFY_SOCKET": str(tmp_path / "gone")}).send("READY=1")


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"WATCHDOG_USEC": "20000000"}, 10.0),
        ({"WATCHDOG_USEC": "20000000", "WATCHDOG_PID": str(os.getpid())}, 10.0),
        ({"WATCHDOG_USEC": "20000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({}, None),
    ],
)
def test_the_watchdog_interval_is_half_of_what_is_asked(environ: dict[str, str], expected: float | None) -> None:
    assert Notifier(environ).watchdog_s == expected


def test_sockets_meant_for_another_process_are_left_alone_and_the_variables_removed() -> None:
    environ = {"LISTEN_PID": "1", "LISTEN_FDS": "1", "LISTEN_FDNAMES": "http", "HOME": "/"}
    assert inherited_sockets(environ) == {}
    assert environ == {"HOME": "/"}
