"""The HTTP door: its listeners and what their connections share (limits, rules, time-outs)."""

import asyncio
import contextlib
import ipaddress
import socket
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import msgspec
import structlog

from forwarder.config.model import Listen
from forwarder.core.seams import Clock, Durability, Intake, ListenerStatus
from forwarder.metrics import Metrics
from forwarder.sources.answers import Answers, Denial
from forwarder.sources.connection import Connection
from forwarder.sources.familiar import Familiar
from forwarder.sources.inflight import Inflight
from forwarder.sources.plan import Plan, Rules
from forwarder.sources.plans import Plans
from forwarder.sources.turn import Turn
from forwarder.vendors.base import Checked, Refusal, Router

BUFFER = 64 * 1024
"""Bytes read at once from a socket that brings large bodies."""
SMALL_BUFFER = 4 * 1024
"""The same while memory is short: that many a connection come on top of max_inflight."""
BACKLOG = 4096
SWEEP_S = 1.0
PART_S = 0.25
"""At the end, for clients that keep their connection and are about to send."""

_log = structlog.get_logger()

Samples = Callable[[str, Sequence[Refusal]], None]
"""Keeps samples of refused events, by listener."""


class Times(msgspec.Struct, frozen=True, kw_only=True):
    """Time-outs of a connection in seconds; looked at once a second."""

    head_s: float = 10.0
    body_s: float = 60.0
    idle_s: float = 75.0
    write_s: float = 30.0
    """Without the peer reading any answer."""
    close_s: float = 3.0
    """From the last answer until the connection is cut."""


class HttpDoor:
    """Everything that the HTTP listeners share. `configure` replaces the rules without dropping a connection."""

    def __init__(
        self,
        *,
        router: Router,
        intake: Intake,
        settings: Listen,
        durability: Durability,
        token: Callable[[], str | None],
        metrics: Metrics,
        clock: Clock,
        samples: Samples,
        times: Times = Times(),  # noqa: B008 - frozen
    ) -> None:
        self.intake = intake
        self.metrics = metrics
        self.clock = clock
        self.samples = samples
        self.times = times
        self.now = clock.monotonic()
        self.answers = Answers(clock)
        self.inflight = Inflight(max_inflight=settings.max_inflight, max_body=settings.max_body)
        self.turn = Turn(intake=intake, clock=clock, duration=metrics.accept_duration.at())
        self.buffer = memoryview(bytearray(BUFFER))
        self.small_buffer = self.buffer[:SMALL_BUFFER]
        self.connections = 0
        self.careless: set[Connection] = set()
        """Connections that read as much at once as the loop likes: few bytes, as their requests are small."""
        self.checker = ThreadPoolExecutor(1, thread_name_prefix="door-check")
        """Checks large bodies, one after another."""
        self._listeners: list[HttpListener] = []
        self._timer: asyncio.TimerHandle | None = None
        self._token = token
        self.rules = Rules(router=router, settings=settings, durability=durability, token=token())

    def configure(self, *, router: Router, settings: Listen, durability: Durability) -> None:
        """Put new rules into force for every request whose head is not read yet (reload)."""
        if self.turn.requests:  # by the old rules: what they route to may be gone soon
            self.turn.join()
        self.rules = Rules(router=router, settings=settings, durability=durability, token=self._token())
        self.inflight.limit(max_inflight=settings.max_inflight, max_body=settings.max_body)
        for listener in self._listeners:
            listener.obey(self.rules)

    async def serve(self, sock: socket.socket, *, label: str) -> "HttpListener":
        """Accept connections on a bound stream socket (TCP or unix), which the listener then owns."""
        listener = HttpListener(self, sock, label=label)
        await listener.start()
        self._listeners.append(listener)
        return listener

    def without(self, listener: "HttpListener") -> None:
        """Forget a listener that has ended."""
        if listener in self._listeners:
            self._listeners.remove(listener)

    def sweep(self) -> None:
        """Renew what is kept for a second, and enforce time-outs; runs by itself while there are connections."""
        self.now = self.clock.monotonic()
        self.answers.tick()
        if self._token() != self.rules.token:
            rules = self.rules
            self.configure(router=rules.router, settings=rules.settings, durability=rules.durability)
        for listener in tuple(self._listeners):
            listener.sweep(self.now)

    def take_care(self) -> None:
        """Let all connections read with care, from now to their end: memory is short."""
        for connection in tuple(self.careless):
            connection.take_care()

    def wake(self) -> None:
        """Start sweeping: the first connection is there."""
        if self._timer is None:
            self.sweep()
            self._timer = asyncio.get_running_loop().call_later(SWEEP_S, self._tick)

    def _tick(self) -> None:
        self._timer = None
        if any(listener.crowd for listener in self._listeners):
            self.wake()


