"""Where the admin listener is: opened at an address or on a socket of systemd, moved by a reload, closed at the end."""

import socket
from collections.abc import Callable, Mapping, Sequence

from forwarder.admin import AdminServer
from forwarder.app.doors import inherited
from forwarder.config.model import Address, Listen
from forwarder.errors import ConfigurationError
from forwarder.sources import listen

MakeServer = Callable[[Listen, Address, socket.socket | None], AdminServer]
"""Makes a server for an address; the socket is the one that systemd bound, if it did."""


class AdminListener:
    """Owner of the one admin server, or of none where `listen.admin` is "none"."""

    def __init__(self, make: MakeServer, passed: Mapping[str, Sequence[socket.socket]]) -> None:
        self._make = make
        self._passed = passed
        self._server: AdminServer | None = None

    async def open(self, settings: Listen) -> None:
        """Bind what `settings` names; raises ConfigurationError."""
        address = settings.admin
        if address is None:
            return
        server = self._make(settings, address, self._inherited(address, settings))
        try:
            self._server = await server.__aenter__()
        except OSError as exc:
            text = f"listen.admin: cannot listen on {address.label}: {exc.strerror or exc}"
            raise ConfigurationError([text]) from exc

    async def close(self) -> None:
        """Stop listening."""
        if self._server is not None:
            await self._server.__aexit__()
            self._server = None

    async def move(self, old: Listen, new: Listen) -> None:
        """Listen as `new` says; if that fails it is where it was (ConfigurationError)."""
        if old.admin == new.admin:
            self._check(new)
            if self._server is not None:
                self._server.allow(new.allowed_hosts)
            return
        await self.close()  # first: the new address may overlap the old one
        try:
            await self.open(new)
        except ConfigurationError:
            await self.open(old)
            raise

    def _check(self, settings: Listen) -> None:
        """Judge an open socket of systemd's by changed rules."""
        if settings.admin is not None and settings.admin.systemd is not None:
            for sock in inherited(self._passed, settings.admin.systemd, "admin"):
                listen.check_reach(sock, settings, key="admin")

    def _inherited(self, address: Address, settings: Listen) -> socket.socket | None:
        if address.systemd is None:
            return None
        self._check(settings)
        return inherited(self._passed, address.systemd, "admin")[0].dup()
