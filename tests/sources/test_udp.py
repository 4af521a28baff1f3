"""Datagrams: every one is counted, as received, refused, shed or dropped by the kernel."""

import asyncio
import socket
from collections import deque
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import msgspec
import pytest

from forwarder.config.model import Address, Listen
from forwarder.core.seams import Busy, Durability
from forwarder.metrics import Metrics
from forwarder.sources import listen
from forwarder.sources.datagrams import LARGEST, RUN, OneByOne, Read, TooLarge
from forwarder.sources.udp import RUNS, TOGETHER, TURN, DatagramListener, UdpDoor
from forwarder.vendors.base import Checked, Refusal
from tests.support.fake_intake import BrokenIntake, FakeIntake, FakeRoute, FakeRouter
from tests.support.hand_clock import HandClock
from tests.support.send_buffer import widen


class Wired:
    """A datagram listener and a socket that sends to it."""

    def __init__(self, address: Address, **settings: object) -> None:
        self.intake = FakeIntake()
        self.metrics = Metrics()
        self.clock = HandClock()
        self.router = FakeRouter()
        self.samples: list[Refusal] = []
        self.settings = msgspec.structs.replace(Listen(), **settings)
        self.door = UdpDoor(
            router=self.router,
            intake=self.intake,
            settings=self.settings,
            durability=Durability.WRITTEN,
            metrics=self.metrics,
            clock=self.clock,
            samples=self._keep,
        )
        bound = listen.bind(address, socket.SOCK_DGRAM, key="listen.udp").sockets[0]
        place = bound.getsockname()
        self.sender = socket.socket(bound.family, socket.SOCK_DGRAM)
        self.sender.connect(address.unix or place)
        self.listener: DatagramListener = self.door.serve(bound, label="test")

    def _keep(self, label: str, refusals: Sequence[Refusal]) -> None:
        assert label == "test"
        self.samples += refusals

    @property
    def received(self) -> float:
        return self.metrics.received.at("test").value

    def refused(self, reason: str) -> float:
        return self.metrics.refused.at("test", reason).value

    def shed(self, reason: str) -> float:
        return self.metrics.shed.at("test", reason).value

    async def until(self, received: int) -> None:
        async with asyncio.timeout(10):
            while self.received < received:  # noqa: ASYNC110 - every turn of the loop is looked at
                await asyncio.sleep(0)


class Wire:
    """Makes wired listeners and takes them down."""

    def __init__(self) -> None:
        self.made: list[Wired] = []

    def __call__(self, address: Address | None = None, **settings: object) -> Wired:
        self.made.append(Wired(address or Address(host="127.0.0.1"), **settings))
        return self.made[-1]


@pytest.fixture
async def wire() -> AsyncIterator[Wire]:
    wire = Wire()
    yield wire
    for made in wire.made:
        made.intake.commit()
        await made.listener.drain(made.clock.monotonic() + 10)
        made.sender.close()
        assert made.door.held == 0


async def test_a_datagram_is_an_event_or_an_array(wire: Wire) -> None:
    wired = wire()
    wired.sender.send(b'{"ok":1}')
    wired.sender.send(b'[{"ok":2},{"ok":3}]')
    await wired.until(3)
    assert wired.intake.events == [b'{"ok":1}', b'{"ok":2}', b'{"ok":3}']
    assert set(wired.intake.levels) == {Durability.WRITTEN}
    assert wired.router.any.stamps[0] == b"2026-05-28T20:26:40.000Z"


async def test_a_unix_datagram_socket_takes_the_same(wire: Wire, tmp_path: Path) -> None:
    wired = wire(Address(unix=str(tmp_path / "events.sock")))
    wired.sender.send(b'{"ok":1}')
    await wired.until(1)
    assert wired.intake.events == [b'{"ok":1}']
    assert wired.listener.status().kind == "unix_datagram"


async def test_refused_events_are_counted_and_sampled(wire: Wire) -> None:
    wired = wire()
    for datagram in (b"nonsense", b"", b'[{"ok":1},{"no":2}]'):
        wired.sender.send(datagram)
    await wired.until(4)
    assert (wired.refused("not_json"), wired.refused("missing_field")) == (2, 1)
    assert [refusal.sample for refusal in wired.samples] == [b"nonsense", b"", b"sample"]
    assert wired.intake.events == [b'{"ok":1}']


