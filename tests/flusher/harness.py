"""A vendor on loopback that answers as told, and a flusher in front of it."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager

from aiohttp import web

from forwarder.config.model import Destination, Flush, Retry
from forwarder.core.lane.outcome import Result
from forwarder.flusher import Client, Flusher
from forwarder.metrics import Metrics
from forwarder.vendors.base import Vendor
from forwarder.vendors.encharge.delivery import Encharge
from forwarder.vendors.telemetrydeck.delivery import TelemetryDeck
from tests.support.fake_spool import FakeDeadLetters, FakeSpool

HEADERS = {"Content-Type": "application/json"}
Post = Callable[..., Awaitable[Result]]
"""(destination, body, url) → result: one request by a client of its own."""
Handler = Callable[[web.Request, bytes], Awaitable[web.StreamResponse]]
KEY = b"/v2/\0app"
QUICK = Retry(initial=0.01, max=0.05)


class RealClock:
    def monotonic(self) -> float:
        return time.monotonic()

    def wall(self) -> float:
        return time.time()


class JumpingClock(RealClock):
    """The real time, and so many seconds more."""

    def __init__(self) -> None:
        self.ahead = 0.0
        self.asked = 0

    def monotonic(self) -> float:
        self.asked += 1
        return super().monotonic() + self.ahead

    def wall(self) -> float:
        return super().wall() + self.ahead


class Standin:
    """Answers with `status`, unless a handler was given; keeps bodies and headers."""

    def __init__(self) -> None:
        self.url = ""
        self.status = 200
        self.headers: dict[str, str] = {}
        self.bodies: list[bytes] = []
        self.seen: list[web.Request] = []
        self.peers: list[object] = []
        self.handler: Handler | None = None

    async def handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        self.bodies.append(body)
        self.seen.append(request)
        self.peers.append(request.transport.get_extra_info("peername") if request.transport else None)
        if self.handler is not None:
            return await self.handler(request, body)
        return web.Response(status=self.status, headers=self.headers, text="says the vendor")


@asynccontextmanager
async def serve() -> AsyncIterator[Standin]:
    standin = Standin()
    app = web.Application(client_max_size=1 << 30)
    app.router.add_route("*", "/{tail:.*}", standin.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    standin.url = f"http://{host}:{port}"
    try:
        yield standin
    finally:
        await runner.cleanup()


async def until(condition: Callable[[], bool]) -> None:
    """Let the loop turn until something is true."""
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110  the conditions are plain facts, without events of their own
            await asyncio.sleep(0)


class Scene:
    """A flusher with a fake spool; `destination` may be changed before `run`."""

    def __init__(self, destination: Destination, *, client: object = None, dry_run: bool = False) -> None:
        self.clock = JumpingClock()
        self.spool = FakeSpool(self.clock, destination.name)
        self.dead = FakeDeadLetters()
        self.metrics = Metrics()
        self.task: asyncio.Task[None] | None = None
        self.key: str | None = "the-write-key"
        vendor: Vendor = Encharge() if destination.kind == "encharge" else TelemetryDeck()
        self.flusher = Flusher(
            destination=destination,
            spool=self.spool,
            dead_letters=self.dead,
            vendor=vendor,
            secret=lambda: self.key,
            client=client or Client(destination, clock=self.clock),  # type: ignore[arg-type]
            clock=self.clock,
            jitter=lambda: 0.5,
            metrics=self.metrics,
            dry_run=dry_run,
        )

    @asynccontextmanager
    async def running(self, drain_s: float = 10.0) -> AsyncIterator["Scene"]:
        self.task = task = asyncio.create_task(self.flusher.run())
        try:
            yield self
        finally:
            if not task.done():
                await self.flusher.drain(self.clock.monotonic() + drain_s)
            await task

    @property
    def state(self) -> str:
        return self.flusher.status().state


def telemetrydeck(url: str, **changes: object) -> Destination:
    settings: dict[str, object] = {"flush": Flush(interval=0.01), "retry": QUICK, "timeout": 5.0, **changes}
    return Destination(name="td", kind="telemetrydeck", url=url, **settings)  # type: ignore[arg-type]


def encharge(url: str, **changes: object) -> Destination:
    settings: dict[str, object] = {"expired": "dead_letter", "retry": QUICK, "timeout": 5.0, **changes}
    return Destination(name="en", kind="encharge", url=f"{url}/v1", **settings)  # type: ignore[arg-type]


class ScriptedClient:
    """A client whose answers wait until the test gives them."""

    def __init__(self) -> None:
        self.open: list[tuple[bytes, asyncio.Future[Result]]] = []
        self.closed = False

    async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> Result:
        answer: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self.open.append((body, answer))
        return await answer

    def reconfigure(self, destination: Destination) -> None:
        pass

    async def close(self) -> None:
        self.closed = True
