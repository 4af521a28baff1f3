"""Names that do not resolve, or not in time: their destination waits, and nobody else does."""

import asyncio
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from forwarder.core.lane.outcome import Answer, Unreachable
from forwarder.flusher import Client
from tests.flusher.harness import RealClock, serve, telemetrydeck
from tests.support import spools

HANGING = "hangs.invalid"
real = socket.getaddrinfo


class Resolver:
    """Stands for the system's: one name hangs until it is let go, and says how often it was asked for."""

    def __init__(self) -> None:
        self.asked = 0
        self.let_go = threading.Event()

    def __call__(self, host: Any, *args: Any, **kwargs: Any) -> Any:
        if host != HANGING:
            return real(host, *args, **kwargs)
        self.asked += 1
        self.let_go.wait(60)
        return real("127.0.0.1", *args, **kwargs)


@pytest.fixture
def resolver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Resolver]:
    found = Resolver()
    monkeypatch.setattr(socket, "getaddrinfo", found)
    yield found
    found.let_go.set()


@pytest.mark.usefixtures("resolver")
async def test_p6_a_name_that_hangs_holds_up_no_other_destination_and_no_commit(tmp_path: Path) -> None:
    async with serve() as vendor:
        port = vendor.url.rpartition(":")[2]
        dead = [Client(telemetrydeck(f"http://{HANGING}:{port}", timeout=0.2), clock=RealClock()) for _ in range(40)]
        alive = Client(telemetrydeck(f"http://localhost:{port}"), clock=RealClock())
        results = await asyncio.gather(*(client.post(f"http://{HANGING}:{port}", {}, b"[]") for client in dead))
        assert set(results) == {Unreachable("timeout", detail="no connection in time")}
        assert isinstance(await alive.post(f"http://localhost:{port}", {}, b"[]"), Answer)
        async with asyncio.timeout(30), spools.spool(tmp_path) as spool:
            await spools.append(spool, [b"{}"])
            assert spool.stats().queued_events == 1
        for client in (*dead, alive):
            await client.close()


async def test_a_name_is_looked_up_once_however_many_requests_wait_for_it(resolver: Resolver) -> None:
    async with serve() as vendor:
        url = f"http://{HANGING}:{vendor.url.rpartition(':')[2]}"
        client = Client(telemetrydeck(url, timeout=10.0, concurrency=8), clock=RealClock())
        waiting = [asyncio.create_task(client.post(url, {}, b"[]")) for _ in range(8)]
        while not resolver.asked:  # noqa: ASYNC110  asked on another thread
            await asyncio.sleep(0.001)
        assert resolver.asked == 1
        resolver.let_go.set()
        assert set(await asyncio.gather(*waiting)) == {Answer(200, body_start="says the vendor")}
        assert resolver.asked == 1
        await client.close()


async def test_a_look_up_that_nobody_waits_for_any_more_serves_the_next_request(resolver: Resolver) -> None:
    async with serve() as vendor:
        url = f"http://{HANGING}:{vendor.url.rpartition(':')[2]}"
        client = Client(telemetrydeck(url, timeout=0.3), clock=RealClock())
        for _ in range(3):
            assert await client.post(url, {}, b"[]") == Unreachable("timeout", detail="no connection in time")
        resolver.let_go.set()
        while not isinstance(await client.post(url, {}, b"[]"), Answer):
            pass
        assert resolver.asked == 1
        await client.close()
