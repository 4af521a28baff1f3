"""The daemon: builds the parts, starts them in order, reloads, drains them in order."""

import asyncio
import os
import signal
import socket
from collections.abc import Iterable
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

import structlog

from forwarder import __version__, logs
from forwarder.admin import AdminServer, Gauges
from forwarder.app.clock import SystemClock
from forwarder.app.controls import Controls
from forwarder.app.destination import LiveDestination
from forwarder.app.doors import Doors, inherited
from forwarder.app.heart import Heart
from forwarder.app.systemd import Notifier, inherited_sockets
from forwarder.app.view import View
from forwarder.config.loading import load
from forwarder.config.model import Config, Destination
from forwarder.config.secret import AUTH_TOKEN, Secrets
from forwarder.control import ControlServer
from forwarder.core.intake import SpoolIntake
from forwarder.core.report import Reporter
from forwarder.core.seams import Durability
from forwarder.errors import ConfigurationError, ForwarderError
from forwarder.metrics import Metrics
from forwarder.spool.directory import SpoolDirectory
from forwarder.spool.samples import RefusedSamples
from forwarder.vendors.router import DestinationRouter, find_conflicts

LEAVE_S = 2.0
"""Left for commits and the last checkpoint when the drain deadline is spent."""

log = structlog.get_logger()


def load_all(path: Path | None) -> tuple[Config, list[str]]:
    """Return the configuration and its notes; raises ConfigurationError with every problem, conflicts included."""
    config, findings = load(path)
    conflicts = find_conflicts(config.destinations)
    if conflicts:
        raise ConfigurationError(conflicts)
    return config, findings.notes


