"""P11: slow clients, clients that never read, and floods of connections and of bytes, at a real daemon."""

import asyncio
import contextlib
import re
import resource
import socket
import statistics
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from pathlib import Path

import msgspec
import pytest

from forwarder.config.model import Listen
from forwarder.sources.http import Times
from tests.prove.support.probe import LoopProbe
from tests.support.clients import Poster, Pounder
from tests.support.configs import DOOR
from tests.support.processes import DAEMON, Daemon, ReceiverProcess
from tests.support.raw_http import RawClient, post

pytestmark = pytest.mark.prove

MIB = 1024 * 1024
LIMIT = 300
LATE_S = 60
"""What a busy machine may take beyond a time-out."""
EARLY_S = 1.5
"""Time-outs are looked at once a second, by a clock that is renewed once a second."""
DRIP_S = 0.5
STALL_S = 0.4
TIMES = Times()
SIGNAL = b'[{"appID":"A","clientUser":"u","type":"t"}]'
UNFINISHED = post(b"x" * 1000)[:-1000]


class Fate(msgspec.Struct, frozen=True):
    """What became of a connection: how long it lasted, and what was answered."""

    lasted_s: float
    answer: bytes


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[ReceiverProcess]:
    with ReceiverProcess(tmp_path) as process:
        yield process


@pytest.fixture
def served(tmp_path: Path, receiver: ReceiverProcess) -> Iterator[Daemon]:
    with Daemon(tmp_path, DOOR, UPSTREAM=receiver.url, LISTEN=f"max_connections = {LIMIT}") as daemon:
        yield daemon


