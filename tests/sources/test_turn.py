"""What one turn of the loop brings, taken together: nobody may be able to tell."""

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import msgspec
import pytest
from httptools import HttpParserCallbackError

from forwarder.config.model import Destination
from forwarder.core.seams import Busy, Done, Durability, Failed, Group, Stored
from forwarder.sources import familiar, turn
from forwarder.sources.connection import Connection
from forwarder.sources.exchange import AWAITED
from forwarder.sources.http import HttpListener
from forwarder.vendors.base import BadRequest, Checked
from forwarder.vendors.router import DestinationRouter
from tests.sources.memory_door import MemoryTransport, memory_door
from tests.support.fake_intake import BrokenIntake, FakeIntake, FakeRoute, FakeRouter
from tests.support.raw_http import post

FULL = Busy("telemetrydeck", "max_size", "telemetrydeck: the spool is full", 30)
SIGNAL = b'{"appID":"%s","clientUser":"u","type":"t%d"}'


class Client:
    """One connection: small reads are left for the end of the turn, as the loop would."""

    def __init__(self, listener: HttpListener) -> None:
        self.door = listener.door
        self.transport = MemoryTransport()
        self.connection = Connection(listener)
        self.connection.connection_made(self.transport)

    def send(self, data: bytes) -> None:
        self.connection.data_received(data)

    @property
    def statuses(self) -> list[int]:
        return [int(part[:3]) for part in self.transport.written.split(b"HTTP/1.1 ")[1:]]


class NarrowIntake(FakeIntake):
    """Has room for groups of so many events only."""

    room = 1

    def submit(self, groups: Sequence[Group], level: Durability, done: Done) -> Busy | None:
        if sum(len(group.events) for group in groups) > self.room:
            return FULL
        return super().submit(groups, level, done)


def signal(number: int, app: bytes = b"a") -> bytes:
    return b"[" + SIGNAL % (app, number) + b"]"


async def real(*kinds: str, clients: int = 8, intake: FakeIntake | None = None) -> tuple[list[Client], FakeIntake]:
    """Return clients of a door with the real router, each with its head known already."""
    door, listener, fake = memory_door()
    fake = intake or fake
    door.turn._intake = fake
    destinations = [Destination(name=kind, kind=kind, url="http://127.0.0.1:1") for kind in kinds]  # type: ignore[arg-type]
    router = DestinationRouter(destinations, secret=lambda _name: None, max_event=1000)
    door.configure(router=router, settings=door.rules.settings, durability=Durability.FSYNC)
    listener.obey(door.rules)
    made = [Client(listener) for _ in range(clients)]
    for client in made * 2:  # the second time the head is known, and kept for this size
        client.send(post(signal(0)))
        door.turn.end()
        client.transport.written = b""
    fake.submitted.clear()
    fake.levels.clear()
    return made, fake


def names(intake: FakeIntake) -> list[str]:
    return [msgspec.json.decode(event)["type"] for event in intake.events]


async def test_requests_of_one_turn_are_one_submission_in_their_order() -> None:
    clients, intake = await real("telemetrydeck")
    for number, client in enumerate(clients):
        client.send(post(signal(number)))
    assert intake.submitted == []
    clients[0].door.turn.end()
    assert [len(group.events) for group in intake.submitted] == [8]
    assert names(intake) == [f"t{number}" for number in range(8)]
    assert all(b'"receivedAt":"' in event for event in intake.events)
    assert [client.statuses for client in clients] == [[200]] * 8
    assert clients[0].door.metrics.received.at("memory").value == 24


async def test_one_that_is_not_plain_costs_only_itself() -> None:
    clients, intake = await real("telemetrydeck")
    bodies = [signal(number) for number in range(8)]
    bodies[1] = b'[{"appID":"a"}]'
    bodies[2] = b"[nonsense]"
    bodies[3] = b"[" + SIGNAL % (b"a", 31) + b"," + SIGNAL % (b"a", 32) + b"]"
    bodies[4] = b'[{"x":"\xff",' + (SIGNAL % (b"a", 4))[1:] + b"]"
    for client, body in zip(clients, bodies, strict=True):
        client.send(post(body))
    clients[0].door.turn.end()
    await asyncio.sleep(0)  # what is refused while it is read is answered in the next turn
    assert [client.statuses for client in clients] == [[200], [400], [400], [200], [400], [200], [200], [200]]
    assert sorted(names(intake)) == ["t0", "t31", "t32", "t5", "t6", "t7"]


async def test_halves_of_two_requests_do_not_make_a_whole() -> None:
    clients, intake = await real("telemetrydeck")
    whole = signal(1)
    for client, body in zip(clients, [whole[:20], whole[20:], signal(2), signal(3), signal(4)], strict=False):
        client.send(post(body))
    clients[0].door.turn.end()
    await asyncio.sleep(0)
    assert [client.statuses for client in clients[:5]] == [[400], [400], [200], [200], [200]]
    assert names(intake) == ["t2", "t3", "t4"]


async def test_apps_are_kept_apart() -> None:
    clients, intake = await real("telemetrydeck")
    for number, client in enumerate(clients):
        client.send(post(signal(number, app=b"ab"[number % 2 : number % 2 + 1])))
    clients[0].door.turn.end()
    assert [(group.batch_key, len(group.events)) for group in intake.submitted] == [(b"/v2/\0a", 4), (b"/v2/\0b", 4)]


