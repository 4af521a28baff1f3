"""A door on real sockets, on asyncio's own loop and on uvloop."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path

import msgspec
import pytest
import uvloop

from forwarder.config.model import Address, Listen, Secret
from forwarder.core.seams import Durability
from forwarder.metrics import Metrics
from forwarder.sources import listen
from forwarder.sources.http import HttpDoor
from forwarder.vendors.base import Refusal
from tests.sources.harness import Open, Setup
from tests.support.fake_intake import FakeIntake, FakeRouter
from tests.support.hand_clock import HandClock


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Run every test of this directory on both loops (pytest-asyncio's hook)."""
    return {"asyncio": asyncio.SelectorEventLoop, "uvloop": uvloop.new_event_loop}


@pytest.fixture
async def door(tmp_path: Path) -> AsyncIterator[Open]:
    """Open doors with the given settings; they are drained at the end."""
    opened: list[Setup] = []

    async def make(
        *,
        unix: bool = False,
        prompt: bool = True,
        durability: Durability = Durability.FSYNC,
        token: str | Callable[[], str] | None = None,
        host: str = "127.0.0.1",
        **settings: object,
    ) -> Setup:
        intake, router, metrics, clock = FakeIntake(prompt=prompt), FakeRouter(), Metrics(), HandClock()
        samples: list[tuple[str, Sequence[Refusal]]] = []
        address = Address(unix=str(tmp_path / "door.sock")) if unix else Address(host=host)
        sock = listen.bind(address, socket.SOCK_STREAM, key="listen.http").sockets[0]
        if token is not None:
            settings["auth_token"] = Secret(file="token")
        door = HttpDoor(
            router=router,
            intake=intake,
            settings=msgspec.structs.replace(Listen(), **settings),
            durability=durability,
            token=token if callable(token) else lambda: token,
            metrics=metrics,
            clock=clock,
            samples=lambda label, refusals: samples.append((label, refusals)),
        )
        listener = await door.serve(sock, label="test")
        place = address.unix or ("127.0.0.1", sock.getsockname()[1])
        setup = Setup(door, listener, place, intake, router, metrics, clock, samples)
        opened.append(setup)
        return setup

    yield make
    for setup in opened:
        for client in setup.clients:
            client.writer.transport.abort()
        setup.intake.prompt = True
        setup.intake.commit()
        await setup.listener.drain(setup.clock.monotonic())
        assert setup.door.inflight.held == 0
