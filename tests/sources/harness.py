"""A door on a real socket with all its collaborators in the test's hands."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import msgspec

from forwarder.metrics import Metrics
from forwarder.sources.http import HttpDoor, HttpListener
from forwarder.vendors.base import Refusal
from tests.support.fake_intake import FakeIntake, FakeRouter
from tests.support.hand_clock import HandClock
from tests.support.raw_http import RawClient


class Setup(msgspec.Struct):
    """A door with its collaborators, all in the test's hands."""

    door: HttpDoor
    listener: HttpListener
    place: object
    intake: FakeIntake
    router: FakeRouter
    metrics: Metrics
    clock: HandClock
    samples: list[tuple[str, Sequence[Refusal]]]
    clients: list[RawClient] = []

    async def client(self, *, receive_buffer: int | None = None) -> RawClient:
        """Open a connection; it is cut at the end of the test if not before."""
        client = await RawClient.open(self.place, receive_buffer=receive_buffer)
        self.clients.append(client)
        return client

    def refused(self, reason: str) -> float:
        return self.metrics.refused.at("test", reason).value

    async def until(self, true: Callable[[], bool]) -> None:
        """Let the loop turn until `true`."""
        async with asyncio.timeout(10):
            while not true():  # noqa: ASYNC110 - every turn of the loop is looked at
                await asyncio.sleep(0)

    async def submitted(self, events: int) -> None:
        """Let the loop turn until so many events were submitted; those of one turn are so together."""
        await self.until(lambda: len(self.intake.events) >= events)


Open = Callable[..., Awaitable[Setup]]
