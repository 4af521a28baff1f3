"""The live destinations of one daemon: opened all or none, added and removed by reloads, closed at the end."""

import asyncio
from collections.abc import Callable, Iterable
from functools import partial

import structlog

from forwarder.app.destination import LiveDestination
from forwarder.config.model import Config, Destination, SpoolConfig
from forwarder.core.intake import SpoolIntake
from forwarder.core.seams import Clock
from forwarder.metrics import Metrics
from forwarder.spool.directory import SpoolDirectory

log = structlog.get_logger()


class Destinations:
    """Owner of every live destination (`live`, by name) and of the tasks that deliver; keeps `intake` up to date."""

    def __init__(
        self,
        *,
        directory: SpoolDirectory,
        intake: SpoolIntake,
        secret: Callable[[str], str | None],
        clock: Clock,
        metrics: Metrics,
        dry_run: bool,
    ) -> None:
        self.live: dict[str, LiveDestination] = {}
        self._directory = directory
        self._intake = intake
        self._secret = secret
        self._make = partial(
            LiveDestination,
            directory=directory,
            joining=intake.joining,
            clock=clock,
            metrics=metrics,
            dry_run=dry_run,
        )
        self._lanes: dict[str, asyncio.Task[None]] = {}

    async def open(self, configs: Iterable[Destination], spool: SpoolConfig) -> list[LiveDestination]:
        """Open all of these, or none: raises what the first one raised. They deliver nothing yet."""
        fresh = [self._make(config, spool, secret=partial(self._secret, config.name)) for config in configs]
        results = await asyncio.gather(*(live.__aenter__() for live in fresh), return_exceptions=True)
        failures = [result for result in results if isinstance(result, BaseException)]
        if failures:
            await close(result for result in results if isinstance(result, LiveDestination))
            raise failures[0]
        return fresh

    def begin(self, fresh: Iterable[LiveDestination], tasks: asyncio.TaskGroup) -> None:
        """Let events in and out of opened destinations."""
        for live in fresh:
            self.live[live.config.name] = live
            self._lanes[live.config.name] = tasks.create_task(live.run(), name=f"lane {live.config.name}")
        self._connect()

    def reconfigure(self, config: Config) -> None:
        """Apply changed settings to those that stay."""
        for destination in config.destinations:
            if destination.name in self.live:
                self.live[destination.name].reconfigure(destination, config.spool)

    async def remove(self, names: Iterable[str]) -> None:
        """Stop delivering to destinations that no request is routed to any more; their spools stay on disk."""
        await asyncio.gather(*map(self._remove, names))

    async def _remove(self, name: str) -> None:
        live = self.live[name]
        await live.finish()
        del self.live[name]
        self._connect()
        await self._lanes.pop(name)
        await live.__aexit__()
        log.warning("destination_removed", destination=name, kept=str(self._directory.spool(name)))

    async def drain(self, deadline: float) -> None:
        """Send what can be sent until `deadline` (monotonic seconds); the rest stays on disk."""
        await asyncio.gather(*(live.drain(deadline) for live in self.live.values()))

    async def close(self) -> None:
        """Close all of them; checkpoints are written."""
        await close(self.live.values())

    def _connect(self) -> None:
        self._intake.spools = {name: live.spool for name, live in self.live.items()}


async def close(destinations: Iterable[LiveDestination]) -> None:
    """Close destinations that were opened."""
    await asyncio.gather(*(live.__aexit__() for live in destinations))
