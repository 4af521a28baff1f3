"""One request by a client of its own, by either transport, on either loop."""

import asyncio
from collections.abc import Callable, Mapping

import pytest
import uvloop

from forwarder.config.model import Destination
from forwarder.core.lane.outcome import Result
from forwarder.flusher import Client
from forwarder.flusher.client import Open
from forwarder.flusher.direct import Direct
from forwarder.flusher.proxied import Proxied
from tests.flusher.harness import HEADERS, Post, RealClock

TRANSPORTS: Mapping[str, Open] = {"direct": Direct, "aiohttp": Proxied}
"""Without a proxy aiohttp goes direct, too: one contract for both."""


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Run every test of this directory on both loops (pytest-asyncio's hook)."""
    return {"asyncio": asyncio.SelectorEventLoop, "uvloop": uvloop.new_event_loop}


@pytest.fixture(params=list(TRANSPORTS.values()), ids=list(TRANSPORTS))
def transport(request: pytest.FixtureRequest) -> Open:
    made: Open = request.param
    return made


@pytest.fixture
def post(transport: Open) -> Post:
    async def once(destination: Destination, body: bytes = b"[]", url: str | None = None) -> Result:
        client = Client(destination, clock=RealClock(), open_=transport)
        try:
            return await client.post(url or destination.url, HEADERS, body)
        finally:
            await client.close()

    return once