async def test_where_there_is_no_room_for_all_each_is_asked_for_alone() -> None:
    clients, intake = await real("telemetrydeck", intake=NarrowIntake())
    for number, client in enumerate(clients[:3]):
        client.send(post(signal(number)))
    clients[3].send(post(b"[" + SIGNAL % (b"a", 31) + b"," + SIGNAL % (b"a", 32) + b"]"))
    clients[0].door.turn.end()
    assert [client.statuses for client in clients[:4]] == [[200], [200], [200], [503]]
    assert names(intake) == ["t0", "t1", "t2"]
    assert clients[0].door.inflight.held == 0


async def test_a_failed_commit_fails_every_request_of_it() -> None:
    clients, intake = await real("telemetrydeck")
    intake.prompt = False
    for number, client in enumerate(clients):
        client.send(post(signal(number)))
    clients[0].door.turn.end()
    assert [client.statuses for client in clients] == [[]] * 8
    intake.fail()
    assert [client.statuses for client in clients] == [[503]] * 8
    assert clients[0].door.inflight.held == 0


async def test_every_request_has_its_own_level() -> None:
    clients, intake = await real("telemetrydeck", clients=3)
    clients[0].door.rules.settings = msgspec.structs.replace(clients[0].door.rules.settings, allow_lower_ack=True)
    clients[0].send(post(signal(0)))
    clients[1].send(post(signal(1)).replace(b"/v2/", b"/v2/?ack=written"))
    clients[2].send(post(signal(2)))
    clients[0].door.turn.end()
    assert sorted(names(intake)) == ["t0", "t1", "t2"]
    assert intake.levels == [Durability.WRITTEN, Durability.FSYNC]
    levels = [b"Forwarder-Ack: " + level for level in (b"fsync", b"written", b"fsync")]
    assert all(level in client.transport.written for level, client in zip(levels, clients, strict=True))


async def test_persons_keep_their_order_across_paths_of_one_connection() -> None:
    clients, intake = await real("telemetrydeck", "encharge", clients=1)
    person = b'{"name":"%d","user":{"email":"a@b.c"}}'
    paths = (b"/v1", b"/events", b"/v1", b"/events?destination=encharge", b"/v1")
    for _ in range(3):  # the third time all heads are known
        intake.submitted.clear()
        requests = [post(person % number).replace(b"/v2/", path) for number, path in enumerate(paths)]
        clients[0].send(b"".join(requests))
        clients[0].door.turn.end()
        assert [msgspec.json.decode(event)["name"] for event in intake.events] == ["0", "1", "2", "3", "4"]


async def test_the_end_of_a_connection_does_not_lose_what_it_sent_in_the_same_turn() -> None:
    clients, intake = await real("telemetrydeck", clients=2)
    clients[0].send(post(signal(0)))
    clients[0].connection.connection_lost(ConnectionResetError())
    clients[1].send(post(signal(1)))
    assert clients[1].connection.eof_received()
    clients[1].door.turn.end()
    assert clients[1].statuses == [200]
    assert names(intake) == ["t0", "t1"]
    assert clients[1].door.inflight.held == 0


async def test_a_second_read_of_one_connection_comes_behind_the_first() -> None:
    clients, intake = await real("telemetrydeck", clients=1)
    request = post(signal(1))
    clients[0].send(post(signal(0)) + request[:30])
    clients[0].send(request[30:])
    clients[0].door.turn.end()
    assert names(intake) == ["t0", "t1"]


async def test_a_second_request_goes_behind_the_one_that_waits_in_a_burst() -> None:
    clients, intake = await real("telemetrydeck", clients=2)
    clients[0].send(post(signal(0)))
    clients[1].send(post(signal(1)))
    clients[0].send(post(signal(2)))
    assert names(intake) == ["t0", "t1"]
    clients[0].door.turn.end()
    assert names(intake) == ["t0", "t1", "t2"]


async def test_a_body_that_reads_like_a_known_request_is_a_body() -> None:
    clients, intake = await real("telemetrydeck", clients=1)
    request = post(signal(1))
    head, _, _ = post(request).partition(request)
    clients[0].send(head)
    clients[0].send(request)
    clients[0].door.turn.end()
    await asyncio.sleep(0)
    assert intake.events == []
    assert clients[0].statuses == [400]


async def test_a_known_request_behind_a_refusal_is_not_read() -> None:
    clients, intake = await real("telemetrydeck", clients=1)
    clients[0].send(post(signal(1))[:-1])
    clients[0].connection.sweep(2000.0)  # its time is over
    await asyncio.sleep(0)
    clients[0].send(post(signal(1)))
    clients[0].door.turn.end()
    assert clients[0].statuses == [408]
    assert intake.events == []


async def test_a_known_request_waits_behind_what_memory_had_no_room_for() -> None:
    clients, intake = await real("telemetrydeck", clients=3)
    inflight = clients[0].door.inflight
    intake.prompt, inflight.shared = False, 1
    for number, client in enumerate(clients):  # the first is within the limit, the second is the elder
        client.send(post(signal(number)))
    clients[0].door.turn.end()
    assert not clients[2].transport.reading
    inflight.shared = 1_000_000
    clients[2].send(post(signal(3)))
    for _ in range(3):
        clients[0].door.turn.end()
        intake.commit()
        await asyncio.sleep(0)
    assert names(intake)[2:] == ["t2", "t3"]
    assert clients[2].statuses == [200, 200]


