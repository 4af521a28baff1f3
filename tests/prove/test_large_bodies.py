"""The worst bodies against a real daemon: the loop goes on meanwhile, and a good body is taken.

`pytest -m prove tests/prove/test_large_bodies.py -s` prints the figures of docs/HTTP.md.
"""

from collections.abc import Callable, Iterator
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


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    directory = tmp_path_factory.mktemp("large")
    with ReceiverProcess(directory) as receiver, Daemon(directory, DOOR, UPSTREAM=receiver.url, LISTEN="") as daemon:
        yield daemon


def stalled(daemon: Daemon, body: bytes) -> tuple[int, Wait, set[int]]:
    """Post the body beside a client that posts small events; return the status, the worst wait, what was refused."""
    small = Pounder(daemon.http, batch=1)
    with LoopProbe(daemon.http, daemon.pid) as probe, closing(Poster(daemon.http, timeout_s=120)) as poster:
        small.start()
        status = poster.post_body("/events", body, ())
        small.stop()
    assert probe.failed == 0
    assert not small.poster.unanswered
    return status, probe.worst, small.poster.refused


@pytest.mark.parametrize("name", BODIES)
def test_a_60_mib_body_does_not_stall_the_loop(served: Daemon, name: str) -> None:
    wanted, make = BODIES[name]
    body = make()
    worst = Wait(1e9, 1e9)
    for _ in range(ROUNDS):
        status, wait, refused = stalled(served, body)
        assert status == wanted
        assert refused == set(), "a small event was refused because of a large body"
        worst = min(worst, wait)
        if worst.stall_s <= STALL_S / 2:
            break
    figures = f"stall {worst.stall_s:.3f} s, waited {worst.passed_s:.3f} s, {served.rss_bytes // MIB} MiB"
    print(f"{name}: {status}, {figures}")  # noqa: T201 - the figures for the docs
    assert worst.stall_s <= STALL_S


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
