"""A configured destination and its running parts: spool, dead letters, client, flusher."""

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from functools import partial
from typing import Self

import structlog

from forwarder.app.clock import jitter
from forwarder.app.replay import Replay
from forwarder.config.model import Destination, SpoolConfig
from forwarder.core.joining import Joining
from forwarder.core.seams import Clock
from forwarder.flusher import Client, Flusher
from forwarder.metrics import Metrics
from forwarder.spool.dead_letters import DiskDeadLetters
from forwarder.spool.directory import SpoolDirectory
from forwarder.spool.spool import DiskSpool, SpoolSettings
from forwarder.vendors import VENDORS

CRASH_PAUSE_S = 5.0
CLOSE_S = 10.0

log = structlog.get_logger()


class LiveDestination:
    """Owner of one destination's parts. `async with` opens and closes them, `run` delivers, `drain` ends delivery."""

    def __init__(
        self,
        config: Destination,
        spool: SpoolConfig,
        *,
        directory: SpoolDirectory,
        joining: Joining,
        secret: Callable[[], str | None],
        clock: Clock,
        metrics: Metrics,
        dry_run: bool,
    ) -> None:
        self.config = config
        self._clock = clock
        self._directory = directory
        self.spool = DiskSpool(
            directory=directory.spool(config.name),
            quarantine=directory.quarantine / config.name,
            destination=config.name,
            settings=_settings(config, spool),
            clock=clock,
            metrics=metrics,
            room=lambda size: directory.room(size, config.name),
            joining=joining,
        )
        self.dead_letters = DiskDeadLetters(directory.dead(config.name), config.name, spool.dead_letters, clock)
        self.replay = Replay(spool=self.spool, dead_letters=self.dead_letters, vendor=VENDORS[config.kind], clock=clock)
        self._make_flusher = partial(
            Flusher,
            spool=self.spool,
            dead_letters=self.dead_letters,
            vendor=VENDORS[config.kind],
            secret=secret,
            clock=clock,
            jitter=jitter,
            metrics=metrics,
            dry_run=dry_run,
        )
        self.flusher = self._new_flusher()
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self.dead_letters)
            await self.spool.open(given=max(await self.dead_letters.sequences(), default=0) + 1)
            stack.push_async_callback(self._close_spool)
            self._directory.join(self.config.name, self.spool)
            stack.callback(self._directory.leave, self.config.name)
            await self.replay.mend()
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def _close_spool(self) -> None:
        await self.spool.close(self._clock.monotonic() + CLOSE_S)

    def _new_flusher(self) -> Flusher:
        return self._make_flusher(destination=self.config, client=Client(self.config, clock=self._clock))

    def reconfigure(self, config: Destination, spool: SpoolConfig) -> None:
        """Apply changed settings and read certificates and keys again; leases and requests in flight stay."""
        self.config = config
        self.spool.retune(_settings(config, spool))
        self.dead_letters.limit(spool.dead_letters)
        self.flusher.reconfigure(config)

    async def run(self) -> None:
        """Deliver until drained; every hour drop dead letters that are too old."""
        keeper = asyncio.create_task(self.dead_letters.keep(), name=f"dead letters {self.config.name}")
        try:
            await self._deliver()
        finally:
            keeper.cancel()

    async def _deliver(self) -> None:
        """Deliver until drained. A flusher that fails is a bug: it is logged and started again, nothing is lost."""
        while True:
            try:
                await self.flusher.run()
            except Exception:  # the supervisor: one destination's bug must not take the daemon down
                log.exception("lane_crashed", destination=self.config.name, pause_s=CRASH_PAUSE_S)
                await asyncio.sleep(CRASH_PAUSE_S)
                self.flusher = self._new_flusher()
            else:
                return

    async def drain(self, deadline: float) -> None:
        """Send what can be sent until `deadline` (monotonic seconds); the rest stays on disk."""
        await self.flusher.drain(deadline)

    async def finish(self) -> None:
        """Let the requests under way end, as long as they may take; send nothing more."""
        await self.flusher.finish(self._clock.monotonic() + self.config.timeout)


def _settings(config: Destination, spool: SpoolConfig) -> SpoolSettings:
    return SpoolSettings(
        segment_size=spool.segment_size,
        max_size=config.max_size,
        durability=spool.durability,
        checkpoint_interval=spool.checkpoint_interval,
        when_full=config.when_full,
    )