async def test_only_connections_that_are_there_are_asked_to_take_care() -> None:
    clients, _ = await real("telemetrydeck", clients=3)
    clients[0].connection.connection_lost(None)
    clients[1].transport.closed = True
    clients[0].door.take_care()
    assert [client.connection.careful for client in clients] == [False, False, True]
    assert clients[0].door.careless == {clients[1].connection}
    clients[1].connection.connection_lost(None)
    assert not clients[0].door.careless


async def test_connections_that_wait_for_something_else_hold_no_more_than_memory_has_room_for() -> None:
    clients, _ = await real("telemetrydeck", clients=8)
    door = clients[0].door
    door.inflight.shared = 50_000
    for number, client in enumerate(clients):
        client.connection.pause_writing()
        assert client.connection.careful is (number > 4)
        for _ in range(2):  # the second one comes while the connection is paused
            client.send(b"x" * 5000)
    assert not door.careless


async def test_where_a_token_is_asked_for_nobody_is_compared_with_the_head_of_others() -> None:
    clients, _ = await real("telemetrydeck", clients=1)
    listener = clients[0].connection.listener
    assert Client(listener).connection.known is not None
    listener.rules.token = "secret"  # noqa: S105 - of no importance
    assert Client(listener).connection.known is None


async def test_who_comes_while_memory_is_short_reads_with_care_from_the_start() -> None:
    clients, _ = await real("telemetrydeck", clients=1)
    clients[0].door.inflight.shared = 0
    assert Client(clients[0].connection.listener).connection.careful


async def test_a_new_connection_tries_the_head_that_others_sent_last() -> None:
    clients, intake = await real("telemetrydeck", clients=1)
    new = [Client(clients[0].connection.listener) for _ in range(4)]
    for number, client in enumerate(new):
        client.send(post(signal(number)))
        assert list(client.connection.owed) == [AWAITED]
    new[0].door.turn.end()
    assert [len(group.events) for group in intake.submitted] == [4]
    new[0].connection.listener.obey(new[0].door.rules)  # a reload: no head is known any more
    assert Client(clients[0].connection.listener).connection.known is None


class BrokenRoute(FakeRoute):
    """A route with a bug."""

    def check(self, body: bytes, *, received_at: bytes, presented_key: bytes | None = None) -> Checked | BadRequest:
        if b"broken" in body:
            raise ZeroDivisionError
        return super().check(body, received_at=received_at, presented_key=presented_key)


async def test_one_request_that_raises_costs_the_others_nothing() -> None:
    door, listener, intake = memory_door()
    router = FakeRouter()
    router.telemetrydeck = BrokenRoute("telemetrydeck")
    door.configure(router=router, settings=door.rules.settings, durability=Durability.FSYNC)
    listener.obey(door.rules)
    clients = [Client(listener) for _ in range(5)]
    for attempt in range(3):  # the second time the head is known; then it is in a burst
        intake.submitted.clear()
        raised = 0
        steps: list[Callable[[], None]] = [
            partial(client.send, post(b'{"ok":"broken"}' if number == 1 else b'{"ok":"%06d"}' % number))
            for number, client in enumerate(clients)
        ]
        for step in (*steps, door.turn.end, door.turn.end):
            try:
                step()
            except (ZeroDivisionError, HttpParserCallbackError):
                raised += 1
                clients[1].connection.connection_lost(None)
                clients[1] = Client(listener)
        assert raised == 1, attempt
        await asyncio.sleep(0)
        assert sorted(intake.events) == [b'{"ok":"%06d"}' % number for number in (0, 2, 3, 4)]


class BrokenNarrowIntake(BrokenIntake, NarrowIntake):
    """The same, and it has room for single events only."""

    bad = b"t2"

    def submit(self, groups: Sequence[Group], level: Durability, done: Done) -> Busy | None:
        if sum(len(group.events) for group in groups) > self.room:
            return FULL
        return super().submit(groups, level, done)


@pytest.mark.parametrize("ack", [b"", b"Forwarder-Ack: delivered\r\n"])
async def test_an_intake_that_raises_costs_those_it_raised_for_a_503_and_the_others_nothing(ack: bytes) -> None:
    clients, intake = await real("telemetrydeck", clients=3, intake=BrokenIntake())
    intake.prompt = False
    raised: list[BaseException | None] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: raised.append(context.get("exception")))
    for number, client in enumerate(clients):
        client.send(post(signal(number, b"app%d" % number), ack))
    clients[0].door.turn.end()
    intake.commit()
    intake.deliver()
    await asyncio.sleep(0)
    assert [client.statuses for client in clients] == [[200], [503], [200]]
    assert b"internal error" in clients[1].transport.written
    assert [type(each) for each in raised] == [ZeroDivisionError]
    assert names(intake) == ["t0", "t2"]
    assert clients[0].door.inflight.held == 0


async def test_an_intake_that_raises_for_one_of_those_that_are_asked_for_alone_costs_only_that_one() -> None:
    clients, intake = await real("telemetrydeck", clients=5, intake=BrokenNarrowIntake())
    asyncio.get_running_loop().set_exception_handler(lambda _loop, _context: None)
    for number, client in enumerate(clients):
        client.send(post(signal(number)))
    clients[0].door.turn.end()
    await asyncio.sleep(0)
    assert [client.statuses for client in clients] == [[200], [200], [503], [200], [200]]
    assert names(intake) == ["t0", "t1", "t3", "t4"]
    assert clients[0].door.inflight.held == 0


