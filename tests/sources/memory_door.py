"""A connection without a socket: bytes in by hand, bytes out collected. For tests with thousands of turns."""

import asyncio
import contextlib
import re
import socket
from collections.abc import Sequence
from typing import Any

import msgspec

from forwarder.config.model import Listen
from forwarder.core.seams import Durability
from forwarder.metrics import Metrics
from forwarder.sources.connection import Connection
from forwarder.sources.http import HttpDoor, HttpListener
from forwarder.vendors.base import Router
from tests.support.fake_intake import FakeIntake, FakeRouter
from tests.support.hand_clock import HandClock


class MemoryTransport(asyncio.Transport):
    """Collects what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.closed = False
        self.reading = True
        self.protocol: asyncio.BaseProtocol | None = None

    def write(self, data: Any) -> None:
        self.written += data

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def is_closing(self) -> bool:
        return self.closed

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self.protocol = protocol

    def can_write_eof(self) -> bool:
        return False

    def close(self) -> None:
        self.closed = True

    abort = close


def memory_door(
    *,
    router: Router | None = None,
    token: str | None = None,
    bound: socket.socket | None = None,
    **settings: object,
) -> tuple[HttpDoor, HttpListener, FakeIntake]:
    """Return a door whose listener accepts nothing by itself; it is as if on `bound`, else on a unix socket."""
    intake = FakeIntake()
    door = HttpDoor(
        router=router or FakeRouter(),
        intake=intake,
        settings=msgspec.structs.replace(Listen(), **settings),
        durability=Durability.FSYNC,
        token=lambda: token,
        metrics=Metrics(),
        clock=HandClock(),
        samples=lambda _label, _refusals: None,
    )
    with contextlib.ExitStack() as stack:
        sock = bound or stack.enter_context(socket.socket(socket.AF_UNIX))
        return door, HttpListener(door, sock, label="memory"), intake


async def hear_out(listener: HttpListener, pieces: Sequence[bytes]) -> bytes:
    """Feed the pieces to a connection, as the loop would: read by read; return what it answered once it is gone."""
    door, connection, transport = listener.door, Connection(listener), MemoryTransport()
    connection.connection_made(transport)
    for piece in pieces:
        for at in range(0, len(piece), len(door.buffer)):
            connection.data_received(piece[at : at + len(door.buffer)])
            await asyncio.sleep(0)
    await asyncio.sleep(0)
    connection.connection_lost(None)
    if door._timer is not None:
        door._timer.cancel()
    assert door.inflight.held == 0, door.inflight.held
    return transport.written


async def converse(pieces: Sequence[bytes], **settings: Any) -> tuple[list[int], list[bytes]]:
    """Feed the pieces; return the statuses answered and the events submitted."""
    _, listener, intake = memory_door(**settings)
    answers = await hear_out(listener, pieces)
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", answers)], intake.events