class Daemon:
    """One run of the daemon. `run` returns after a drain; SIGTERM and SIGINT start it, a second one cuts it short."""

    def __init__(self, *, path: Path | None, dry_run: bool = False) -> None:
        self._path = path
        self._dry_run = dry_run
        self._clock = SystemClock()
        self._metrics = Metrics()
        self._destinations: dict[str, LiveDestination] = {}
        self._lanes: dict[str, asyncio.Task[None]] = {}
        self._stopping = asyncio.Event()
        self._hurry = asyncio.Event()
        self._reloading = asyncio.Lock()

    async def run(self) -> None:
        """Load, lock, recover, listen, deliver; drain when asked to. Raises ForwarderError if it cannot start."""
        self._config, self._notes = load_all(self._path)
        self._log_control = logs.configure(self._config.log, self._clock, environ=os.environ)
        self._notifier = Notifier(os.environ)
        async with AsyncExitStack() as stack:
            self._lock_directory(stack)
            self._build(inherited_sockets(os.environ))
            try:
                async with asyncio.TaskGroup() as self._tasks:
                    await self._live(stack)
            except ExceptionGroup as group:
                raise _first_forwarder_error(group) from None
        log.info("stopped")

    async def _live(self, stack: AsyncExitStack) -> None:
        await self._start(stack)
        background = [
            self._tasks.create_task(self._samples.run(), name="samples"),
            self._tasks.create_task(self._heart.run(), name="heart"),
        ]
        self._catch_signals()
        self._announce()
        await self._stopping.wait()
        await self._drain()
        for task in background:
            task.cancel()

    # ---- start

    def _lock_directory(self, stack: AsyncExitStack) -> None:
        spool = self._config.spool
        self._directory = SpoolDirectory(
            Path(spool.directory),
            max_total=spool.max_total,
            min_free=spool.min_free,
            version=__version__,
            clock=self._clock,
        )
        self._directory.open()
        stack.callback(self._directory.close)

    def _build(self, passed: dict[str, list[socket.socket]]) -> None:
        self._secrets = Secrets(self._config)
        self._samples = RefusedSamples(self._directory.refused, self._clock)
        self._intake = SpoolIntake({})
        self._passed = passed
        self._doors = Doors(
            self._config,
            router=self._router(),
            intake=self._intake,
            token=self._token,
            metrics=self._metrics,
            clock=self._clock,
            samples=self._samples,
            inherited=passed,
        )
        self._view = View(
            destinations=self._destinations,
            doors=self._doors,
            directory=self._directory,
            clock=self._clock,
            notes=lambda: self._notes,
        )
        self._reporter = Reporter(self._view, self._clock)
        self._metrics.add_source(Gauges(self._view, self._clock))
        self._metrics.reload_success.at().value = 1
        self._heart = Heart(
            view=self._view,
            reporter=self._reporter,
            directory=self._directory,
            notifier=self._notifier,
            secrets_changed=self._secrets_changed,
        )

    async def _start(self, stack: AsyncExitStack) -> None:
        """Recover the spools, then deliver, then listen: what is on disk waits for nobody."""
        stack.push_async_callback(self._close_destinations)
        await self._add(self._config.destinations)
        controls = Controls(
            destinations=self._destinations,
            log_control=self._log_control,
            metrics=self._metrics,
            reload=self.reload,
        )
        await stack.enter_async_context(ControlServer(self._directory.control_socket, self._reporter, controls))
        await self._open_admin(stack)
        await self._doors.open(self._config.listen)

    async def _open_admin(self, stack: AsyncExitStack) -> None:
        address = self._config.listen.admin
        if address is None:
            return
        bound = inherited(self._passed, address.systemd, "listen.admin")[0] if address.systemd else None
        admin = AdminServer(
            self._view,
            self._reporter,
            self._metrics,
            address=address,
            bound=bound,
            allowed_hosts=self._config.listen.allowed_hosts,
        )
        try:
            await stack.enter_async_context(admin)
        except OSError as exc:
            text = f"listen.admin: cannot listen on {address.label}: {exc.strerror or exc}"
            raise ConfigurationError([text]) from exc

    def _announce(self) -> None:
        for note in self._notes:
            log.warning("configuration_note", note=note)
        labels = [listener.label for listener in self._doors.status()]
        queued = {spool.destination: spool.queued_events for spool in self._view.spools()}
        log.info("ready", listeners=labels, queued=queued, directory=str(self._directory.root), version=__version__)
        self._notifier.send("READY=1", f"STATUS={self._heart.words()}")

    # ---- destinations

    async def _add(self, configs: Iterable[Destination]) -> None:
        fresh = [
            LiveDestination(
                config,
                self._config.spool,
                directory=self._directory,
                secret=partial(self._secret, config.name),
                clock=self._clock,
                metrics=self._metrics,
                dry_run=self._dry_run,
            )
            for config in configs
        ]
        await asyncio.gather(*(live.__aenter__() for live in fresh))
        for live in fresh:
            self._destinations[live.config.name] = live
            self._lanes[live.config.name] = self._tasks.create_task(live.run(), name=f"lane {live.config.name}")
        self._connect()

    def _connect(self) -> None:
        self._intake.spools = {name: live.spool for name, live in self._destinations.items()}

    async def _remove(self, names: Iterable[str]) -> None:
        """Stop delivering to these; their spools stay on disk."""
        for name in names:
            live = self._destinations.pop(name)
            await live.drain(self._clock.monotonic())
            await self._lanes.pop(name)
            await live.__aexit__()
            self._connect()
            log.warning("destination_removed", destination=name, kept=str(self._directory.spool(name)))

    async def _close_destinations(self) -> None:
        await asyncio.gather(*(live.__aexit__() for live in self._destinations.values()))

    def _router(self) -> DestinationRouter:
        return DestinationRouter(
            self._config.destinations,
            secret=self._secret,
            max_event=self._config.listen.max_event,
        )

    def _secret(self, destination: str) -> str | None:
        return self._secrets.get(destination)

    def _token(self) -> str | None:
        return self._secrets.auth_token()

    def _secrets_changed(self) -> None:
        for name in self._secrets.changed():
            log.info("secret_changed", secret=name)
            if name != AUTH_TOKEN:
                self._destinations[name].flusher.secret_changed()

    # ---- reload

    async def reload(self) -> list[str]:
        """Apply the configuration file as it is now; return the problems (then the old one stays in force)."""
        async with self._reloading:
            self._notifier.send("RELOADING=1", f"MONOTONIC_USEC={int(self._clock.monotonic() * 1e6)}")
            problems = await self._reload()
            self._metrics.reload_success.at().value = int(not problems)
            for problem in problems:
                log.error("reload_refused", problem=problem)
            if not problems:
                log.info("reloaded", source=self._config.source)
            self._notifier.send("READY=1", f"STATUS={self._heart.words()}")
            return problems

    async def _reload(self) -> list[str]:
        try:
            config, notes = load_all(self._path)
            await self._doors.open(config.listen)
        except ConfigurationError as exc:
            return exc.problems
        old, self._config = self._config, config
        self._notes = [*notes, *_needs_restart(old, config)]
        self._secrets = Secrets(config)
        self._log_control.set_level(config.log.level)
        await self._change(old)
        durability = Durability[config.spool.durability.upper()]
        self._doors.configure(router=self._router(), settings=config.listen, durability=durability)
        await self._remove([name for name in self._destinations if name not in _by_name(config)])
        return []

    async def _change(self, old: Config) -> None:
        """Reconfigure what stays, add what is new; what is gone is removed once no request is routed to it."""
        before = _by_name(old)
        for name, config in _by_name(self._config).items():
            if name in self._destinations and config.kind != before[name].kind:
                await self._remove([name])
            if name not in self._destinations:
                await self._add([config])
            elif config != before[name]:
                self._destinations[name].reconfigure(config)

    # ---- end

    def _catch_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop, signal.Signals(number).name)
        loop.add_signal_handler(signal.SIGHUP, self._hang_up)

    def _stop(self, name: str) -> None:
        if self._stopping.is_set():
            self._hurry.set()
        log.info("stopping", signal=name, drain_s=self._config.drain.timeout)
        self._stopping.set()

    def _hang_up(self) -> None:
        self._tasks.create_task(self.reload(), name="reload")

    async def _drain(self) -> None:
        """Stop listening, finish commits, flush what can be flushed until the deadline; checkpoints come at closing."""
        self._notifier.send("STOPPING=1", "STATUS=draining")
        self._view.draining = True
        deadline = self._clock.monotonic() + self._config.drain.timeout
        await self._doors.drain(min(deadline, self._clock.monotonic() + LEAVE_S))
        hurry = asyncio.create_task(self._cut_short(), name="hurry")
        await asyncio.gather(*(live.drain(deadline) for live in self._destinations.values()))
        hurry.cancel()
        left = {spool.destination: spool.queued_events for spool in self._view.spools()}
        log.info("drained", left=left)

    async def _cut_short(self) -> None:
        await self._hurry.wait()
        await asyncio.gather(*(live.drain(0.0) for live in self._destinations.values()))


def _first_forwarder_error(group: ExceptionGroup[Exception]) -> Exception:
    """Return why the daemon could not start; the whole group if it is none of ours."""
    found, _ = group.split(ForwarderError)
    return found.exceptions[0] if found is not None else group


def _by_name(config: Config) -> dict[str, Destination]:
    return {destination.name: destination for destination in config.destinations}


def _needs_restart(old: Config, new: Config) -> list[str]:
    """Return notes about changes that only a restart applies."""
    settings = [f"spool.{name}" for name in old.spool.__struct_fields__ if _differ(old.spool, new.spool, name)]
    settings += ["listen.admin"] if old.listen.admin != new.listen.admin else []
    settings += ["log.format"] if old.log.format != new.log.format else []
    return [f"{name} was changed; a restart applies it" for name in settings]


def _differ(old: object, new: object, name: str) -> bool:
    return bool(getattr(old, name) != getattr(new, name))
