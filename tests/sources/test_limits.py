"""Slow, greedy, half-closed and far too many clients."""

import asyncio
import contextlib
import socket

import pytest

from forwarder.sources.connection import MAX_UNANSWERED, Connection
from forwarder.sources.exchange import LARGE
from forwarder.sources.http import SMALL_BUFFER
from forwarder.sources.inflight import Inflight
from forwarder.sources.reader import SLICE
from tests.sources.harness import Open, Setup
from tests.sources.memory_door import MemoryTransport, memory_door
from tests.support.raw_http import RawClient, post

MIB = 1024 * 1024
CHUNKED = b"POST /v2/ HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
EXPECT = b"Expect: 100-continue\r\n"


def read(connection: Connection) -> int:
    """Return the bytes of its head, or of its chunks, so far."""
    reader = connection._reader
    return reader._wire if reader._chunks is None else reader._chunks.wire


async def crowd(setup: Setup, count: int) -> None:
    await setup.until(lambda: setup.listener.status().connections == count)


async def swept(setup: Setup, seconds: float) -> None:
    setup.clock.advance(seconds)
    setup.door.sweep()


@pytest.mark.parametrize(("sent", "seconds", "what"), [
    (b"POST /v2/ HT", 10, "head"),
    (b"\r\nP", 10, "head"),
    (post()[:-1], 60, "body"),
    (post(headers=EXPECT)[:-8], 60, "body"),
])  # fmt: skip
async def test_a_request_that_does_not_come_to_an_end_is_408(
    door: Open, sent: bytes, seconds: float, what: str
) -> None:
    setup = await door()
    async with await setup.client() as client:
        assert (await client.ask(post())).status == 200
        before = setup.metrics.received.at("test").value
        await client.say(sent)
        (connection,) = setup.listener.crowd
        await setup.until(lambda: not connection._reader.between)
        if b"Expect" in sent:
            assert (await client.hear()).status == 100
        await swept(setup, seconds - 1)
        await swept(setup, 1)
        answer = await client.hear()
        assert (answer.status, what in str(answer.json["error"])) == (408, True)
        assert await client.rest() == b""
    assert setup.refused("timeout") == setup.metrics.received.at("test").value - before == 1


@pytest.mark.parametrize(("start", "then", "seconds", "what"), [
    (b"POST /v2/ HTTP/1.1\r\nX: ", b"yyyyyyyyyyyy", 10, "head"),
    (post(b"x" * 1000)[:-1000], b"xxxxxxxxxxxx", 60, "body"),
    (CHUNKED, b"100;aaaaaaaa", 60, "body"),
])  # fmt: skip
async def test_a_request_that_comes_byte_by_byte_does_not_win_time_by_it(
    door: Open, start: bytes, then: bytes, seconds: int, what: str
) -> None:
    setup = await door()
    async with await setup.client() as client:
        await client.say(post() + start)
        assert (await client.hear()).status == 200
        (connection,) = setup.listener.crowd
        await setup.until(lambda: not connection._reader.between)
        for at in range(10):
            before = setup.door.inflight.held + read(connection)
            await client.say(then[at : at + 1])
            await setup.until(lambda before=before: setup.door.inflight.held + read(connection) > before)  # type: ignore[misc]
            await swept(setup, seconds / 10)
        answer = await client.hear()
        assert (answer.status, what in str(answer.json["error"])) == (408, True)


async def test_a_client_whose_requests_never_end_with_a_read_is_not_timed_out(door: Open) -> None:
    setup = await door()
    request = post(headers=b"X: y\r\n")
    async with await setup.client() as client:
        await client.say(request[:20])
        for _ in range(5):
            await client.say(request[20:] + request[:20])
            assert (await client.hear()).status == 200
            await swept(setup, 9)
        await client.say(request[20:])
        assert (await client.hear()).status == 200


async def test_an_idle_connection_is_closed_without_a_word(door: Open) -> None:
    setup = await door()
    async with await setup.client() as client:
        assert (await client.ask(post())).status == 200
        await swept(setup, 74)
        assert (await client.ask(post())).status == 200
        await swept(setup, 74)
        await swept(setup, 1)
        assert await client.rest() == b""


@pytest.mark.parametrize("first", [b"", post(), post() * 2])
async def test_empty_lines_between_requests_win_no_time(door: Open, first: bytes) -> None:
    setup = await door()
    async with await setup.client() as client:
        await client.say(first)
        for _ in range(first.count(b"POST")):
            assert (await client.hear()).status == 200
        await crowd(setup, 1)
        (connection,) = setup.listener.crowd
        await swept(setup, 1)
        for lines in (b"\r\n", b"\n", b"\r\n\r\n", b"\r", b"\n\r\n"):
            await client.say(lines)
            for _ in range(20):
                await asyncio.sleep(0)
            assert connection._reader.between
            await swept(setup, 14)
        await swept(setup, 4)
        assert await client.rest() == b""