def place(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host, int(port)


async def drip(client: RawClient, data: bytes) -> None:
    """Send a byte now and then, for as long as somebody takes it."""
    with contextlib.suppress(ConnectionError):
        for at in range(len(data)):
            await client.say(data[at : at + 1])
            await asyncio.sleep(DRIP_S)


async def fate(daemon: Daemon, start: bytes, then: bytes = b"") -> Fate:
    """Say one thing at once and another in drops; wait until the daemon hangs up."""
    began = time.monotonic()
    async with await RawClient.open(place(daemon.http)) as client, asyncio.TaskGroup() as group:
        await client.say(start)
        dripping = group.create_task(drip(client, then))
        answer = b""
        with contextlib.suppress(ConnectionError):
            while piece := await client.reader.read(65536):
                answer += piece
        lasted_s = time.monotonic() - began
        dripping.cancel()
    return Fate(lasted_s, answer)


async def deaf(daemon: Daemon) -> Fate:
    """Ask and ask, and read no answer, until cut."""
    began = time.monotonic()
    client = await RawClient.open(place(daemon.http), receive_buffer=4096)
    client.writer.transport.pause_reading()  # type: ignore[attr-defined]
    with contextlib.suppress(ConnectionError):
        while True:
            await client.say(b"GET /nope HTTP/1.1\r\nHost: localhost\r\n\r\n")
    await drop([client])
    return Fate(time.monotonic() - began, b"")


async def regular(daemon: Daemon) -> list[int]:
    """Post an event twenty times a second on one connection until cancelled; return the statuses."""
    statuses: list[int] = []
    async with await RawClient.open(place(daemon.http)) as client:
        with contextlib.suppress(asyncio.CancelledError):
            while True:
                statuses.append((await client.ask(post(SIGNAL))).status)
                await asyncio.sleep(0.05)
    return statuses


async def test_p11_slow_clients_end_in_time_and_cost_the_others_nothing(served: Daemon) -> None:
    kinds = {
        "head": (TIMES.head_s, [fate(served, b"POST /v2/ HT", b"TP/1.1\r\nX: " + b"y" * 500) for _ in range(60)]),
        "body": (TIMES.body_s, [fate(served, UNFINISHED, b"x" * 500) for _ in range(60)]),
        "idle": (TIMES.idle_s, [fate(served, post(SIGNAL)) for _ in range(60)]),
        "deaf": (TIMES.write_s, [deaf(served) for _ in range(4)]),
    }
    resident = served.rss_bytes
    with LoopProbe(served.http, served.pid) as probe:
        good = asyncio.create_task(regular(served))
        ends = await asyncio.gather(*(asyncio.gather(*coroutines) for _, coroutines in kinds.values()))
        good.cancel()
        statuses = await good
    fates = dict(zip(kinds, ends, strict=True))
    for kind, (limit_s, _) in kinds.items():
        shortest, longest = (pick(each.lasted_s for each in fates[kind]) for pick in (min, max))
        assert limit_s - EARLY_S <= shortest, kind
        assert longest <= limit_s + TIMES.close_s + LATE_S, kind
    assert all(b" 408 " in each.answer and b"head took too long" in each.answer for each in fates["head"])
    assert all(b" 408 " in each.answer and b"body took too long" in each.answer for each in fates["body"])
    assert all(each.answer.count(b"HTTP/1.1 200 ") == 1 and b" 408 " not in each.answer for each in fates["idle"])
    assert len(statuses) > 100
    assert set(statuses) == {200}
    assert probe.worst.stall_s <= STALL_S
    assert served.rss_bytes - resident < 32 * MIB


async def flood(daemon: Daemon, count: int) -> list[bytes]:
    """Open so many connections at once; return what each was told. None of them asks for anything."""
    clients = [await RawClient.open(place(daemon.http)) for _ in range(count)]
    told = await asyncio.gather(*(client.rest() for client in clients))
    await drop(clients)
    return told


async def drop(clients: Sequence[RawClient]) -> None:
    """Cut these connections, and let the loop close their sockets."""
    for client in clients:
        client.writer.transport.abort()
    for client in clients:
        with contextlib.suppress(ConnectionError):
            await client.writer.wait_closed()


async def test_p11_a_flood_of_connections_is_told_so_and_starves_neither_those_within_nor_the_admin_listener(
    served: Daemon,
) -> None:
    good = Pounder(served.http, batch=1)
    good.start()
    good.wait_for_acknowledged(50)
    with LoopProbe(served.admin, served.pid, path="/livez") as calm:
        await asyncio.sleep(2)
    inside = [await RawClient.open(place(served.http)) for _ in range(LIMIT - 1)]
    answers = [await client.ask(post(SIGNAL)) for client in inside]
    assert {answer.status for answer in answers} == {200}
    told: list[bytes] = []
    with LoopProbe(served.admin, served.pid, path="/livez") as probe:
        for _ in range(20):
            told += await flood(served, LIMIT // 2)
    assert all(re.match(rb"HTTP/1\.1 503 .*Retry-After: 1\r\n", each, re.DOTALL) for each in told)
    again = [await client.ask(post(SIGNAL)) for client in inside]
    assert {answer.status for answer in again} == {200}
    good.stop()
    assert not good.poster.refused
    assert not good.poster.unanswered
    usual, crowded = (statistics.median(wait.passed_s for wait in each.waits) for each in (calm, probe))
    print(f"livez: {usual * 1000:.1f} ms, in the flood {crowded * 1000:.1f} ms, worst {probe.worst}")  # noqa: T201
    assert probe.failed == 0
    assert probe.worst.stall_s <= STALL_S
    assert crowded <= 20 * usual + 0.05
    metrics = served.metrics()
    assert metrics[
        f'forwarder_refused_events_total{{listener="http:{served.http}",reason="too_many_connections"}}'
    ] == len(told)
    await drop(inside)
    async with await RawClient.open(place(served.http)) as late:
        assert (await late.ask(post(SIGNAL))).status == 200


async def test_p11_beyond_twice_the_limit_connections_are_cut_and_the_daemon_lives(served: Daemon) -> None:
    clients = [await RawClient.open(place(served.http)) for _ in range(3 * LIMIT)]
    told = await asyncio.gather(*(client.rest() for client in clients[2 * LIMIT :]))
    assert {each in (b"", b"(reset)") or each.startswith(b"HTTP/1.1 503 ") for each in told} == {True}
    assert served.get("/livez")[0] == 200
    assert (await clients[0].ask(post(SIGNAL))).status == 200
    await drop(clients)


USUAL = ("sh", "-c", 'ulimit -S -n 1024 && exec "$@"', "sh", *DAEMON)
"""The daemon with the soft limit of open files that most systems give."""
CROWD = 5000


@pytest.fixture
def many_files() -> Iterator[None]:
    """Let this process, which plays the clients, have enough descriptors itself."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, CROWD + 500), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.usefixtures("many_files")
def test_p11_with_the_usual_limit_of_open_files_all_connections_within_the_default_are_served(
    tmp_path: Path, receiver: ReceiverProcess
) -> None:
    within = Listen().max_connections
    with (
        Daemon(tmp_path, DOOR, command=USUAL, UPSTREAM=receiver.url, LISTEN="") as daemon,
        LoopProbe(daemon.admin, daemon.pid, path="/livez") as probe,
        ExitStack() as stack,
    ):
        clients = [stack.enter_context(socket.create_connection(place(daemon.http), timeout=60)) for _ in range(CROWD)]
        for client in clients[:within]:
            client.sendall(post(SIGNAL))
        statuses = Counter(int(client.recv(4096).split()[1]) for client in clients)
        assert statuses == {200: within, 503: CROWD - within}
        assert daemon.get("/readyz")[0] == 200
    assert probe.failed == 0
    assert probe.worst.stall_s <= STALL_S


MAX_INFLIGHT = 128 * MIB
MAX_BODY = 64 * MIB
SLACK = 3 * MAX_BODY
"""Beside `max_inflight`: a copy of one body while it is checked, one while it is committed, one that malloc keeps."""
ANSWERED = 40


class Senders:
    """Clients that send one large body each, all at once, until enough of them have an answer."""

    def __init__(self, daemon: Daemon, bodies: Sequence[Sequence[bytes]]) -> None:
        self._place = place(daemon.http)
        self._bodies = bodies
        self._sockets: list[socket.socket] = []
        self._news = threading.Condition()
        self.statuses: dict[int, int] = {}

    def run(self, enough: int) -> None:
        threads = [threading.Thread(target=self._send, args=(at,), daemon=True) for at in range(len(self._bodies))]
        for thread in threads:
            self._sockets.append(socket.create_connection(self._place, timeout=600))
            thread.start()
        with self._news:
            assert self._news.wait_for(lambda: len(self.statuses) >= enough, 600)
        for sock in self._sockets:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in threads:
            thread.join()
        for sock in self._sockets:
            sock.close()

    def _send(self, at: int) -> None:
        sock, parts = self._sockets[at], self._bodies[at]
        with contextlib.suppress(OSError):
            sock.sendall(post(b"").replace(b"Length: 0", b"Length: %d" % sum(map(len, parts))))
            for part in parts:
                sock.sendall(part)
            answer = sock.recv(64)
            with self._news:
                if answer:
                    self.statuses[at] = int(answer.split()[1])
                self._news.notify_all()


def peak_bytes(daemon: Daemon) -> int:
    """Return the most that was resident since `forget_peak`."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{daemon.pid}/status").read_text())
    assert found is not None
    return int(found[1]) * 1024


