"""The daemon: builds the parts, starts them in order, reloads, drains them in order."""

import asyncio
import os
import signal
import socket
from collections.abc import Iterable
from contextlib import AsyncExitStack
from pathlib import Path

import structlog

from forwarder import __version__, logs
from forwarder.admin import AdminServer, Gauges, History
from forwarder.app import changes, descriptors, destinations
from forwarder.app.admin_listener import AdminListener
from forwarder.app.clock import SystemClock
from forwarder.app.controls import Controls
from forwarder.app.descriptors import Share
from forwarder.app.destination import LiveDestination
from forwarder.app.destinations import Destinations
from forwarder.app.doors import Doors
from forwarder.app.erasing import Erasing
from forwarder.app.heart import Heart
from forwarder.app.systemd import Notifier, inherited_sockets
from forwarder.app.view import View
from forwarder.config import certificates
from forwarder.config.loading import load
from forwarder.config.model import Address, Config, Listen
from forwarder.config.secret import AUTH_TOKEN, Secrets
from forwarder.control import ControlServer
from forwarder.core.intake import SpoolIntake
from forwarder.core.joining import Joining
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
    _refuse(find_conflicts(config.destinations))
    return config, findings.notes


class Daemon:
    """One run of the daemon. `run` returns after a drain; SIGTERM and SIGINT start it, a second one cuts it short."""

    def __init__(self, *, path: Path | None, dry_run: bool = False) -> None:
        self._path = path
        self._dry_run = dry_run
        self._clock = SystemClock()
        self._metrics = Metrics()
        self._stopping = asyncio.Event()
        self._hurry = asyncio.Event()
        self._reloading = asyncio.Lock()

    async def run(self) -> None:
        """Load, lock, recover, listen, deliver; drain when asked to. Raises ForwarderError if it cannot start."""
        self._config, self._notes = load_all(self._path)
        self._log_control = logs.configure(self._config.log, self._clock, environ=os.environ)
        self._notifier = Notifier(os.environ)
        self._share = descriptors.claim(self._config)
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
            quarantine_max_age=spool.quarantine_max_age,
            version=__version__,
            clock=self._clock,
        )
        self._directory.open()
        stack.callback(self._directory.close)

    def _build(self, passed: dict[str, list[socket.socket]]) -> None:
        self._secrets = Secrets(self._config)
        self._notes = [*_without(self._notes, self._secrets.notes()), *certificates.problems(self._config)]
        self._samples = RefusedSamples(self._directory.refused, self._clock)
        self._intake = SpoolIntake({}, Joining())
        self._destinations = Destinations(
            directory=self._directory,
            intake=self._intake,
            secret=self._secret,
            clock=self._clock,
            metrics=self._metrics,
            dry_run=self._dry_run,
        )
        self._doors = Doors(
            self._config,
            router=self._router(),
            intake=self._intake,
            token=self._token,
            metrics=self._metrics,
            clock=self._clock,
            samples=self._samples,
            inherited=passed,
            share=self._share,
        )
        self._view = View(
            destinations=self._destinations.live,
            doors=self._doors,
            directory=self._directory,
            metrics=self._metrics,
            samples=self._samples,
            clock=self._clock,
            notes=self._standing_notes,
        )
        self._reporter = Reporter(self._view, self._clock)
        self._history = History(self._view, self._metrics, self._clock)
        self._admin = AdminListener(self._admin_server, passed)
        self._metrics.add_source(Gauges(self._view, self._clock))
        self._metrics.reload_success.at().value = 1
        self._heart = Heart(
            wedged=self._view.wedged,
            measure=self._directory.measure,
            moved=self._view.moved,
            reporter=self._reporter,
            sample=self._history.sample,
            notifier=self._notifier,
            clock=self._clock,
            secrets_changed=self._secrets_changed,
        )

    async def _start(self, stack: AsyncExitStack) -> None:
        """Recover the spools, then deliver, then listen: what is on disk waits for nobody."""
        stack.push_async_callback(self._destinations.close)
        fresh = await self._destinations.open(self._config.destinations, self._config.spool)
        self._destinations.begin(fresh, self._tasks)
        controls = Controls(
            destinations=self._destinations.live,
            log_control=self._log_control,
            metrics=self._metrics,
            reload=self.reload,
            erasing=Erasing(
                directory=self._directory, live=self._destinations.live, samples=self._samples, clock=self._clock
            ),
        )
        await stack.enter_async_context(ControlServer(self._directory.control_socket, self._reporter, controls))
        stack.push_async_callback(self._admin.close)
        await self._admin.open(self._config.listen)
        await self._doors.open(self._config.listen)

    def _admin_server(self, settings: Listen, address: Address, bound: socket.socket | None) -> AdminServer:
        return AdminServer(
            self._view,
            self._reporter,
            self._metrics,
            address=address,
            bound=bound,
            allowed_hosts=settings.allowed_hosts,
            history=self._history,
            latest_letters=self._view.latest_letters,
        )

    def _announce(self) -> None:
        self._tell_notes()
        labels = [listener.label for listener in self._doors.status()]
        queued = {spool.destination: spool.queued_events for spool in self._view.spools()}
        log.info("ready", listeners=labels, queued=queued, directory=str(self._directory.root), version=__version__)
        self._history.sample()  # the first point is then a difference to the start
        self._notifier.send("READY=1", f"STATUS={self._heart.words()}")

    def _tell_notes(self) -> None:
        for note in self._standing_notes():
            log.warning("configuration_note", note=note)

    def _standing_notes(self) -> list[str]:
        """Return what the configuration leaves to say; a secret is looked for each time, so that mending it shows."""
        short = [self._share.note] if self._share.note else []
        return [*self._notes, *short, *self._secrets.notes()]

    # ---- what configuration and secrets say

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
                self._destinations.live[name].flusher.secret_changed()

    # ---- reload

    async def reload(self) -> list[str]:
        """Apply the configuration file as it is now; return the problems (then the old one stays in force)."""
        async with self._reloading:
            self._notifier.reloading()
            problems = await self._try_reload()
            self._metrics.reload_success.at().value = int(not problems)
            if problems:
                log.error("reload_refused", problems=problems)
            if not problems:
                self._tell_notes()
                log.info("reloaded", source=self._config.source)
            self._notifier.send("READY=1", f"STATUS={self._heart.words()}")
            return problems

    async def _try_reload(self) -> list[str]:
        try:
            return await self._reload()
        except Exception as exc:  # the supervisor: a bug in a reload must not take the daemon down
            log.exception("reload_crashed")
            return [f"a bug in forwarder: {type(exc).__name__}; restart to be sure of what is in force"]

    async def _reload(self) -> list[str]:
        """Do first what can fail, in an order that can be undone; then put everything into force."""
        old = self._config
        try:
            config, notes = load_all(self._path)
            changes.check(old, config)
            _refuse(certificates.problems(config))
            share = descriptors.claim(config)
            fresh = await self._destinations.open(changes.added(old, config), config.spool)
        except ForwarderError as exc:
            return exc.problems if isinstance(exc, ConfigurationError) else [str(exc)]
        try:
            await self._admin.move(old.listen, config.listen)
            await self._move_doors(old.listen, config.listen)
        except ConfigurationError as exc:
            await destinations.close(fresh)
            return exc.problems
        self._put_into_force(config, notes, fresh, share)
        await self._destinations.remove(changes.removed(old, config))
        return []

    async def _move_doors(self, old: Listen, new: Listen) -> None:
        try:
            await self._doors.open(new)
        except ConfigurationError:
            await self._admin.move(new, old)
            raise

    def _put_into_force(self, config: Config, notes: list[str], fresh: list[LiveDestination], share: Share) -> None:
        """Nothing here waits or fails: no request sees half of it."""
        old, self._config = self._config, config
        secrets = Secrets(config)
        self._notes = [*_without(notes, secrets.notes()), *changes.needs_restart(old, config)]
        self._secrets = secrets
        self._log_control.set_level(config.log.level)
        self._directory.limit(
            max_total=config.spool.max_total,
            min_free=config.spool.min_free,
            quarantine_max_age=config.spool.quarantine_max_age,
        )
        self._destinations.reconfigure(config)
        self._destinations.begin(fresh, self._tasks)
        durability = Durability[config.spool.durability.upper()]
        self._share = share
        self._doors.configure(router=self._router(), settings=config.listen, durability=durability, share=share)

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
        if not self._stopping.is_set():
            self._tasks.create_task(self.reload(), name="reload")

    async def _drain(self) -> None:
        """Stop listening, finish commits, flush what can be flushed until the deadline; checkpoints come at closing."""
        self._notifier.send("STOPPING=1", "STATUS=draining")
        self._view.draining = True
        deadline = self._clock.monotonic() + self._config.drain.timeout
        await self._doors.drain(min(deadline, self._clock.monotonic() + LEAVE_S))
        hurry = asyncio.create_task(self._cut_short(), name="hurry")
        await self._destinations.drain(deadline)
        hurry.cancel()
        left = {spool.destination: spool.queued_events for spool in self._view.spools()}
        log.info("drained", left=left)

    async def _cut_short(self) -> None:
        await self._hurry.wait()
        await self._destinations.drain(0.0)


def _refuse(problems: list[str]) -> None:
    if problems:
        raise ConfigurationError(problems)


def _first_forwarder_error(group: ExceptionGroup[Exception]) -> Exception:
    """Return why the daemon could not start; the whole group if it is none of ours."""
    found, _ = group.split(ForwarderError)
    return found.exceptions[0] if found is not None else group


def _without(notes: Iterable[str], others: Iterable[str]) -> list[str]:
    """Return the notes that are not said elsewhere."""
    said = frozenset(others)
    return [note for note in notes if note not in said]
