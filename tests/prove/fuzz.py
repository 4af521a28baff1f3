"""The atheris target: bytes at a connection of the door with the real vendor checks behind it.

    python -m tests.prove.fuzz CORPUS… [-max_total_time=60]

Whatever comes, nothing but answers may come out: no exception, no 5xx, no memory kept, and the same answers whether the
bytes come in one piece or in two.
"""

import asyncio
import re
import socket
import sys

from forwarder.config.model import Destination, Listen
from forwarder.core.seams import Durability
from forwarder.metrics import Metrics
from forwarder.sources.connection import Connection
from forwarder.sources.http import HttpDoor, HttpListener
from forwarder.vendors.router import DestinationRouter
from tests.sources.memory_door import MemoryTransport
from tests.support.fake_intake import FakeIntake
from tests.support.hand_clock import HandClock

ROUTER = DestinationRouter(
    [
        Destination(name="td", kind="telemetrydeck", url="http://127.0.0.1:1"),
        Destination(name="en", kind="encharge", url="http://127.0.0.1:1/v1"),
    ],
    secret=lambda _: "key",
    max_event=1 << 20,
)
LOOP = asyncio.new_event_loop()


def answers(*pieces: bytes) -> tuple[list[bytes], list[bytes]]:
    """Return the statuses answered and the events stored."""

    async def converse() -> tuple[list[bytes], list[bytes]]:
        intake = FakeIntake()
        door = HttpDoor(
            router=ROUTER,
            intake=intake,
            settings=Listen(max_body=64 * 1024),
            durability=Durability.FSYNC,
            token=lambda: None,
            metrics=Metrics(),
            clock=HandClock(),
            samples=lambda _label, _refusals: None,
        )
        with socket.socket(socket.AF_UNIX) as sock:
            listener = HttpListener(door, sock, label="fuzz")
        connection, transport = Connection(listener), MemoryTransport()
        connection.connection_made(transport)
        for piece in pieces:
            for at in range(0, len(piece), len(door.buffer)):
                part = piece[at : at + len(door.buffer)]
                door.buffer[: len(part)] = part
                connection.buffer_updated(len(part))
                await asyncio.sleep(0)
        await asyncio.sleep(0)
        connection.connection_lost(None)
        if door._timer is not None:
            door._timer.cancel()
        assert door.inflight.held == 0, door.inflight.held
        return re.findall(rb"HTTP/1\.1 (\d{3}) ", transport.written), intake.events

    return LOOP.run_until_complete(converse())


def check(data: bytes) -> None:
    """Feed it whole, and cut where its first byte says."""
    whole = answers(data)
    assert not [status for status in whole[0] if status[:1] == b"5" and status != b"505"], whole[0]
    cut = data[0] % len(data) if data else 0
    assert answers(data[:cut], data[cut:]) == whole


def main() -> None:
    """Fuzz for ever, or as the arguments say."""
    import atheris  # type: ignore[import-not-found,import-untyped,unused-ignore]

    atheris.instrument_all()
    atheris.Setup(sys.argv, check)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