async def test_a_datagram_beyond_the_buffer_is_refused_not_cut(wire: Wire, tmp_path: Path) -> None:
    wired = wire(Address(unix=str(tmp_path / "events.sock")))
    widen(wired.sender, 4 * LARGEST)
    wired.sender.settimeout(0)
    await asyncio.get_running_loop().sock_sendall(wired.sender, b"[" + b" " * LARGEST + b"]")
    await wired.until(1)
    assert wired.refused("too_large") == 1
    assert wired.intake.events == []


async def test_events_are_shed_with_the_reason_of_the_spool(wire: Wire) -> None:
    wired = wire()
    wired.intake.busy = Busy("telemetrydeck", "max_size", "full", 1)
    wired.sender.send(b'[{"ok":1},{"ok":2}]')
    await wired.until(2)
    assert wired.shed("max_size") == 2


async def test_events_of_a_failed_commit_are_shed(wire: Wire) -> None:
    wired = wire()
    wired.intake.prompt = False
    wired.sender.send(b'{"ok":1}')
    await wired.until(1)
    wired.intake.fail()
    assert wired.shed("commit_failed") == 1


async def test_an_intake_that_raises_costs_those_events_it_raised_for(wire: Wire) -> None:
    wired = wire()
    wired.door.intake = wired.intake = BrokenIntake()
    raised: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: raised.append(context.get("exception")))
    for received, event in enumerate((b'{"ok":"t0"}', b'{"ok":"t1"}', b'{"ok":"t2"}'), 1):
        wired.sender.send(event)
        await wired.until(received)
    assert wired.intake.events == [b'{"ok":"t0"}', b'{"ok":"t2"}']
    await asyncio.sleep(0)
    assert (wired.shed("commit_failed"), wired.door.held) == (1, 0)
    assert [type(each) for each in raised] == [ZeroDivisionError]


async def test_what_is_uncommitted_is_bounded(wire: Wire) -> None:
    wired = wire(max_inflight=20)
    wired.intake.prompt = False
    for number in range(5):
        wired.sender.send(b'{"ok":%d}' % number)
        await wired.until(number + 1)
    assert (len(wired.intake.events), wired.shed("inflight")) == (2, 3)
    wired.intake.commit()
    wired.sender.send(b'{"ok":9}')
    await wired.until(6)
    assert wired.intake.events[-1] == b'{"ok":9}'


async def test_a_run_of_datagrams_is_one_submission(wire: Wire) -> None:
    wired = wire()
    for number in range(RUN + 1):
        wired.sender.send(b'{"ok":%d}' % number)
    await wired.until(RUN + 1)
    assert wired.intake.events == [b'{"ok":%d}' % number for number in range(RUN + 1)]
    assert [len(group.events) for group in wired.intake.submitted] == [RUN, 1]
    assert sum(group.size for group in wired.intake.submitted) == sum(map(len, wired.intake.events))


class Prepared:
    """Reads what was prepared; then from the socket, which is readable as long as it has something."""

    def __init__(self, *reads: Read) -> None:
        self._reads = deque(reads)
        self.asked = 0

    def read(self, sock: socket.socket) -> Read:
        self.asked += 1
        return self._reads.popleft() if self._reads else OneByOne().read(sock)


def full(size: int) -> Read:
    """Return a full run of datagrams of `size` bytes."""
    return Read([b'{"ok":"%s"}' % (b"x" * (size - 9))] * RUN, [])