async def test_a_request_that_waits_for_its_commit_is_not_timed_out(door: Open) -> None:
    setup = await door(prompt=False)
    async with await setup.client() as client:
        await client.say(post())
        await setup.submitted(1)
        await swept(setup, 1000)
        setup.intake.commit()
        assert (await client.hear()).status == 200


async def test_a_peer_that_sends_on_after_a_refusal_is_cut_at_the_deadline(door: Open) -> None:
    setup = await door(max_body=10)
    async with await setup.client() as client:
        answer = await client.ask(post(b"x" * 11))
        assert answer.status == 413
        assert await client.rest() == b""
        await crowd(setup, 1)
        await swept(setup, 4)
        await crowd(setup, 0)


async def test_a_peer_that_reads_no_answers_is_not_read_from_and_cut_in_the_end(door: Open) -> None:
    setup = await door()
    client = await setup.client(receive_buffer=4096)
    client.writer.transport.pause_reading()  # type: ignore[attr-defined]
    await crowd(setup, 1)
    (connection,) = setup.listener.crowd
    request = post(b"[" + b"1," * 2000 + b"1]")  # a long answer
    sender = asyncio.create_task(_send_for_ever(client, request))
    await setup.until(lambda: connection._paused and connection.choked)
    submitted = setup.metrics.received.at("test").value
    for _ in range(50):
        await asyncio.sleep(0)
    assert setup.metrics.received.at("test").value == submitted
    await swept(setup, 31)
    await crowd(setup, 0)
    sender.cancel()
    with contextlib.suppress(asyncio.CancelledError, ConnectionError):
        await sender


async def _send_for_ever(client: RawClient, data: bytes) -> None:
    while True:
        client.writer.write(data)
        await client.writer.drain()


async def test_unanswered_requests_of_one_connection_are_bounded(door: Open) -> None:
    setup = await door(prompt=False)
    count = 3 * MAX_UNANSWERED
    async with await setup.client() as client:
        sending = asyncio.create_task(client.say(post() * count))
        await setup.submitted(MAX_UNANSWERED)
        for _ in range(50):
            await asyncio.sleep(0)
        assert len(setup.intake.events) <= MAX_UNANSWERED + SLICE // len(post()) + 1  # the rest of one slice
        setup.intake.prompt = True
        setup.intake.commit()
        assert [(await client.hear()).status for _ in range(count)] == [200] * count
        await sending


async def test_what_is_refused_at_once_is_answered_a_few_hundred_a_turn() -> None:
    door, listener, _ = memory_door()
    connection, transport = Connection(listener), MemoryTransport()
    connection.connection_made(transport)
    ask = b"GET /no HTTP/1.1\r\nHost: localhost\r\n\r\n"
    count = len(door.buffer) // len(ask)
    connection.data_received(ask * count)
    assert listener.received.value <= MAX_UNANSWERED + SLICE // len(ask) + 1 < count
    for _ in range(20):
        await asyncio.sleep(0)
    assert transport.written.count(b"HTTP/1.1 404 ") == count
    connection.connection_lost(None)


async def test_a_half_closed_client_gets_all_its_answers(door: Open) -> None:
    setup = await door(prompt=False)
    async with await setup.client() as client:
        await client.say(post() + post())
        client.shut()
        await setup.submitted(2)
        for _ in range(10):
            await asyncio.sleep(0)
        setup.intake.commit()
        assert [(await client.hear()).status for _ in range(2)] == [200, 200]
        assert await client.rest() == b""


async def test_a_client_that_closes_in_the_middle_of_a_request_stores_nothing_of_it(door: Open) -> None:
    setup = await door()
    async with await setup.client() as client:
        await client.say(post() + post()[:-1])
        client.shut()
        assert [(await client.hear()).status for _ in range(2)] == [200, 400]
        assert await client.rest() == b""
    assert len(setup.intake.events) == 1


async def test_a_client_that_is_gone_before_the_commit_costs_nothing(door: Open) -> None:
    setup = await door(prompt=False)
    client = await setup.client()
    await client.say(post() + post(b"x" * 100)[:-1])
    await setup.submitted(1)
    client.reset()
    await crowd(setup, 0)
    assert setup.door.inflight.held == len(b'{"ok":1}')
    setup.intake.commit()
    assert setup.door.inflight.held == 0


