"""The listeners of one daemon: bound from addresses or taken from systemd, kept over reloads, drained at the end."""

import asyncio
import socket
from collections.abc import Callable, Mapping, Sequence

from forwarder.app.descriptors import Share
from forwarder.config.model import Address, Config, Listen
from forwarder.core.seams import Clock, Durability, Intake, ListenerStatus
from forwarder.errors import ConfigurationError
from forwarder.metrics import Metrics
from forwarder.sources import listen
from forwarder.sources.http import HttpDoor, HttpListener, Samples
from forwarder.sources.udp import DatagramListener, UdpDoor
from forwarder.vendors.base import Router

Listener = HttpListener | DatagramListener
Place = tuple[str, Address]
"""Which setting (`http`, `udp`, `unix_datagram`) an address stands in, and the address."""

PASSED_BY_SYSTEMD = {"http": "a stream socket", "udp": "a UDP socket", "unix_datagram": "a unix datagram socket"}
KINDS = {"http": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM, "unix_datagram": socket.SOCK_DGRAM}


class Doors:
    """Owner of all listeners."""

    def __init__(
        self,
        config: Config,
        *,
        router: Router,
        intake: Intake,
        token: Callable[[], str | None],
        metrics: Metrics,
        clock: Clock,
        samples: Samples,
        inherited: Mapping[str, Sequence[socket.socket]],
        share: Share,
    ) -> None:
        durability = Durability[config.spool.durability.upper()]
        self._http = HttpDoor(
            router=router,
            intake=intake,
            settings=share.bound(config.listen),
            durability=durability,
            token=token,
            metrics=metrics,
            clock=clock,
            samples=samples,
        )
        self._udp = UdpDoor(
            router=router,
            intake=intake,
            settings=config.listen,
            durability=durability,
            metrics=metrics,
            clock=clock,
            samples=samples,
        )
        self._inherited = inherited
        self._open: dict[Place, list[Listener]] = {}
        self._leaving: list[Listener] = []
        """Closed by a reload, perhaps with connections that are still open."""
        self.notes: list[str] = []

    async def open(self, settings: Listen) -> None:
        """Bind what `settings` names and is not bound yet; close what it no longer names. Raises ConfigurationError.

        New addresses are bound before old ones are closed, so that a failure changes nothing. Connections that are
        open on a closed address end with their next answer.
        """
        wanted = _places(settings)
        same = {place: old for place in wanted if (old := self._same_path(place)) is not None}
        fresh = self._bind([place for place in wanted if place not in self._open and place not in same])
        try:
            self._check_reach(wanted, settings)
        except ConfigurationError:
            self._undo(fresh)
            raise
        try:
            for key, address in same:
                listen.permit(address, key=f"listen.{key}")
        except ConfigurationError:
            self._undo(fresh)
            raise
        for place, old in same.items():
            self._open[place] = self._open.pop(old)
        for (key, address), sockets in fresh.items():
            self._open[key, address] = [await self._serve(key, address, sock) for sock in sockets]
        for place in [place for place in self._open if place not in wanted]:
            self._close(place)

    def configure(self, *, router: Router, settings: Listen, durability: Durability, share: Share) -> None:
        """Put new rules into force without dropping a connection."""
        self._http.configure(router=router, settings=share.bound(settings), durability=durability)
        self._udp.configure(router=router, settings=settings, durability=durability)
        for listener in self._listeners():
            if isinstance(listener, DatagramListener):
                listener.ask(settings.udp_receive_buffer)

    async def drain(self, deadline: float) -> None:
        """Stop accepting, answer what was asked, close."""
        for listener in self._listeners():
            listener.stop_accepting()  # all at once: the drains below take their time
        await asyncio.gather(*(listener.drain(deadline) for listener in (*self._listeners(), *self._leaving)))
        for key, address in self._open:
            listen.unlink(address, KINDS[key])

    def status(self) -> list[ListenerStatus]:
        """Return every bound listener."""
        return [listener.status() for listener in self._listeners()]

    def _listeners(self) -> list[Listener]:
        return [listener for listeners in self._open.values() for listener in listeners]

    def _same_path(self, wanted: Place) -> Place | None:
        """Return the open unix socket of which only mode or group are to change."""
        key, address = wanted
        if address.unix is None or wanted in self._open:
            return None
        return next((place for place in self._open if place[0] == key and place[1].unix == address.unix), None)

    def _bind(self, places: Sequence[Place]) -> dict[Place, Sequence[socket.socket]]:
        """Bind all of these, or none: raises ConfigurationError with everything that is wrong."""
        bound: dict[Place, Sequence[socket.socket]] = {}
        problems: list[str] = []
        for place in places:
            try:
                bound[place] = self._sockets(*place)
            except ConfigurationError as exc:
                problems += [self._explained(place, problem) for problem in exc.problems]
        if problems:
            self._undo(bound)
            raise ConfigurationError(problems)
        return bound

    def _check_reach(self, wanted: Sequence[Place], settings: Listen) -> None:
        """Judge the sockets that systemd bound, those that are open included: a reload may have changed the rules."""
        for key, address in wanted:
            if address.systemd is not None:
                for sock in inherited(self._inherited, address.systemd, key):
                    listen.check_reach(sock, settings, key=key)

    def _undo(self, bound: Mapping[Place, Sequence[socket.socket]]) -> None:
        for (key, address), sockets in bound.items():
            for sock in sockets:
                sock.close()
            listen.unlink(address, KINDS[key])

    def _explained(self, wanted: Place, problem: str) -> str:
        """Name our own listener where that is what stands in the way."""
        key, address = wanted
        ours = [at.label for kind, at in self._open if kind == key and at.port == address.port and at.host is not None]
        if not ours or address.host is None:
            return problem
        cause = f"{', '.join(ours)} of this daemon is open there"
        return f"{problem}; {cause}: take it out in one reload and add the other in a second one, or restart"

    def _close(self, place: Place) -> None:
        for listener in self._open.pop(place):
            if isinstance(listener, HttpListener):
                listener.dismiss()
                self._leaving.append(listener)
            else:
                listener.stop_accepting()
        listen.unlink(place[1], KINDS[place[0]])

    def _sockets(self, key: str, address: Address) -> Sequence[socket.socket]:
        if address.systemd is not None:
            # Duplicates: a reload may close a listener that a later one opens again.
            return [sock.dup() for sock in inherited(self._inherited, address.systemd, key)]
        bound = listen.bind(address, KINDS[key], key=f"listen.{key}")
        if bound.note and bound.note not in self.notes:
            self.notes.append(bound.note)
        return bound.sockets

    async def _serve(self, key: str, address: Address, sock: socket.socket) -> Listener:
        label = f"{key}:{_bound_label(address, sock)}"
        if key == "http":
            return await self._http.serve(sock, label=label)
        return self._udp.serve(sock, label=label)


