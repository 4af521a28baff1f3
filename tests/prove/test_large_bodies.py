"""The worst bodies against a real daemon: other clients are answered meanwhile, and memory stays inside its bound."""

import http.client
import threading
import time
from collections.abc import Iterator

import pytest

from tests.support.clients import Poster
from tests.support.processes import Daemon, ReceiverProcess

pytestmark = pytest.mark.prove

MIB = 1024 * 1024
SIZE = 60 * MIB
WAIT_S = 1.0
"""A probe's own time included, on a machine whose cores are shared with the clients; docs/HTTP.md has the figures."""
CONFIG = """
[listen]
http = ["$HTTP"]
udp = []
admin = "$ADMIN"
$LISTEN

[spool]
directory = "$SPOOL"
min_free = "1MiB"

[destinations.telemetrydeck]
kind = "telemetrydeck"
url = "$UPSTREAM"
"""
SIGNAL = b'{"appID":"A","clientUser":"u","type":"t","payload":{"x":"%s"}}' % (b"y" * 270)
SHORT = b'{"appID":"A","clientUser":"u","type":"t"}'


def array(event: bytes, first: bytes = SHORT) -> bytes:
    return b"[" + first + b"," + b",".join([event] * (SIZE // (len(event) + 1))) + b"]"


BODIES = {
    "good": lambda: array(SIGNAL),
    "one bad": lambda: array(SIGNAL)[:-1] + b",{}]",
    "one NaN": lambda: array(SIGNAL)[:-1] + b"," + SIGNAL[:-1] + b',"f":NaN}]',
    "all NaN": lambda: array(SIGNAL[:-1] + b',"f":NaN}'),
    "short": lambda: array(SHORT),
    "numbers": lambda: array(b"1"),
    "empty objects": lambda: array(b"{}"),
    "brackets": lambda: b"[" * SIZE,
    "nested": lambda: array(b"[[[[]]]]"),
    "one event": lambda: b'[{"appID":"A","clientUser":"u","type":"t","x":"' + b"y" * SIZE + b'"}]',
    "one event of escapes": lambda: b'{"appID":"A","clientUser":"u","type":"t","x":"' + b"\\n" * (SIZE // 2) + b'"}',
    "one event of objects": lambda: b'[{"x":' + array(b'{"a":1}') + b"}]",
    "surrogates": lambda: array(SIGNAL[:-1] + b',"s":"\\ud800"}'),
    "lines": lambda: b"\n".join([SIGNAL] * (SIZE // (len(SIGNAL) + 1))),
    "bad lines": lambda: b"\n".join([b"{}"] * (SIZE // 3)),
}


class Prober(threading.Thread):
    """Posts one event after another, and keeps the longest time that one took."""

    def __init__(self, address: str) -> None:
        super().__init__(daemon=True)
        self._poster = Poster(address)
        self._stopped = threading.Event()
        self.statuses: set[int] = set()
        self.worst_s = 0.0
        self.count = 0

    def run(self) -> None:
        while not self._stopped.is_set():
            began = time.monotonic()
            self.statuses.add(self._poster.post("/v2/", [self.count]))
            self.worst_s = max(self.worst_s, time.monotonic() - began)
            self.count += 1
            self._stopped.wait(0.002)

    def stop(self) -> None:
        self._stopped.set()
        self.join()
        self._poster.close()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    directory = tmp_path_factory.mktemp("large")
    with (
        ReceiverProcess(directory) as receiver,
        Daemon(directory, CONFIG, UPSTREAM=receiver.url, LISTEN="") as daemon,
    ):
        yield daemon


@pytest.mark.parametrize("name", BODIES)
def test_a_60_mib_body_does_not_stall_the_other_clients(served: Daemon, name: str) -> None:
    body = BODIES[name]()
    prober = Prober(served.http)
    prober.start()
    host, _, port = served.http.rpartition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=120)
    connection.request("POST", "/events", body)
    answer = connection.getresponse()
    answer.read()
    connection.close()
    prober.stop()
    print(f"{name}: {answer.status}, worst {prober.worst_s:.3f} s of {prober.count}, RSS {served.rss_bytes // MIB} MiB")  # noqa: T201 - the figure for the docs
    assert answer.status in (202, 400, 413, 503)
    assert prober.statuses <= {200, 503}, "503: too much waits for its commit"
    assert prober.worst_s < WAIT_S