def forget_peak(daemon: Daemon) -> None:
    Path(f"/proc/{daemon.pid}/clear_refs").write_text("5")


def test_256_clients_with_bodies_of_64_mib_stay_inside_max_inflight(served: Daemon) -> None:
    """All are sent at once; those whose turn comes are read to the end and checked, one in eight of them is stored."""
    event = b'{"appID":"A","clientUser":"u","type":"t","x":"%s"},' % (b"y" * 900_000)
    most = b"[" + event * (MAX_BODY // len(event) - 1)
    good, bad = (most, event[:-1] + b"]"), (most, event[:-1] + b"x")
    with closing(Poster(served.http)) as poster:
        assert poster.post("/v2/", range(1000)) == 200
    baseline = served.rss_bytes
    forget_peak(served)
    senders = Senders(served, [bad if at % 8 else good for at in range(256)])
    began, used = time.monotonic(), served.cpu_s
    with LoopProbe(served.admin, served.pid, path="/livez") as probe:
        senders.run(ANSWERED)
    grown = peak_bytes(served) - baseline
    took = f"{time.monotonic() - began:.0f} s, {served.cpu_s - used:.0f} s of processor"
    print(f"{grown // MIB} MiB above {baseline // MIB} MiB, {probe.worst}, {took}")  # noqa: T201 - the figures for the docs
    assert {(at % 8 == 0, status) for at, status in senders.statuses.items()} == {(True, 200), (False, 400)}
    assert probe.failed == 0
    assert probe.worst.stall_s <= STALL_S
    assert grown <= MAX_INFLIGHT + SLACK