async def test_a_turn_ends_once_and_the_next_one_ends_too_whatever_happened_in_it() -> None:
    clients, intake = await real("telemetrydeck", clients=2)
    turn_ = clients[0].door.turn
    clients[0].send(post(signal(0)))
    await asyncio.sleep(0)
    assert clients[0].statuses == [200]
    assert not turn_._awaited
    turn_._intake = BrokenIntake()
    raised: list[BaseException | None] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: raised.append(context.get("exception")))
    clients[0].send(post(signal(1)))
    await asyncio.sleep(0)
    assert [type(each) for each in raised] == [ZeroDivisionError]
    await asyncio.sleep(0)
    assert clients[0].statuses == [200, 503]
    turn_._intake = intake
    clients[1].send(post(signal(2)))
    await asyncio.sleep(0)
    assert clients[1].statuses == [200]


async def test_a_request_behind_one_that_waits_for_its_commit_leaves_the_bursts_of_others_alone() -> None:
    clients, intake = await real("telemetrydeck", clients=2)
    intake.prompt = False
    clients[0].send(b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n" + post(signal(0)) * 2)
    clients[0].door.turn.end()
    clients[1].send(post(signal(1)))
    clients[0].send(post(signal(2)))
    assert names(intake) == ["t0", "t0"]
    assert list(clients[1].connection.owed) == [AWAITED]


class BrokenTransport(MemoryTransport):
    """A transport with a bug."""

    def write(self, data: Any) -> None:
        raise ZeroDivisionError


async def left_in_a_burst(clients: list[Client], intake: FakeIntake) -> None:
    """Let every client send one request of the kind that bursts are made of, and leave its commit open."""
    intake.prompt = False
    for number, client in enumerate(clients):
        client.send(post(signal(number)))
    clients[0].door.turn.end()
    assert [list(client.connection.owed) for client in clients] == [[AWAITED]] * len(clients)


async def test_one_answer_that_cannot_be_written_costs_the_others_nothing() -> None:
    clients, intake = await real("telemetrydeck")
    clients[3].connection._transport = BrokenTransport()
    await left_in_a_burst(clients, intake)
    with pytest.raises(ZeroDivisionError):
        intake.commit()
    await asyncio.sleep(0)
    assert [client.statuses for client in clients] == [[200]] * 3 + [[]] + [[200]] * 4
    assert clients[0].door.inflight.held == 0


async def test_a_half_closed_client_still_gets_its_answer_from_a_burst() -> None:
    clients, intake = await real("telemetrydeck")
    await left_in_a_burst(clients, intake)
    assert clients[0].connection.eof_received()
    intake.commit()
    assert [client.statuses for client in clients] == [[200]] * 8
    assert [client.transport.closed for client in clients] == [True] + [False] * 7


async def test_while_draining_the_answers_of_a_burst_say_that_they_are_the_last() -> None:
    clients, intake = await real("telemetrydeck")
    await left_in_a_burst(clients, intake)
    clients[0].connection.listener.dismiss()
    clients[1].connection.end()
    intake.commit()
    assert [client.statuses for client in clients] == [[200]] * 8
    assert b"Connection: close" in clients[0].transport.written
    assert b"Connection: close" in clients[1].transport.written
    assert clients[0].transport.closed


async def test_a_client_that_is_gone_before_the_commit_is_not_answered() -> None:
    clients, intake = await real("telemetrydeck")
    await left_in_a_burst(clients, intake)
    clients[5].connection.connection_lost(ConnectionResetError())
    intake.commit()
    assert [bool(client.statuses) for client in clients] == [True] * 5 + [False] + [True] * 2
    assert clients[0].door.inflight.held == 0


async def test_answers_keep_their_order_behind_a_burst() -> None:
    clients, intake = await real("telemetrydeck")
    await left_in_a_burst(clients, intake)
    clients[0].send(b"GET /nowhere HTTP/1.1\r\nHost: a\r\n\r\n" + post(signal(9)))
    clients[0].door.turn.end()
    await asyncio.sleep(0)
    assert clients[0].statuses == []
    intake.commit(1)
    await asyncio.sleep(0)
    assert clients[0].statuses == [200, 404]
    intake.commit()
    await asyncio.sleep(0)
    assert clients[0].statuses == [200, 404, 200]
    assert names(intake)[-1] == "t9"


async def test_a_burst_stops_where_memory_is_short() -> None:
    clients, intake = await real("telemetrydeck")
    size = len(signal(0))
    clients[0].door.inflight.shared = 2 * size
    intake.prompt = False
    for number, client in enumerate(clients):
        client.send(post(signal(number)))
    clients[0].door.turn.end()
    assert clients[0].door.inflight.held <= 8 * len(post(signal(0)))
    assert len(intake.events) == 3  # two for whom there was room, and the elder
    while intake.waiting:
        intake.commit()
        clients[0].door.turn.end()
        await asyncio.sleep(0)
    assert [client.statuses for client in clients] == [[200]] * 8
    assert sorted(names(intake)) == [f"t{number}" for number in range(8)]
    assert clients[0].door.inflight.held == 0


async def test_a_client_that_does_not_read_its_answers_is_in_no_burst() -> None:
    clients, intake = await real("telemetrydeck")
    clients[0].connection.pause_writing()
    for number, client in enumerate(clients):
        client.send(post(signal(number)))
    clients[0].door.turn.end()
    assert names(intake) == [f"t{number}" for number in range(1, 8)]
    clients[0].connection.resume_writing()
    clients[0].door.turn.end()
    assert names(intake) == [f"t{number}" for number in (1, 2, 3, 4, 5, 6, 7, 0)]


async def test_heads_that_differ_by_client_are_one_submission_all_the_same() -> None:
    clients, intake = await real("telemetrydeck")
    for _ in range(3):  # read; then known; then known with its size
        intake.submitted.clear()
        for number, client in enumerate(clients):
            client.send(post(signal(number)).replace(b"Host: ", b"X-Client: %d\r\nHost: " % number))
        clients[0].door.turn.end()
    assert [len(group.events) for group in intake.submitted] == [8]


async def test_a_head_with_headers_that_mean_nothing_here_is_known_too() -> None:
    clients, _ = await real("telemetrydeck", clients=1)
    request = post(signal(1)).replace(b"Host:", b"User-Agent: Swift\r\nHost:", 1)
    for _ in range(2):
        clients[0].send(request)
        clients[0].door.turn.end()
    assert clients[0].statuses == [200, 200]
    known = clients[0].connection.known
    assert known is not None
    assert known.body(request, 0) is not None


async def test_whole_heads_are_kept_within_a_bound() -> None:
    clients, _ = await real("telemetrydeck", clients=1)
    known = clients[0].connection.known
    assert known is not None
    assert len(known.whole) == 1
    familiar_heads = clients[0].connection.listener.familiar
    for size in range(5000):
        familiar_heads.keep(known, size, bytes(1000))
        assert sum(map(len, known.whole.values())) <= familiar.MAX_KEPT + 2000
    familiar_heads.forget()
    assert known.whole == {}
    familiar_heads.keep(known, 1, b"head")
    assert known.whole == {}  # nobody would ever clear it


class PromptMemory(FakeIntake):
    """Answers at once what need not be written, as the spool does."""

    def submit(self, groups: Sequence[Group], level: Durability, done: Done) -> Busy | None:
        if level is not Durability.MEMORY:
            return super().submit(groups, level, done)
        self.submitted += groups
        done(Stored(Durability.MEMORY))
        return None


async def test_a_request_that_an_answer_lets_in_is_not_lost_between_two_levels() -> None:
    """The first level is submitted and answered while the second waits to be gathered under the same key."""
    clients, intake = await real("telemetrydeck", clients=4, intake=PromptMemory())
    door = clients[0].door
    door.rules.settings = msgspec.structs.replace(door.rules.settings, allow_lower_ack=True)
    intake.prompt = False
    clients[3].send(post(signal(3)))
    door.turn.end()
    door.inflight.shared, door.inflight.elder = 1, clients[3].connection
    clients[2].send(post(signal(2)))
    door.turn.end()
    assert door.inflight.waiting
    door.inflight.shared = 1_000_000
    clients[0].send(post(signal(0)).replace(b"/v2/", b"/v2/?ack=memory"))
    clients[1].send(post(signal(1) + b" "))
    door.turn.end()
    for _ in range(3):
        intake.commit()
        await asyncio.sleep(0)
    assert [client.statuses for client in clients] == [[200]] * 4
    assert sorted(names(intake)) == ["t0", "t1", "t2", "t3"]
    assert door.inflight.held == 0


class BrokenTogether(FakeRoute):
    """A route with a bug where many bodies are checked at once."""

    def __init__(self, destination: str) -> None:
        super().__init__(destination)
        self.together = True

    def check_each(self, bodies: list[bytes], *, received_at: bytes) -> Checked | None:
        raise ZeroDivisionError


def on(router: FakeRouter) -> tuple[list[Client], FakeIntake]:
    """Return clients of a door with this router."""
    door, listener, intake = memory_door()
    door.configure(router=router, settings=door.rules.settings, durability=Durability.FSYNC)
    listener.obey(door.rules)
    return [Client(listener) for _ in range(12)], intake


def on_two_broken_routes() -> tuple[list[Client], FakeIntake]:
    router = FakeRouter()
    router.telemetrydeck, router.any = BrokenTogether("telemetrydeck"), BrokenTogether("encharge")
    return on(router)


def send_on_both(clients: list[Client], intake: FakeIntake) -> None:
    intake.submitted.clear()
    for number, client in enumerate(clients):
        client.send(post(b'{"ok":"%02d"}' % number).replace(b"/v2/", (b"/v2/", b"/events")[number % 2]))


async def test_a_burst_whose_check_raises_costs_nobody_his_request() -> None:
    clients, intake = on_two_broken_routes()
    door, raised = clients[0].door, 0
    for _ in range(3):  # the third time they are in two bursts; the second one is not lost with the first
        send_on_both(clients, intake)
        for _ in range(3):
            try:
                door.turn.end()
            except ZeroDivisionError:
                raised += 1
        assert len(intake.events) == 12
    assert raised == 2  # each route is left alone once it has raised
    assert [client.statuses for client in clients] == [[200] * 3] * 12
    assert door.inflight.held == 0


def two_apps(number: int) -> bytes:
    return signal(number, app=b"ab"[number % 2 : number % 2 + 1])


async def left_in_a_burst_of_two_apps(clients: list[Client], intake: FakeIntake) -> None:
    intake.prompt = False
    for number, client in enumerate(clients):
        client.send(post(two_apps(number)))
    clients[0].door.turn.end()
    assert [list(client.connection.owed) for client in clients] == [[AWAITED]] * len(clients)


async def test_two_apps_in_one_burst_are_answered_when_both_are_stored() -> None:
    clients, intake = await real("telemetrydeck")
    door = clients[0].door
    duration = door.metrics.accept_duration.at()
    await left_in_a_burst_of_two_apps(clients, intake)
    duration.sum = 0.0
    door.clock.advance(0.5)  # type: ignore[attr-defined]
    intake.commit(1)
    assert [client.statuses for client in clients] == [[]] * 8
    intake.commit()
    assert [client.statuses for client in clients] == [[200]] * 8
    assert names(intake) == ["t0", "t2", "t4", "t6", "t1", "t3", "t5", "t7"]
    assert door.inflight.held == 0
    assert duration.sum == pytest.approx(8 * 0.5)


@pytest.mark.parametrize("failing", [0, 1])
@pytest.mark.parametrize("first", [0, 1])
async def test_when_one_of_two_apps_fails_only_its_senders_hear_so(failing: int, first: int) -> None:
    clients, intake = await real("telemetrydeck")
    await left_in_a_burst_of_two_apps(clients, intake)
    ends = [(intake.waiting[0][1], failing == 0), (intake.waiting[1][1], failing == 1)]
    for done, fails in (ends[first], ends[1 - first]):
        done(Failed("the disk failed") if fails else Stored(Durability.FSYNC))
    expected = [[503] if number % 2 == failing else [200] for number in range(8)]
    assert [client.statuses for client in clients] == expected
    assert clients[0].door.inflight.held == 0
    assert not any(client.connection.owed for client in clients)


async def test_when_both_apps_fail_all_hear_so_once() -> None:
    clients, intake = await real("telemetrydeck")
    await left_in_a_burst_of_two_apps(clients, intake)
    intake.fail()
    assert [client.statuses for client in clients] == [[503]] * 8
    assert clients[0].door.inflight.held == 0


class TwoKeys(FakeRoute):
    """A route whose events go under the key that they name; it checks together, and counts what it checks alone."""

    def __init__(self, destination: str) -> None:
        super().__init__(destination)
        self.together = True

    def check_each(self, bodies: list[bytes], *, received_at: bytes) -> Checked | None:
        groups: dict[bytes, Group] = {}
        for body in bodies:
            group = groups.setdefault(body[:8], Group(self.destination, body[:8], [], 0))
            group.events.append(body)
            group.size += len(body)
        return Checked([*groups.values()], len(bodies), (), {})

    def check(self, body: bytes, *, received_at: bytes, presented_key: bytes | None = None) -> Checked | BadRequest:
        super().check(body, received_at=received_at, presented_key=presented_key)
        return Checked([Group(self.destination, body[:8], [body], len(body))], 1, (), {})


async def test_however_many_apps_of_a_burst_fail_each_body_is_looked_at_once_more() -> None:
    door, listener, intake = memory_door()
    router = FakeRouter()
    router.telemetrydeck = route = TwoKeys("telemetrydeck")
    door.configure(router=router, settings=door.rules.settings, durability=Durability.FSYNC)
    listener.obey(door.rules)
    clients = [Client(listener) for _ in range(12)]
    for rounds in range(2):  # the second time the head is known
        intake.prompt = rounds == 0
        route.stamps.clear()
        for number, client in enumerate(clients):
            client.send(post(b'{"ok":%d}' % (10 + number)))
        door.turn.end()
    assert len(intake.waiting) == 12  # groups
    for group, (_, done) in enumerate([*intake.waiting]):
        done(Stored(Durability.FSYNC) if group == 5 else Failed("the disk failed"))
    assert [client.statuses for client in clients] == [[200, 200 if number == 5 else 503] for number in range(12)]
    assert len(route.stamps) == 12
    assert door.inflight.held == 0


async def test_the_answer_of_a_burst_states_the_least_that_its_apps_have_reached() -> None:
    clients, intake = await real("telemetrydeck")
    await left_in_a_burst_of_two_apps(clients, intake)
    for (_, done), level in zip(intake.waiting, (Durability.WRITTEN, Durability.FSYNC), strict=True):
        done(Stored(level))
    assert all(b"Forwarder-Ack: written" in client.transport.written for client in clients)


class Refusing(FakeIntake):
    """Has no room for groups that hold any of these bytes, or go to this destination."""

    without = b"nothing"
    destination = ""

    def submit(self, groups: Sequence[Group], level: Durability, done: Done) -> Busy | None:
        for group in groups:
            if group.destination == self.destination or any(self.without in event for event in group.events):
                return FULL
        return super().submit(groups, level, done)


async def test_where_there_is_no_room_for_one_request_of_two_apps_it_alone_is_refused() -> None:
    intake = Refusing()
    clients, _ = await real("telemetrydeck", intake=intake)
    intake.without = b'"t3"'
    for number, client in enumerate(clients):
        client.send(post(two_apps(number)))
    clients[0].door.turn.end()
    assert [client.statuses for client in clients] == [[200]] * 3 + [[503]] + [[200]] * 4
    assert names(intake) == ["t0", "t2", "t4", "t6", "t1", "t5", "t7"]
    assert clients[0].door.inflight.held == 0


async def test_two_apps_of_two_destinations_are_refused_for_one_of_them_and_taken_for_the_other() -> None:
    intake = Refusing()
    clients, _ = await real("telemetrydeck", intake=intake)
    url = "http://127.0.0.1:1"
    served = [
        Destination(name=name, kind="telemetrydeck", url=url, apps=(app,)) for name, app in (("x", "a"), ("y", "b"))
    ]
    door = clients[0].door
    router = DestinationRouter(served, secret=lambda _name: None, max_event=1000)
    door.configure(router=router, settings=door.rules.settings, durability=Durability.FSYNC)
    clients[0].connection.listener.obey(door.rules)
    for destination, statuses in (("", [200, 200]), ("", [200, 200]), ("y", [200, 503]), ("x", [503, 200])):
        intake.destination = destination
        intake.submitted.clear()
        for number, client in enumerate(clients):
            client.transport.written = b""
            client.send(post(two_apps(number)))
        door.turn.end()
        assert [client.statuses for client in clients] == [[status] for status in statuses * 4]
        taken = [f"t{number}" for kept in (0, 1) for number in range(kept, 8, 2) if statuses[kept] == 200]
        assert sorted(names(intake)) == sorted(taken)
    assert door.inflight.held == 0


def awaited(clients: list[Client]) -> bool:
    """Return whether all wait in a burst."""
    return all(list(client.connection.owed) == [AWAITED] for client in clients)


async def test_an_odd_body_keeps_only_its_own_route_from_being_checked_together() -> None:
    clients, intake = await real("telemetrydeck", clients=16)
    here, there = clients[:8], clients[8:]
    requests = {b"/v2/": post(signal(1)), b"/events": post(signal(1)).replace(b"/v2/", b"/events")}
    for client in there * 2:  # the second time the head is known
        client.send(requests[b"/events"])
        client.door.turn.end()
    for client in here:
        client.send(post(signal(0).replace(b'"t0"', b"7   ")))
    clients[0].door.turn.end()
    await asyncio.sleep(0)  # what is refused while it is read is answered in the next turn
    intake.prompt = False
    together = []
    for _ in range(turn.APART + 1):
        for client in here:
            client.send(requests[b"/v2/"])
        for client in there:
            client.send(requests[b"/events"])
        clients[0].door.turn.end()
        together.append((awaited(here), awaited(there)))
        intake.commit()
        await asyncio.sleep(0)
    assert together == [(False, True)] * turn.APART + [(True, True)]


async def test_odd_bodies_on_any_number_of_routes_are_remembered_for_some() -> None:
    clients, _ = await real("telemetrydeck")
    door = clients[0].door
    for number in range(2 * turn.MAX_APART):
        for _ in range(2):  # the second time the head is known
            for client in clients:
                client.send(post(b"[7]").replace(b"/v2/", b"/v2/namespace/n%d/" % number))
            door.turn.end()
            await asyncio.sleep(0)
    assert 0 < len(door.turn._apart) <= turn.MAX_APART


async def test_a_known_head_is_not_learnt_again_when_its_body_comes_later() -> None:
    clients, _ = await real("telemetrydeck", clients=2)
    known = clients[0].connection.known
    request = post(signal(5))
    at = request.find(b"\r\n\r\n") + 4
    clients[1].send(request[:at])
    clients[1].send(request[at:])
    clients[1].door.turn.end()
    clients[1].send(request)
    clients[1].door.turn.end()
    assert clients[1].statuses == [200, 200]
    assert clients[0].connection.listener.familiar.find(request, 0) is known


async def test_a_connection_lets_go_of_a_head_that_was_forgotten() -> None:
    clients, _ = await real("telemetrydeck", clients=1)
    connection = clients[0].connection
    old = connection.known
    connection.listener.familiar.forget()
    for _ in range(3):  # taken by the old head; read anew; known again
        clients[0].send(post(signal(1)))
        clients[0].door.turn.end()
    assert clients[0].statuses == [200] * 3
    assert connection.known is not None
    assert connection.known is not old


class Counting(FakeRoute):
    """Takes each body as one event; `together` tells how many bodies were checked at once each time."""

    def __init__(self, destination: str) -> None:
        super().__init__(destination)
        self.together = True
        self.checked: list[int] = []

    def check_each(self, bodies: list[bytes], *, received_at: bytes) -> Checked | None:
        self.checked.append(len(bodies))
        return Checked([Group(self.destination, b"key", bodies, sum(map(len, bodies)))], len(bodies))


async def test_requests_are_kept_while_the_next_commit_waits_for_others_and_checked_together_when_it_goes_on() -> None:
    router = FakeRouter()
    router.telemetrydeck = route = Counting("telemetrydeck")
    clients, intake = on(router)
    for number in range(2 * 8):  # the heads are learnt
        clients[number % 8].send(post(b'{"ok":%d}' % (number % 8)))
        clients[0].door.turn.end()
    door, joining = clients[0].door, intake.joining
    door.metrics.accept_duration.at().sum = 0.0
    route.checked.clear()
    intake.submitted.clear()
    joining.begin()
    for number in range(8):
        clients[number].send(post(b'{"ok":%d}' % number))
        await asyncio.sleep(0)
    assert (route.checked, intake.submitted, joining.requests) == ([], [], 8)
    door.clock.advance(0.5)  # type: ignore[attr-defined]
    joining.end()
    assert route.checked == [8]
    assert intake.events == [b'{"ok":%d}' % number for number in range(8)]
    assert [client.statuses for client in clients[:8]] == [[200] * 3] * 8
    assert joining.requests == 0
    assert door.metrics.accept_duration.at().sum == pytest.approx(8 * 0.5)  # from reading on, not from the check


@pytest.mark.parametrize("requests", [1, 3])
async def test_few_requests_count_from_the_moment_they_were_read_too(requests: int) -> None:
    clients, intake = await real("telemetrydeck", clients=requests)
    door, joining = clients[0].door, clients[0].door.intake.joining
    duration = door.metrics.accept_duration.at()
    for kept in (True, False):
        duration.sum = 0.0
        if kept:
            joining.begin()
        intake.prompt = kept
        for number, client in enumerate(clients):
            client.send(post(signal(number)))
        await asyncio.sleep(0)
        door.clock.advance(0.5)  # type: ignore[attr-defined]
        if kept:
            joining.end()
        intake.commit()
        assert duration.sum == pytest.approx(requests * 0.5)


async def test_what_is_kept_is_submitted_before_the_rules_change() -> None:
    clients, intake = await real("telemetrydeck")
    door = clients[0].door
    old, in_force = door.rules, list[object]()
    intake.arrived = lambda: in_force.append(door.rules)
    door.intake.joining.begin()
    for number, client in enumerate(clients):
        client.send(post(signal(number)))
    await asyncio.sleep(0)
    assert intake.submitted == []
    door.configure(router=FakeRouter(), settings=old.settings, durability=Durability.WRITTEN)
    assert names(intake) == [f"t{number}" for number in range(8)]
    assert intake.levels == [Durability.FSYNC]
    assert in_force == [old]


async def test_a_bug_in_what_is_kept_does_not_keep_the_rules_from_changing() -> None:
    raised: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: raised.append(context["exception"]))
    clients, intake = on_two_broken_routes()
    send_on_both(clients, intake)
    clients[0].door.turn.end()
    door = clients[0].door
    intake.joining.begin()
    send_on_both(clients, intake)
    await asyncio.sleep(0)
    door.configure(router=FakeRouter(), settings=door.rules.settings, durability=Durability.WRITTEN)
    assert [type(each) for each in raised] == [ZeroDivisionError]
    assert door.rules.durability is Durability.WRITTEN
    intake.joining.end()
    await asyncio.sleep(0)
    assert [client.statuses for client in clients] == [[200] * 2] * 12