def inherited(found: Mapping[str, Sequence[socket.socket]], name: str, setting: str) -> Sequence[socket.socket]:
    """Return the sockets passed under `name` that fit `listen.SETTING` (one .socket unit may hold several kinds).

    Raises ConfigurationError naming those that exist.
    """
    fitting = [sock for sock in found.get(name, ()) if _fits(sock, setting)]
    if fitting:
        return fitting
    names = ", ".join(sorted(found)) or "none"
    if name in found:
        cause = f'"systemd:{name}" is not {PASSED_BY_SYSTEMD.get(setting, "a stream socket")}'
    else:
        cause = f'"systemd:{name}" was not passed by the service manager (passed: {names})'
    text = f"listen.{setting}: {cause}; set FileDescriptorName={name} in the .socket unit and start the socket"
    raise ConfigurationError([text])


def _fits(sock: socket.socket, setting: str) -> bool:
    is_unix = sock.family == socket.AF_UNIX
    match setting:
        case "udp":
            return sock.type == socket.SOCK_DGRAM and not is_unix
        case "unix_datagram":
            return sock.type == socket.SOCK_DGRAM and is_unix
        case _:
            return sock.type == socket.SOCK_STREAM


def _places(settings: Listen) -> list[Place]:
    return [(key, address) for key in KINDS for address in getattr(settings, key)]


def _bound_label(address: Address, sock: socket.socket) -> str:
    """Return the address with the port that was really bound (0 asks for any)."""
    if address.host is None or address.port:
        return address.label
    host, port = sock.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
