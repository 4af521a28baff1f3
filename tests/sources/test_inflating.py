"""A compressed body is inflated in steps: between them the loop serves the others."""

import asyncio
import zlib

from forwarder.sources.connection import INFLATED_STEP, Connection
from forwarder.sources.reader import SLICE_INFLATED
from tests.sources.memory_door import MemoryTransport, memory_door
from tests.support.raw_http import post

LARGE = b'{"ok":"%s"}' % (b" " * (16 * INFLATED_STEP))
RATIO = 250
"""Bytes that one compressed byte becomes, at most, at zlib's first level."""


def compressed(body: bytes) -> bytes:
    return post(zlib.compress(body, 1)).replace(b"\r\n\r\n", b"\r\nContent-Encoding: deflate\r\n\r\n", 1)


async def test_one_turn_of_the_loop_inflates_a_step_and_others_are_answered_between_two() -> None:
    door, listener, intake = memory_door()
    (large, _), (small, answers) = [(Connection(listener), MemoryTransport()) for _ in range(2)]
    for connection, transport in ((large, MemoryTransport()), (small, answers)):
        connection.connection_made(transport)
    large.data_received(compressed(LARGE))
    held = [door.inflight.held]
    small.data_received(post(b'{"ok":1}'))
    await asyncio.sleep(0)
    assert answers.written.startswith(b"HTTP/1.1 200 ")
    while len(intake.submitted) < 2:
        held.append(door.inflight.held)
        await asyncio.sleep(0)
    steps = [after - before for before, after in zip([0, *held], held, strict=False)]
    assert max(steps) < INFLATED_STEP + RATIO * SLICE_INFLATED
    assert LARGE in intake.events


async def test_many_compressed_bodies_of_one_read_are_inflated_in_steps_too() -> None:
    door, listener, intake = memory_door(max_body=INFLATED_STEP)
    connection, transport = Connection(listener), MemoryTransport()
    connection.connection_made(transport)
    body = b'{"ok":"%s"}' % (b" " * (INFLATED_STEP // 2))
    connection.data_received(compressed(body) * 16)
    assert len(intake.submitted) <= 4
    while transport.written.count(b"HTTP/1.1 200 ") < 16:  # noqa: ASYNC110 - every turn of the loop is looked at
        await asyncio.sleep(0)
    assert [len(event) for event in intake.events] == [len(body)] * 16
    assert door.inflight.held == 0


async def test_room_in_memory_meanwhile_makes_no_second_chain_of_steps() -> None:
    door, listener, _ = memory_door()
    connection = Connection(listener)
    connection.connection_made(MemoryTransport())
    connection.data_received(compressed(LARGE))
    before = door.inflight.held
    connection.room()
    assert door.inflight.held == before


async def test_a_client_that_goes_between_two_steps_leaves_nothing_behind() -> None:
    door, listener, intake = memory_door()
    connection = Connection(listener)
    connection.connection_made(MemoryTransport())
    connection.data_received(compressed(LARGE))
    connection.connection_lost(None)
    for _ in range(10):
        await asyncio.sleep(0)
    assert intake.submitted == []
    assert door.inflight.held == 0


async def test_a_half_closed_client_has_its_whole_body_inflated() -> None:
    _, listener, intake = memory_door()
    connection, transport = Connection(listener), MemoryTransport()
    connection.connection_made(transport)
    connection.data_received(compressed(LARGE))
    assert connection.eof_received()
    async with asyncio.timeout(30):
        while not transport.written:  # noqa: ASYNC110 - every turn of the loop is looked at
            await asyncio.sleep(0)
    assert transport.written.startswith(b"HTTP/1.1 200 ")
    assert intake.events == [LARGE]


async def test_steps_do_not_give_the_place_of_the_one_that_reads_on_alone_to_all_who_wait() -> None:
    mib = 1024 * 1024
    door, listener, _ = memory_door(max_body=16 * mib, max_inflight=32 * mib)
    request = compressed(b'{"ok":"%s"}' % (b" " * (15 * mib)))
    head, rest = request[: request.find(b"\r\n\r\n") + 4], request[request.find(b"\r\n\r\n") + 4 :]
    connections = [Connection(listener) for _ in range(40)]
    for connection in connections:
        connection.connection_made(MemoryTransport())
        connection.data_received(head)
    for connection in connections:
        connection.data_received(rest[:-1])
        await asyncio.sleep(0)
    most = 0
    for _ in range(8):
        for _ in range(60):
            await asyncio.sleep(0)
            most = max(most, door.inflight.held)
        elder = door.inflight.elder
        assert isinstance(elder, Connection)
        elder.connection_lost(None)
    assert most <= 32 * mib + len(connections) * len(rest)