ONE_A_TURN = [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize(
    ("run", "turns"),
    [
        (full(300), [RUNS]),
        (full(TURN // RUN // 2), [2, 4, 6]),
        (full(TURN // RUN), ONE_A_TURN),
        (Read([b'{"ok":1}'] * (RUN - 1), [TooLarge(LARGEST + 1, b"[")]), ONE_A_TURN),
    ],
    ids=["small", "half a turn", "a turn", "one too large"],
)
async def test_a_turn_of_the_loop_takes_a_few_full_runs_unless_they_are_large(
    wire: Wire, run: Read, turns: list[int]
) -> None:
    """`turns`: after how many runs the loop goes on; what the socket itself has comes last."""
    wired = wire()
    wired.door.reader = Prepared(*[run] * 6)
    wired.sender.send(b'{"ok":1}')
    seen = [0.0]
    async with asyncio.timeout(10):
        while wired.received < 6 * RUN + 1:
            await asyncio.sleep(0)
            if wired.received != seen[-1]:
                seen.append(wired.received)
    assert seen == [0, *[count * RUN for count in turns], 6 * RUN + 1]


async def test_a_turn_takes_one_run_while_much_is_uncommitted(wire: Wire) -> None:
    wired = wire(max_inflight=4 * 300 * RUN)
    wired.intake.prompt = False
    wired.door.reader = Prepared(*[full(300)] * 4)
    wired.sender.send(b'{"ok":1}')
    seen = set[float]()
    async with asyncio.timeout(10):
        while wired.received < 4 * RUN:
            await asyncio.sleep(0)
            seen.add(wired.received)
    assert seen - {0, 4 * RUN + 1} == {3 * RUN, 4 * RUN}
    assert wired.shed("inflight") == 0


async def test_a_datagram_that_comes_alone_costs_one_reading(wire: Wire) -> None:
    wired = wire()
    wired.door.reader = reader = Prepared()
    wired.sender.send(b'{"ok":1}')
    await wired.until(1)
    assert reader.asked == 1


async def test_stopping_takes_all_that_the_kernel_has_however_large(wire: Wire) -> None:
    wired = wire()
    wired.door.reader = Prepared(*[full(TURN // RUN)] * 6)
    wired.sender.send(b'{"ok":1}')
    wired.listener.stop_accepting()
    assert wired.received == 6 * RUN + 1


async def test_every_datagram_is_either_received_or_counted_as_dropped_by_the_kernel(wire: Wire) -> None:
    wired = wire(udp_receive_buffer=16 * 1024)
    sent = 2_000
    for _ in range(sent):
        wired.sender.send(b'{"ok":"%s"}' % (b"x" * 300))
    wired.listener.stop_accepting()
    status = wired.listener.status()
    assert status.kernel_drops > 0
    assert wired.received + status.kernel_drops == sent
    assert wired.metrics.udp_kernel_drops.at("test").value == status.kernel_drops
    assert not status.accepting


async def test_the_receive_buffer_that_was_granted_is_reported(wire: Wire) -> None:
    status = wire(udp_receive_buffer=128 * 1024).listener.status()
    assert (status.receive_buffer, status.note) == (128 * 1024, "")
    greedy = wire(udp_receive_buffer=2**30).listener.status()
    assert greedy.receive_buffer == 2**30 or "net.core.rmem_max" in greedy.note


async def test_kernel_drops_are_polled_only_while_traffic_flows(wire: Wire) -> None:
    wired = wire()
    assert not wired.listener.polling
    wired.sender.send(b'{"ok":1}')
    await wired.until(1)
    assert wired.listener.polling


async def test_a_reload_changes_the_route(wire: Wire) -> None:
    wired = wire()
    changed = FakeRouter()
    changed.any.destination = "other"
    wired.door.configure(router=changed, settings=wired.settings, durability=Durability.FSYNC)
    wired.sender.send(b'{"ok":1}')
    await wired.until(1)
    assert wired.intake.submitted[0].destination == "other"
    assert wired.intake.levels == [Durability.FSYNC]


async def test_drain_takes_what_the_kernel_has_and_waits_for_its_commit(wire: Wire) -> None:
    wired = wire()
    wired.intake.prompt = False
    for _ in range(3):
        wired.sender.send(b'{"ok":1}')
    draining = asyncio.create_task(wired.listener.drain(wired.clock.monotonic() + 60))
    await wired.until(3)
    assert not draining.done()
    wired.intake.commit()
    await draining
    assert len(wired.intake.events) == 3


async def test_another_receive_buffer_is_asked_for_at_a_reload(wire: Wire) -> None:
    wired = wire(udp_receive_buffer=64 * 1024)
    wired.listener.ask(128 * 1024)
    assert wired.listener.status().receive_buffer == 128 * 1024


class Spy(FakeRoute):
    """Tells what is checked at once."""

    def __init__(self) -> None:
        super().__init__("telemetrydeck")
        self.together_bytes: list[int] = []

    def check_each(self, bodies: list[bytes], *, received_at: bytes) -> Checked | None:
        self.together_bytes.append(sum(map(len, bodies)))
        return None


async def test_a_run_of_large_datagrams_is_checked_one_by_one(wire: Wire, tmp_path: Path) -> None:
    """All at once they would be copied several times over, and stall the loop."""
    wired = wire(Address(unix=str(tmp_path / "socket")))
    wired.door.route = spy = Spy()
    large = b'{"ok":"' + b"x" * (LARGEST - 100) + b'"}'
    widen(wired.sender, 16 * LARGEST)
    many = TOGETHER // LARGEST + 2
    for _ in range(many):
        wired.sender.send(large)
    await wired.until(many)
    assert spy.together_bytes == []
    for _ in range(3):
        wired.sender.send(b'{"ok":1}')
    await wired.until(many + 3)
    assert spy.together_bytes == [3 * len(b'{"ok":1}')]
