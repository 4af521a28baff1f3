"""The same door built on aiohttp.web: same router, checks, intake, spool and delivery; it answers after the commit.

Run as `python -m benchmarks.aiohttp_door CONFIG`.
"""

import asyncio
import sys
from contextlib import AsyncExitStack
from pathlib import Path

import structlog
import uvloop
from aiohttp import web

from forwarder.app.clock import SystemClock
from forwarder.app.destination import LiveDestination
from forwarder.config.loading import load
from forwarder.config.model import Config
from forwarder.core.intake import SpoolIntake
from forwarder.core.joining import Joining
from forwarder.core.seams import Busy, Durability, Failed, Intake, Stored
from forwarder.metrics import Metrics
from forwarder.sources.stamp import Stamp
from forwarder.spool.directory import SpoolDirectory
from forwarder.vendors.base import BadRequest, Route
from forwarder.vendors.router import DestinationRouter


class Door:
    """The handler, as a team would write it with aiohttp."""

    def __init__(self, config: Config, intake: Intake, clock: SystemClock) -> None:
        self._router = DestinationRouter(config.destinations, secret=lambda _: "key", max_event=config.listen.max_event)
        self._level = Durability[config.spool.durability.upper()]
        self._intake = intake
        self._stamp = Stamp(clock)
        self._routes: dict[str, Route | BadRequest] = {}

    async def handle(self, request: web.Request) -> web.Response:
        """Check, submit, wait for the commit, answer."""
        route = self._routes.get(request.path)
        if route is None:
            route = self._routes[request.path] = self._router.resolve(request.path, {}, encharge_token=False)
        if isinstance(route, BadRequest):
            return web.json_response({"error": route.error}, status=route.status)
        checked = route.check(await request.read(), received_at=self._stamp.now())
        if isinstance(checked, BadRequest):
            return web.json_response({"error": checked.error}, status=checked.status)
        done: asyncio.Future[Stored | Failed] = asyncio.get_running_loop().create_future()
        busy = self._intake.submit(checked.groups, self._level, done.set_result)
        if isinstance(busy, Busy):
            return web.json_response({"error": busy.message}, status=503)
        if isinstance(result := await done, Failed):
            return web.json_response({"error": result.message}, status=503)
        return web.Response(
            status=route.success_status,
            body=b'{"accepted":%d}' % checked.accepted,
            content_type="application/json",
            headers={"Forwarder-Ack": result.level.word},
        )


async def serve(path: Path) -> None:
    """Listen until the process is ended."""
    config, _ = load(path)
    clock, metrics = SystemClock(), Metrics()
    spool = config.spool
    directory = SpoolDirectory(
        Path(spool.directory), max_total=spool.max_total, min_free=spool.min_free, version="bench", clock=clock
    )
    directory.open()
    joining = Joining()
    async with AsyncExitStack() as stack, asyncio.TaskGroup() as tasks:
        lives = [
            LiveDestination(
                each,
                spool,
                directory=directory,
                joining=joining,
                secret=lambda: "key",
                clock=clock,
                metrics=metrics,
                dry_run=False,
            )
            for each in config.destinations
        ]
        for live in lives:
            await stack.enter_async_context(live)
            tasks.create_task(live.run())
        intake = SpoolIntake({live.config.name: live.spool for live in lives}, joining)
        application = web.Application(client_max_size=config.listen.max_body)
        application.router.add_post("/{path:.*}", Door(config, intake, clock).handle)
        runner = web.AppRunner(application, access_log=None)
        await runner.setup()
        address = config.listen.http[0]
        await web.TCPSite(runner, address.host, address.port, backlog=4096).start()
        await asyncio.Event().wait()


if __name__ == "__main__":
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(30))
    uvloop.run(serve(Path(sys.argv[1])))