class HttpListener:
    """One bound socket of the door."""

    def __init__(self, door: HttpDoor, sock: socket.socket, *, label: str) -> None:
        self.door = door
        self.loop = asyncio.get_running_loop()
        self.label = label
        self.familiar = Familiar()
        self.received = door.metrics.received.at(label)
        self.duration = door.metrics.accept_duration.at()
        self.crowd: set[Connection] = set()
        self._sock = sock
        self._tcp = sock.family in (socket.AF_INET, socket.AF_INET6)
        self._loopback = self._tcp and _loopback(sock)
        self._server: asyncio.Server | None = None
        self._empty = asyncio.Event()
        self._empty.set()
        self._mismatch_told = False
        self.obey(door.rules)

    async def start(self) -> None:
        """Begin to accept."""
        if self._tcp:
            self._server = await self.loop.create_server(lambda: Connection(self), sock=self._sock, backlog=BACKLOG)
        else:
            self._server = await self.loop.create_unix_server(
                lambda: Connection(self), sock=self._sock, backlog=BACKLOG
            )

    def obey(self, rules: Rules) -> None:
        """Take new rules; what was learnt under the old ones is forgotten."""
        self.rules = rules
        self._plans = Plans(rules, rules.gate(loopback=self._loopback, tcp=self._tcp))
        self.familiar.forget()
        for connection in self.crowd:
            connection.forget()

    def status(self) -> ListenerStatus:
        """Return what `status` shows."""
        return ListenerStatus(
            label=self.label,
            kind="http",
            accepting=self._server is not None,
            connections=len(self.crowd),
            inflight_bytes=self.door.inflight.held,
        )

    def stop_accepting(self) -> None:
        """Take no new connections; those that are open go on."""
        if self._server is not None:
            self._server.close()
            self._server = None

    def dismiss(self) -> None:
        """Stop accepting, and let every connection end with its next answer, which says so to the client."""
        self.stop_accepting()
        for connection in self.crowd:
            connection.ending = True
        self._leave_if_empty()

    async def drain(self, deadline: float) -> None:
        """Stop accepting, answer what is asked, close; cut what is left at `deadline` (monotonic seconds).

        A connection that is closed between two requests may cost the second one its answer. So busy clients get a
        moment, in which their next answer tells them; who sends nothing in it is taken for idle.
        """
        self.dismiss()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, min(PART_S, deadline - self.door.clock.monotonic()))):
                await self._empty.wait()
        for connection in tuple(self.crowd):
            connection.end()
        try:
            async with asyncio.timeout(max(0.0, deadline - self.door.clock.monotonic())):
                await self._empty.wait()
        except TimeoutError:
            if self.crowd:
                _log.warning("connections_cut", listener=self.label, connections=len(self.crowd))
            for connection in tuple(self.crowd):
                connection.abort()
            await self._empty.wait()
        self._leave_if_empty()

    def sweep(self, now: float) -> None:
        """Let every connection look at its time-outs."""
        for connection in tuple(self.crowd):
            connection.sweep(now)

    def _leave_if_empty(self) -> None:
        if not self.crowd and self._server is None:
            self.door.without(self)

    # ---- for connections

    def joined(self, connection: Connection) -> Denial | None:
        """Count a connection in; return the answer when there are too many."""
        self.crowd.add(connection)
        self.door.careless.add(connection)
        self._empty.clear()
        self.door.connections += 1
        self.door.wake()
        if self.door.connections <= self.rules.settings.max_connections:
            return None
        return Denial(
            status=503,
            error="too many connections: see listen.max_connections",
            reason="too_many_connections",
            headers=b"Retry-After: 1\r\n",
            close=True,
        )

    def left(self, connection: Connection) -> None:
        """Count a connection out."""
        self.crowd.discard(connection)
        self.door.connections -= 1
        if not self.crowd:
            self._empty.set()
            self._leave_if_empty()

    def plan(
        self, method: str, target: bytes, version: str, headers: Sequence[tuple[bytes, bytes]], *, keep: bool
    ) -> Plan | Denial:
        """Decide what to do with a request."""
        return self._plans.plan(method, target, version, headers, keep=keep)

    def count(self, checked: Checked) -> None:
        """Count what a body held; keep samples of what was refused."""
        self.received.value += checked.accepted
        if checked.refused:
            self.received.value += len(checked.refused)
            for refusal in checked.refused:
                self.door.metrics.refused.at(self.label, refusal.reason).value += 1
            self.door.samples(self.label, checked.refused)
        if checked.warnings:
            self.warn(checked.warnings)
        if checked.key_mismatch:
            self._mismatch()

    def warn(self, warnings: Mapping[str, int]) -> None:
        """Count warnings by rule."""
        for rule, times in warnings.items():
            self.door.metrics.warnings.at(rule).value += times

    def deny(self, denial: Denial) -> None:
        """Count a request that is refused as a whole: one event."""
        self.received.value += 1
        self.refuse(denial.reason, 1)

    def refuse(self, reason: str, events: int) -> None:
        """Count refused events."""
        if events:
            self.door.metrics.refused.at(self.label, reason).value += events

    def _mismatch(self) -> None:
        self.door.metrics.key_mismatch.at().value += 1
        if not self._mismatch_told:
            self._mismatch_told = True
            _log.warning("key_mismatch", listener=self.label, hint="a client sends another write key than write_key")


def _loopback(sock: socket.socket) -> bool:
    return ipaddress.ip_address(str(sock.getsockname()[0]).partition("%")[0]).is_loopback