async def test_too_many_connections_are_told_so_and_make_room_again(door: Open) -> None:
    setup = await door(max_connections=3)
    clients = [await setup.client() for _ in range(3)]
    await crowd(setup, 3)
    async with await setup.client() as late:
        answer = await late.hear()
        assert (answer.status, "listen.max_connections" in str(answer.json["error"])) == (503, True)
        assert answer.headers["retry-after"] == "1"
        assert await late.rest() == b""
    await crowd(setup, 3)
    assert [(await client.ask(post())).status for client in clients] == [200] * 3
    clients.pop().reset()
    await crowd(setup, 2)
    async with await setup.client() as again:
        assert (await again.ask(post())).status == 200
    assert setup.refused("too_many_connections") == 1


async def test_a_flood_of_connections_leaves_those_that_are_in_alone(door: Open) -> None:
    setup = await door(max_connections=20)
    async with await setup.client() as first:
        assert (await first.ask(post())).status == 200
        flood = [await setup.client() for _ in range(100)]
        await setup.until(lambda: setup.refused("too_many_connections") >= 81)
        assert (await first.ask(post())).status == 200
        for client in flood:
            client.reset()
    await crowd(setup, 0)


async def test_many_large_bodies_stay_inside_max_inflight_and_all_arrive(door: Open) -> None:
    setup = await door(max_inflight=4 * MIB, max_body=2 * MIB)
    body = b'{"ok":"%s"}' % (b"x" * (MIB + MIB // 2))
    most = 0

    def note() -> None:
        nonlocal most
        most = max(most, setup.door.inflight.held)

    setup.intake.arrived = note
    clients = [await setup.client() for _ in range(12)]
    answers = await asyncio.gather(*(client.ask(post(body)) for client in clients))
    assert [answer.status for answer in answers] == [200] * 12
    assert MIB < most <= 4 * MIB + 12 * SMALL_BUFFER + 64 * 1024
    assert setup.intake.events == [body] * 12


async def test_once_memory_is_short_connections_that_were_quiet_bring_small_reads(door: Open) -> None:
    setup = await door(prompt=False, max_inflight=4 * MIB, max_body=2 * MIB)
    quiet = [await setup.client() for _ in range(12)]
    await crowd(setup, 12)
    filler = [await setup.client() for _ in range(2)]
    body = b'{"ok":"%s"}' % (b"x" * (MIB + MIB // 2))
    asking = [asyncio.create_task(client.ask(post(body))) for client in filler]
    await setup.until(lambda: setup.door.inflight.full)
    large = b'{"ok":"%s"}' % (b"y" * 250_000)
    asking += [asyncio.create_task(client.ask(post(large))) for client in quiet]
    await setup.until(lambda: len(setup.door.inflight.waiting) >= 11)
    assert not setup.door.careless
    assert sum(len(connection._pending) for connection in setup.listener.crowd) <= 256 * 1024 + 12 * SMALL_BUFFER
    late = await setup.client()
    await crowd(setup, 15)
    setup.intake.prompt = True
    setup.intake.commit()
    assert [answer.status for answer in await asyncio.gather(*asking)] == [200] * 14
    assert (await late.ask(post())).status == 200


async def test_a_connection_whose_bodies_are_large_reads_with_care_and_keeps_its_order(door: Open) -> None:
    setup = await door()
    sizes = (10, 300_000, 10, 100_000, 10)
    bodies = [b'{"ok":"%s"}' % (b"%d" % number * size) for number, size in enumerate(sizes)]
    async with await setup.client() as client:
        assert (await client.ask(post(bodies[0]))).status == 200
        careful = [connection.careful for connection in setup.listener.crowd]
        assert (await client.ask(post(bodies[1]))).status == 200
        careful += [connection.careful for connection in setup.listener.crowd]
        assert careful == [False, True]
        await client.say(b"".join(map(post, bodies[2:])))
        client.shut()
        assert [(await client.hear()).status for _ in range(3)] == [200] * 3
        assert await client.rest() == b""
    assert setup.intake.events == bodies
    assert not setup.door.careless


async def test_reading_pauses_while_too_much_is_uncommitted(door: Open) -> None:
    setup = await door(prompt=False, max_inflight=400_000, max_body=200_000)
    body = b'{"ok":"%s"}' % (b"x" * 90_000)
    clients = [await setup.client() for _ in range(6)]
    asking = [asyncio.create_task(client.ask(post(body))) for client in clients]
    await setup.until(lambda: setup.door.inflight.full and bool(setup.door.inflight.waiting))
    for _ in range(50):
        await asyncio.sleep(0)
    assert len(setup.intake.levels) < 6
    setup.intake.prompt = True
    setup.intake.commit()
    assert [answer.status for answer in await asyncio.gather(*asking)] == [200] * 6


async def test_an_elder_that_hangs_up_passes_its_place_on(door: Open) -> None:
    setup = await door(max_inflight=200_000, max_body=100_000)
    clients = [await setup.client() for _ in range(4)]
    half = post(b"x" * 99_000)[:-1000]
    for client in clients[:3]:
        client.writer.write(half)
    await setup.until(lambda: bool(setup.door.inflight.waiting))
    asking = asyncio.create_task(clients[3].ask(post()))
    for client in clients[:3]:
        client.reset()
    assert (await asking).status == 200


async def test_drain_answers_what_is_asked_and_closes_the_rest(door: Open) -> None:
    setup = await door(prompt=False)
    idle, asked = await setup.client(), await setup.client()
    await asked.say(post() + post().replace(b"/v2/", b"/v2/?ack=delivered"))
    await setup.submitted(2)
    await crowd(setup, 2)
    draining = asyncio.create_task(setup.listener.drain(setup.clock.monotonic() + 100))
    assert await idle.rest() == b""
    with pytest.raises(ConnectionRefusedError):
        await setup.client()
    setup.intake.commit()
    first, second = await asked.hear(), await asked.hear()
    assert (first.status, second.status, second.headers["forwarder-ack"]) == (200, 200, "fsync")
    assert second.headers["connection"] == "close"
    assert await asked.rest() == b""
    asked.writer.close()
    await draining
    assert not setup.listener.status().accepting


async def test_connections_of_a_dismissed_listener_end_with_their_next_answer(door: Open) -> None:
    setup = await door()
    accepted, denied = await setup.client(), await setup.client()
    await crowd(setup, 2)
    setup.listener.dismiss()
    assert not setup.listener.status().accepting
    for client, request, status in ((accepted, post(), 200), (denied, post().replace(b"/v2/", b"/nope"), 404)):
        answer = await client.ask(request)
        assert (answer.status, answer.headers["connection"]) == (status, "close")
        assert await client.rest() == b""
        client.writer.close()
    await crowd(setup, 0)
    setup.door.sweep()


async def test_drain_cuts_what_does_not_end_by_the_deadline(door: Open) -> None:
    setup = await door()
    async with await setup.client() as client:
        await client.say(post()[:-1])
        await crowd(setup, 1)
        await setup.listener.drain(setup.clock.monotonic())
        with contextlib.suppress(ConnectionResetError):
            assert await client.reader.read() == b""
    assert setup.listener.status().connections == 0


async def test_an_old_client_on_a_unix_socket(door: Open) -> None:
    setup = await door(unix=True)
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(0)
        await loop.sock_connect(sock, str(setup.place))
        await loop.sock_sendall(sock, post(headers=b"Connection: close\r\n"))
        assert (await loop.sock_recv(sock, 100)).startswith(b"HTTP/1.1 200 OK\r\n")


class Reader:
    """A connection as Inflight sees it."""

    def __init__(self, inflight: Inflight) -> None:
        self.inflight = inflight
        self.turns = 0

    def room(self) -> None:
        self.turns += 1


def test_the_elder_reads_on_and_the_others_wait_in_order() -> None:
    inflight = Inflight(max_inflight=10, max_body=5)
    a, b, c = (Reader(inflight) for _ in range(3))
    assert not inflight.blocks(a)
    inflight.held += 5
    assert [inflight.blocks(each) for each in (a, b, c, a)] == [False, True, True, False]
    inflight.settle(a)
    assert [inflight.blocks(each) for each in (b, a)] == [False, True]
    inflight.release(5)
    assert [each.turns for each in (a, b, c)] == [1, 1, 1]
    assert not inflight.waiting


async def test_a_large_body_and_what_follows_it_are_taken_in_order_while_others_are_served(door: Open) -> None:
    setup = await door()
    large = b'{"ok":"%s"}' % (b"x" * LARGE)
    async with await setup.client() as client, await setup.client() as other:
        (first, *_), sent = [post(large)], post(large) + post(b'{"ok":2}') + post(large) + post(b'{"ok":3}')
        assert (await client.ask(first)).status == 200
        asking = asyncio.create_task(client.say(sent))
        assert (await other.ask(post(b'{"ok":1}'))).status == 200
        assert [(await client.hear()).status for _ in range(4)] == [200] * 4
        await asking
    setup.intake.submitted = [group for group in setup.intake.submitted if group.events != [b'{"ok":1}']]
    assert setup.intake.events == [large, large, b'{"ok":2}', large, b'{"ok":3}']


async def test_a_client_that_is_gone_while_its_large_body_is_checked_gives_its_memory_back(door: Open) -> None:
    setup = await door()
    client = await setup.client()
    await client.say(post(b'{"ok":"%s"}' % (b"x" * LARGE)))
    await setup.until(
        lambda: any(connection.checking for connection in setup.listener.crowd) or setup.intake.events != []
    )
    client.reset()
    await crowd(setup, 0)
    await setup.until(lambda: setup.door.inflight.held == 0)
    assert len(setup.intake.events) == 1
