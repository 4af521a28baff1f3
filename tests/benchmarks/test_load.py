"""The load that a benchmark makes itself: its bytes, its bursts, and a receiver that answers as often as it is told."""

import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from http.client import HTTPConnection

import pytest

from benchmarks import bursts, receiver, signals
from benchmarks.bursts import Connections
from benchmarks.gate import Gate
from benchmarks.process import free_port


@pytest.fixture
def other() -> Iterator[int]:
    """A process that can be stopped."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        yield child.pid
        child.kill()


def _state(pid: int) -> str:
    with open(f"/proc/{pid}/stat", encoding="utf-8") as file:  # noqa: PTH123 - a line, not a file
        return file.read().rpartition(")")[2].split()[0]


def _listens(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


def test_a_signal_is_of_the_size_that_the_page_names_and_valid() -> None:
    assert {len(signals.signal(number)) for number in (0, 7, 6399)} == {330}
    assert json.loads(signals.signal(7))["sessionID"].endswith("000000000007")


def test_requests_are_whole_and_all_different() -> None:
    requests = signals.requests(8080, 3)
    assert len(set(requests)) == signals.DIFFERENT
    for request in requests:
        head, _, body = request.partition(b"\r\n\r\n")
        assert len(json.loads(body)) == 3
        assert head.endswith(b"Content-Length: %d" % len(body))


def test_a_process_is_stopped_only_while_the_requests_are_sent(other: int) -> None:
    states = []

    def send() -> None:
        with bursts.stopped(other):
            states.append(_state(other))
            raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        send()
    states.append(_state(other))
    assert states[0] == "T"
    assert states[1] != "T"


def test_a_burst_is_one_request_on_every_connection() -> None:
    port = free_port()
    with subprocess.Popen([sys.executable, "-m", "benchmarks.receiver", str(port)]) as child:
        while child.poll() is None and not _listens(port):
            pass
        with Connections(child.pid, port, 4, 3) as connections:
            connections.burst()
            connections.burst()
        counts = receiver.counts(port)
        child.kill()
    assert (counts.requests, counts.events, counts.broken) == (8, 24, 0)


def test_an_answer_that_is_no_success_is_no_measurement(other: int) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def refuse() -> None:
            sock, _ = server.accept()
            with sock:
                sock.recv(65536)
                sock.sendall(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n")

        refusing = threading.Thread(target=refuse)
        refusing.start()
        with Connections(other, server.getsockname()[1], 1, 1) as connections, pytest.raises(RuntimeError, match="503"):
            connections.burst()
        refusing.join()


def test_the_gate_answers_as_many_as_it_is_told_while_others_wait() -> None:
    body = b"[{}\r\n\r\n]"
    with Gate() as gate, ExitStack() as stack:
        senders = [HTTPConnection("127.0.0.1", gate.port, timeout=20) for _ in range(20)]
        for sender in senders:
            stack.callback(sender.close)
            sender.request("POST", "/v2/", body)
        gate.let(0, waiting=20)
        assert (gate.arrived, gate.answered) == (20, 0)
        gate.let(2, waiting=18)
        assert (gate.arrived, gate.answered) == (20, 2)
        gate.let(18, waiting=0)
        assert [sender.getresponse().read() for sender in senders] == [b"{}"] * 20
        senders[0].request("POST", "/v2/", body)
        gate.let(1, waiting=0)
        assert senders[0].getresponse().read() == b"{}"
