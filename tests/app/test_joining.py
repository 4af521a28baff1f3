"""Door and spools know of one another: requests that come while the next commit waits for company go into it."""

import asyncio
import socket
from pathlib import Path

from forwarder.app.destinations import Destinations, close
from forwarder.config.model import Destination, Listen, SpoolConfig
from forwarder.core.intake import SpoolIntake
from forwarder.core.joining import Joining
from forwarder.core.seams import Durability
from forwarder.metrics import Metrics
from forwarder.sources.connection import Connection
from forwarder.sources.http import HttpDoor, HttpListener
from forwarder.spool.directory import SpoolDirectory
from forwarder.vendors.router import DestinationRouter
from tests.sources.memory_door import MemoryTransport
from tests.support.raw_http import post
from tests.support.spools import SystemClock

SIGNAL = post(b'[{"appID":"a","clientUser":"u","type":"t"}]')


async def answered(clients: list[tuple[Connection, MemoryTransport]], times: int) -> None:
    """Let the loop turn until all have so many answers."""
    async with asyncio.timeout(30):
        while any(transport.written.count(b"HTTP/1.1 200") < times for _, transport in clients):  # noqa: ASYNC110
            await asyncio.sleep(0)


async def test_those_whom_a_commit_has_answered_share_the_next_one_in_whatever_turn_they_ask_again(
    tmp_path: Path,
) -> None:
    clock, metrics = SystemClock(), Metrics()
    directory = SpoolDirectory(tmp_path, max_total=1 << 40, min_free=0, version="1", clock=clock)
    directory.open()
    intake = SpoolIntake({}, Joining())
    destinations = Destinations(
        directory=directory, intake=intake, secret=lambda _name: None, clock=clock, metrics=metrics, dry_run=True
    )
    config = Destination(name="td", kind="telemetrydeck", url="http://127.0.0.1:9")
    (live,) = await destinations.open([config], SpoolConfig(directory=str(directory.root)))
    intake.spools = {"td": live.spool}
    door = HttpDoor(
        router=DestinationRouter([config], secret=lambda _name: None, max_event=1000),
        intake=intake,
        settings=Listen(),
        durability=Durability.FSYNC,
        token=lambda: None,
        metrics=metrics,
        clock=clock,
        samples=lambda _label, _refusals: None,
    )
    with socket.socket(socket.AF_UNIX) as sock:
        listener = HttpListener(door, sock, label="memory")
    listener.obey(door.rules)
    clients = [(Connection(listener), MemoryTransport()) for _ in range(8)]
    for connection, transport in clients:
        connection.connection_made(transport)
    for times in (1, 2):  # the second time their heads are known
        for connection, _ in clients:
            connection.data_received(SIGNAL)
        await answered(clients, times)
    before = live.spool.stats().commits
    for connection, _ in clients[:4]:
        connection.data_received(SIGNAL)
    await asyncio.sleep(0)
    assert intake.joining.requests == 4  # unchecked: the next commit waits for the other four
    for connection, _ in clients[4:]:
        connection.data_received(SIGNAL)
    await answered(clients, 3)
    assert live.spool.stats().commits == before + 1
    for connection, _ in clients:
        connection.connection_lost(None)
    await close([live])
    directory.close()
