"""The worst bodies against a real daemon: the loop goes on meanwhile, and a good body is taken.

`pytest -m prove tests/prove/test_large_bodies.py -s` prints the figures of docs/HTTP.md.
"""

import http.client
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest

from tests.prove.support.probe import LoopProbe, Wait
from tests.support.clients import Numbered, Poster, Pounder
from tests.support.configs import DOOR
from tests.support.processes import Daemon, ReceiverProcess

pytestmark = pytest.mark.prove

MIB = 1024 * 1024
SIZE = 60 * MIB
STALL_S = 0.4
ROUNDS = 3
"""A stall that the daemon makes comes every time; one that somebody else makes does not."""
SIGNAL = b'{"appID":"A","clientUser":"u","type":"t","payload":{"x":"%s"}}' % (b"y" * 270)
SHORT = b'{"appID":"A","clientUser":"u","type":"t"}'
WIDE = b'{"appID":"A","clientUser":"u","type":"t","x":[%s]}' % b",".join([b'{"a":1}'] * 115_000)


def array(event: bytes, first: bytes = SHORT) -> bytes:
    return b"[" + first + b"," + b",".join([event] * (SIZE // (len(event) + 1))) + b"]"


BODIES: dict[str, tuple[int, Callable[[], bytes]]] = {
    "good": (202, lambda: array(SIGNAL)),
    "one bad": (202, lambda: array(SIGNAL)[:-1] + b",{}]"),
    "one NaN": (202, lambda: array(SIGNAL)[:-1] + b"," + SIGNAL[:-1] + b',"f":NaN}]'),
    "all NaN": (202, lambda: array(SIGNAL[:-1] + b',"f":NaN}')),
    "surrogates": (202, lambda: array(SIGNAL[:-1] + b',"s":"\\ud800"}')),
    "not ASCII": (202, lambda: array(SIGNAL.replace(b"yy", "é".encode()))),
    "lines": (202, lambda: b"\n".join([SIGNAL] * (SIZE // (len(SIGNAL) + 1)))),
    "wide events": (202, lambda: array(WIDE)),
    "many apps": (413, lambda: b"[" + b",".join(SHORT.replace(b"A", b"%d" % i) for i in range(SIZE // 48)) + b"]"),
    "short": (413, lambda: array(SHORT)),
    "numbers": (413, lambda: array(b"1")),
    "empty objects": (413, lambda: array(b"{}")),
    "nested": (413, lambda: array(b"[[[[]]]]")),
    "bad lines": (413, lambda: b"\n".join([b"{}"] * (SIZE // 3))),
    "one event of objects": (413, lambda: b'[{"x":' + array(b'{"a":1}') + b"}]"),
    "an object of objects": (400, lambda: b'{"x":' + array(b'{"a":1}') + b"}"),
    "an object of NaN": (400, lambda: b'{"x":' + array(b"NaN") + b"}"),
    "brackets": (400, lambda: b"[" * SIZE),
    "spaces": (400, lambda: b" " * SIZE),
    "one event": (413, lambda: b'[{"appID":"A","clientUser":"u","type":"t","x":"' + b"y" * SIZE + b'"}]'),
    "one event of escapes": (400, lambda: SHORT[:-1] + b',"x":"' + b"\\n" * (SIZE // 2) + b'"}'),
    "not JSON at the end": (400, lambda: array(SIGNAL)[:-1] + b",x]"),
    "not UTF-8 at the end": (400, lambda: array(SIGNAL.replace(b"yy", "é".encode()))[:-3] + b"\xff}]"),
}

GZIP, ZLIB, RAW = 31, 15, -15
"""Windows of zlib: gzip, and the two formats that clients call deflate."""
AT_ONCE = 16


def packed(window: int, *parts: bytes) -> bytes:
    stream = zlib.compressobj(9, zlib.DEFLATED, window)
    return b"".join([*map(stream.compress, parts), stream.flush()])


def bomb(window: int) -> bytes:
    """Return what inflates to four times `max_body`."""
    return packed(window, *[b" " * (64 * MIB)] * 4)


CODED: dict[str, tuple[int, str, Callable[[], bytes]]] = {
    "gzip": (202, "gzip", lambda: packed(GZIP, array(SIGNAL))),
    "gzip of spaces": (400, "gzip", lambda: packed(GZIP, b" " * SIZE)),
    "gzip of one event": (413, "gzip", lambda: packed(GZIP, BODIES["one event"][1]())),
    "gzip, many empty members": (202, "gzip", lambda: packed(GZIP) * 400_000 + packed(GZIP, SHORT)),
    "gzip, a bomb": (413, "gzip", lambda: bomb(GZIP)),
    "deflate": (202, "deflate", lambda: packed(ZLIB, array(SIGNAL))),
    "deflate of spaces": (400, "deflate", lambda: packed(ZLIB, b" " * SIZE)),
    "deflate, raw, of spaces": (400, "deflate", lambda: packed(RAW, b" " * SIZE)),
    "deflate, a bomb": (413, "deflate", lambda: bomb(ZLIB)),
}
"""About 60 KiB of the emptiest ones is 60 MiB: it comes in one read, and is inflated on the loop."""


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    directory = tmp_path_factory.mktemp("large")
    with ReceiverProcess(directory) as receiver, Daemon(directory, DOOR, UPSTREAM=receiver.url, LISTEN="") as daemon:
        yield daemon


def ask(daemon: Daemon, body: bytes, coding: str = "") -> int:
    """Post the body on a connection of its own; return the status."""
    with closing(http.client.HTTPConnection(daemon.http, timeout=120)) as connection:
        headers = {"Content-Type": "application/json"} | ({"Content-Encoding": coding} if coding else {})
        connection.request("POST", "/events", body, headers)
        return connection.getresponse().status


def stalled(daemon: Daemon, body: bytes, coding: str = "") -> tuple[int, Wait, set[int]]:
    """Post the body beside a client that posts small events; return the status, the worst wait, what was refused."""
    small = Pounder(daemon.http, batch=1)
    with LoopProbe(daemon.http, daemon.pid) as probe:
        small.start()
        status = ask(daemon, body, coding)
        small.stop()
    assert probe.failed == 0
    assert not small.poster.unanswered
    return status, probe.worst, small.poster.refused


@pytest.mark.parametrize("name", BODIES)
def test_a_60_mib_body_does_not_stall_the_loop(served: Daemon, name: str) -> None:
    wanted, make = BODIES[name]
    judge(served, name, wanted, make())


@pytest.mark.parametrize("name", CODED)
def test_a_compressed_body_does_not_stall_the_loop(served: Daemon, name: str) -> None:
    wanted, coding, make = CODED[name]
    judge(served, name, wanted, make(), coding)


def judge(served: Daemon, name: str, wanted: int, body: bytes, coding: str = "") -> None:
    worst = Wait(1e9, 1e9)
    for _ in range(ROUNDS):
        status, wait, refused = stalled(served, body, coding)
        assert status == wanted
        assert refused == set(), "a small event was refused because of a large body"
        worst = min(worst, wait)
        if worst.stall_s <= STALL_S / 2:
            break
    figures = f"stall {worst.stall_s:.3f} s, waited {worst.passed_s:.3f} s, {served.rss_bytes // MIB} MiB"
    print(f"{name}: {status}, {figures}")  # noqa: T201 - the figures for the docs
    assert worst.stall_s <= STALL_S


@pytest.mark.parametrize("name", ["gzip, a bomb", "deflate, a bomb", "gzip of spaces"])
def test_what_inflates_all_at_once_does_not_stall_the_loop(served: Daemon, name: str) -> None:
    wanted, coding, make = CODED[name]
    worst = Wait(1e9, 1e9)
    for _ in range(ROUNDS):
        statuses, wait = crowded(served, [make()] * AT_ONCE, coding)
        assert statuses == {wanted}
        worst = min(worst, wait)
    print(f"{AT_ONCE} × {name}: stall {worst.stall_s:.3f} s, waited {worst.passed_s:.3f} s")  # noqa: T201 - the figures for the docs
    assert worst.stall_s <= STALL_S


def crowded(daemon: Daemon, bodies: Sequence[bytes], coding: str) -> tuple[set[int], Wait]:
    """Post all at once; return the statuses and the worst wait at the admin listener, which stands in no line."""
    with (
        LoopProbe(daemon.admin, daemon.pid, path="/livez") as probe,
        ThreadPoolExecutor(len(bodies)) as clients,
    ):
        statuses = set(clients.map(lambda body: ask(daemon, body, coding), bodies))
    assert probe.failed == 0
    return statuses, probe.worst


def test_a_60_mib_body_is_taken_while_small_ones_never_cease(served: Daemon) -> None:
    pounders = [Pounder(served.http, first=1_000_000 * each, batch=20, build=Numbered.telemetrydeck) for each in (1, 2)]
    for pounder in pounders:
        pounder.start()
        pounder.wait_for_acknowledged(100)
    with closing(Poster(served.http, timeout_s=120)) as poster:
        statuses = [poster.post_body("/events", array(SIGNAL), ()) for _ in range(3)]
    for pounder in pounders:
        pounder.stop()
    assert statuses == [202] * 3
