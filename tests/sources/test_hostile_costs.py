"""What hostile bytes cost in calls and memory stays in proportion to what they are counted for."""

import asyncio
import zlib

import pytest

from forwarder.sources import head
from forwarder.sources.connection import Connection
from forwarder.sources.reader import SLICE
from tests.sources.memory_door import MemoryTransport, memory_door
from tests.support.fake_intake import FakeIntake

HEAD = b"POST /v2/ HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n"


def connected() -> tuple[Connection, MemoryTransport, FakeIntake]:
    _, listener, intake = memory_door()
    connection, transport = Connection(listener), MemoryTransport()
    connection.connection_made(transport)
    return connection, transport, intake


async def settled() -> None:
    """Let the loop check, submit and answer."""
    for _ in range(3):
        await asyncio.sleep(0)


def chunked(body: bytes, size: int) -> bytes:
    pieces = [body[at : at + size] for at in range(0, len(body), size)]
    return b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces)


async def test_empty_lines_are_fed_by_the_slice_and_not_one_by_one() -> None:
    connection, _, _ = connected()
    reader = connection._reader
    lines = b"\r\n" * SLICE
    assert reader.stop(lines, 0) == SLICE
    assert reader.stop(lines[:100] + b"POST", 0) == 100


@pytest.mark.parametrize("size", [1, 3, 5000])
async def test_a_body_in_tiny_chunks_is_kept_in_few_pieces_and_is_the_same_body(size: int) -> None:
    connection, transport, intake = connected()
    body = b'{"ok":"%s"}' % (b"0123456789" * 5000)
    request = chunked(body, size)
    connection.data_received(HEAD + b"\r\n" + request[:-1])
    assert len(connection._reader._parts) <= 100
    connection.data_received(request[-1:] + b"0\r\n\r\n")
    await settled()
    assert transport.written.startswith(b"HTTP/1.1 200 ")
    assert intake.events == [body]


async def test_small_and_large_chunks_by_turns_are_the_same_body() -> None:
    connection, _, intake = connected()
    parts = [b'{"ok":"', *[b"ab" * (2500 if number % 30 == 0 else 1) for number in range(300)], b'"}']
    connection.data_received(HEAD + b"\r\n" + b"".join(chunked(part, len(part)) for part in parts) + b"0\r\n\r\n")
    await settled()
    assert intake.events == [b"".join(parts)]


async def test_what_is_compressed_from_nothing_is_kept_as_nothing() -> None:
    connection, _, _ = connected()
    nothing = zlib.compress(b"", 0)[:2] + b"\x00\x00\x00\xff\xff" * 2000
    connection.data_received(HEAD + b"Content-Encoding: deflate\r\n\r\n" + chunked(nothing, 1))
    assert connection._reader._parts == []


@pytest.mark.parametrize(("line", "most"), [(b"ab:cd\r\n", 0), (b"host:a\r\n", len(head.ONCE) + 1)])
async def test_of_a_head_only_what_has_a_meaning_is_kept(line: bytes, most: int) -> None:
    connection, transport, _ = connected()
    connection.data_received(b"POST /v2/ HTTP/1.1\r\n" + line * 4000)
    assert len(connection._reader.headers) == most
    connection.data_received(b"\r\n")
    await settled()
    assert transport.written.startswith(b"HTTP/1.1 400 ")


async def test_a_header_that_comes_twice_behind_many_others_is_still_refused() -> None:
    connection, transport, intake = connected()
    others = b"".join(b"x-%d: y\r\n" % number for number in range(100))
    twice = b"Origin: a\r\nOrigin: b\r\n"
    connection.data_received(
        b"POST /v2/ HTTP/1.1\r\nHost: localhost\r\n" + others + twice + b'Content-Length: 8\r\n\r\n{"ok":1}'
    )
    await settled()
    assert transport.written.startswith(b"HTTP/1.1 400 ")
    assert b"origin was given twice" in transport.written
    assert intake.events == []
