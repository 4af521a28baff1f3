"""The listeners of one daemon: bound from addresses or taken from systemd, kept over reloads, drained at the end."""

import asyncio
import socket
from collections.abc import Callable, Mapping, Sequence

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
    ) -> None:
        durability = Durability[config.spool.durability.upper()]
        self._http = HttpDoor(
            router=router,
            intake=intake,
            settings=config.listen,
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
        self.notes: list[str] = []

    async def open(self, settings: Listen) -> None:
        """Bind what `settings` names and is not bound yet; close what it no longer names. Raises ConfigurationError.

        New addresses are bound before old ones are closed, so that a failure changes nothing.
        """
        wanted = _places(settings)
        fresh = {place: self._sockets(*place) for place in wanted if place not in self._open}
        for (key, address), sockets in fresh.items():
            self._open[key, address] = [await self._serve(key, address, sock) for sock in sockets]
        gone = [place for place in self._open if place not in wanted]
        for place in gone:
            for listener in self._open.pop(place):
                listener.stop_accepting()
            listen.unlink(place[1], KINDS[place[0]])

    def configure(self, *, router: Router, settings: Listen, durability: Durability) -> None:
        """Put new rules into force without dropping a connection."""
        self._http.configure(router=router, settings=settings, durability=durability)
        self._udp.configure(router=router, settings=settings, durability=durability)

    async def drain(self, deadline: float) -> None:
        """Stop accepting, answer what was asked, close."""
        for listener in self._listeners():
            listener.stop_accepting()
        await asyncio.gather(*(listener.drain(deadline) for listener in self._listeners()))
        for key, address in self._open:
            listen.unlink(address, KINDS[key])

    def status(self) -> list[ListenerStatus]:
        """Return every bound listener."""
        return [listener.status() for listener in self._listeners()]

    def _listeners(self) -> list[Listener]:
        return [listener for listeners in self._open.values() for listener in listeners]

    def _sockets(self, key: str, address: Address) -> Sequence[socket.socket]:
        if address.systemd is not None:
            return inherited(self._inherited, address.systemd, f"listen.{key}")
        bound = listen.bind(address, KINDS[key], key=f"listen.{key}")
        if bound.note:
            self.notes.append(bound.note)
        return bound.sockets

    async def _serve(self, key: str, address: Address, sock: socket.socket) -> Listener:
        label = f"{key}:{_bound_label(address, sock)}"
        if key == "http":
            return await self._http.serve(sock, label=label)
        return self._udp.serve(sock, label=label)


def inherited(found: Mapping[str, Sequence[socket.socket]], name: str, key: str) -> Sequence[socket.socket]:
    """Return the sockets that systemd passed under `name`; raises ConfigurationError naming those that exist."""
    if name not in found:
        names = ", ".join(sorted(found)) or "none"
        cause = f'"systemd:{name}" was not passed by the service manager (passed: {names})'
        text = f"{key}: {cause}; set FileDescriptorName={name} in the .socket unit and start the socket"
        raise ConfigurationError([text])
    return found[name]


def _places(settings: Listen) -> list[Place]:
    return [(key, address) for key in KINDS for address in getattr(settings, key)]


def _bound_label(address: Address, sock: socket.socket) -> str:
    """Return the address with the port that was really bound (0 asks for any)."""
    if address.host is None or address.port:
        return address.label
    host, port = sock.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