async def test_what_is_submitted_together_counts_from_its_own_reading_each() -> None:
    clients, intake = await real("telemetrydeck", clients=5)
    duration = clients[0].door.metrics.accept_duration.at()
    duration.sum, before = 0.0, sum(duration.counts)
    for number in range(4):
        clients[number].send(post(signal(number)))
    clients[0].door.clock.advance(0.5)  # type: ignore[attr-defined]
    clients[4].send(post(b"[" + SIGNAL % (b"a", 4) + b"," + SIGNAL % (b"a", 5) + b"]"))
    clients[0].door.turn.end()
    assert [len(group.events) for group in intake.submitted] == [6]
    assert duration.sum == pytest.approx(4 * 0.5)
    assert sum(duration.counts) == before + 5


async def test_what_is_checked_already_is_not_kept() -> None:
    clients, intake = await real("telemetrydeck", clients=2)
    joining = clients[0].door.intake.joining
    joining.begin()
    clients[0].send(post(signal(0)))
    clients[1].send(post(b"[" + SIGNAL % (b"a", 1) + b"," + SIGNAL % (b"a", 2) + b"]"))
    await asyncio.sleep(0)
    assert names(intake) == ["t1", "t2"]
    assert [client.statuses for client in clients] == [[], [200]]
    joining.end()
    assert names(intake) == ["t1", "t2", "t0"]


async def test_a_second_request_of_a_connection_does_not_pass_one_that_is_kept() -> None:
    clients, intake = await real("telemetrydeck", clients=1)
    clients[0].door.intake.joining.begin()
    clients[0].send(post(signal(1)))
    await asyncio.sleep(0)
    clients[0].send(post(b"[" + SIGNAL % (b"a", 2) + b"," + SIGNAL % (b"a", 3) + b"]"))
    await asyncio.sleep(0)
    assert names(intake) == ["t1", "t2", "t3"]


async def test_requests_kept_on_two_routes_are_all_taken_though_the_check_of_one_raises() -> None:
    clients, intake = on_two_broken_routes()
    send_on_both(clients, intake)  # the heads are learnt
    clients[0].door.turn.end()
    intake.joining.begin()
    send_on_both(clients, intake)
    await asyncio.sleep(0)
    assert (intake.joining.requests, len(intake.events)) == (10, 2)  # the first of its size on a route is in no burst
    raised: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: raised.append(context["exception"]))
    intake.joining.end()
    assert [type(each) for each in raised] == [ZeroDivisionError]
    for _ in range(3):
        await asyncio.sleep(0)
    assert len(intake.events) == 12
    assert [client.statuses for client in clients] == [[200] * 2] * 12
