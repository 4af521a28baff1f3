"""The transport without a proxy: own connections, kept and bounded, request heads built once.

aiohttp's client cost 150 µs a request, which was more than everything else of delivery (benchmarks/delivery.py).
"""

import asyncio
import os
import socket
import ssl
from collections.abc import Mapping
from typing import NamedTuple

import aiohappyeyeballs
from yarl import URL

from forwarder.config.model import Destination
from forwarder.core.lane.outcome import Unreachable
from forwarder.flusher import tls, transport
from forwarder.flusher.addresses import Addresses
from forwarder.flusher.connection import Connection
from forwarder.flusher.transport import Exchange

EYEBALLS_S = 0.25
"""After so long without a connection the next address is tried beside (RFC 8305): one dead family must not hold all."""
TARGETS_LIMIT = 1000
"""A cache only: forgotten whole when apps are many."""


class Origin(NamedTuple):
    """Whom a connection leads to."""

    host: str
    port: int
    secure: bool


class Target(NamedTuple):
    """Where a URL leads, and the head of its requests up to the length of the body."""

    origin: Origin
    head: bytes


class Direct:
    """Connections to the hosts of one destination; in fact to one, unless a redirect leads from http to https."""

    def __init__(self, destination: Destination, context: ssl.SSLContext) -> None:
        self._context = context
        self._timeout_s = destination.timeout
        self._limit = destination.concurrency + transport.BESIDE
        self._pools: dict[Origin, Pool] = {}
        self._targets: dict[str, Target] = {}
        self._headers: Mapping[str, str] = {}

    async def exchange(self, url: str, headers: Mapping[str, str], body: bytes) -> Exchange:
        """Make one request."""
        if headers is not self._headers or len(self._targets) > TARGETS_LIMIT:
            self._headers = headers
            self._targets.clear()
        try:
            target = self._targets.get(url) or self._aim(url, headers)
        except ValueError as error:
            return Unreachable("connect", detail=str(error))
        pool = self._pools.get(target.origin) or self._pool(target.origin)
        return await pool.exchange(target.head, body)

    async def close(self) -> None:
        """Close all connections."""
        for pool in self._pools.values():
            pool.close()

    def _aim(self, url: str, headers: Mapping[str, str]) -> Target:
        target = self._targets[url] = aim(url, {**transport.HEADERS, **headers})
        return target

    def _pool(self, origin: Origin) -> "Pool":
        context = self._context if origin.secure else None
        pool = self._pools[origin] = Pool(origin, context, limit=self._limit, timeout_s=self._timeout_s)
        return pool


def aim(url: str, headers: Mapping[str, str]) -> Target:
    """Return where a URL leads; raises ValueError, without the value, for what cannot be asked."""
    try:
        parsed = URL(url)
        host, port = parsed.host, parsed.port
    except ValueError as error:
        raise ValueError(transport.NOT_A_URL.detail) from error
    if parsed.scheme not in ("http", "https") or not host or port is None:
        raise ValueError(transport.NOT_A_URL.detail)
    lines = [f"POST {parsed.raw_path_qs} HTTP/1.1", f"Host: {parsed.host_port_subcomponent}"]
    for name, value in headers.items():
        if not (value.isprintable() and value.isascii()):
            raise ValueError(f"the header {name} has characters that cannot be sent")
        lines.append(f"{name}: {value}")
    head = "\r\n".join([*lines, "Content-Length: "]).encode("ascii")
    return Target(Origin(host, port, secure=parsed.scheme == "https"), head)


class Pool:
    """The connections to one origin, at most `limit`; the one that was used last is used next."""

    def __init__(self, origin: Origin, context: ssl.SSLContext | None, *, limit: int, timeout_s: float) -> None:
        self._origin = origin
        self._context = context
        self._timeout_s = timeout_s
        self._connect_s = transport.connect_s(timeout_s)
        self._limit = limit
        self._taken = 0
        self._idle: list[Connection] = []
        self._busy: set[Connection] = set()
        self._addresses = Addresses(origin.host, origin.port)

    async def exchange(self, head: bytes, body: bytes) -> Exchange:
        """Make one request on a kept connection, or on a new one. One more than the lane may make at once fails."""
        if self._taken >= self._limit:
            return Unreachable("connect", detail=f"all {self._limit} connections are in use")
        self._taken += 1
        try:
            connection = self._kept() or await self._open()
            if isinstance(connection, Unreachable):
                return connection
            self._busy.add(connection)
            try:
                return await self._ask(connection, head, body)
            finally:
                self._leave(connection)
        finally:
            self._taken -= 1

    def close(self) -> None:
        """Close all connections, those in use too."""
        for connection in (*self._idle, *self._busy):
            connection.close()
        self._idle.clear()

    def _ask(self, connection: Connection, head: bytes, body: bytes) -> asyncio.Future[Exchange]:
        length = len(body)
        if length <= transport.LARGE_BODY:
            return connection.ask(b"%b%d\r\n\r\n%b" % (head, length, body), b"", self._timeout_s)
        return connection.ask(b"%b%d\r\n\r\n" % (head, length), body, self._timeout_s)

    def _leave(self, connection: Connection) -> None:
        self._busy.discard(connection)
        if connection.usable:
            self._idle.append(connection)
        else:
            connection.close()

    def _kept(self) -> Connection | None:
        while self._idle:
            connection = self._idle.pop()
            if connection.usable:
                return connection
        return None

    async def _open(self) -> Connection | Unreachable:
        host, port, _ = self._origin
        try:
            async with asyncio.timeout(self._connect_s):
                return await self._connect()
        except socket.gaierror:
            return Unreachable("dns", detail=f"{host} does not resolve")
        except TimeoutError:
            return transport.NO_CONNECTION
        except (OSError, ValueError) as error:
            self._addresses.forget()
            if tls.about_certificates(error):
                return Unreachable("tls", detail=str(error))
            return Unreachable("connect", detail=f"{host}:{port}: {_words(error)}")

    async def _connect(self) -> Connection:
        sock = await aiohappyeyeballs.start_connection(
            await self._addresses.look_up(), happy_eyeballs_delay=EYEBALLS_S, interleave=1
        )
        name = self._origin.host.rstrip(".") if self._context else None
        _, connection = await asyncio.get_running_loop().create_connection(
            Connection, sock=sock, ssl=self._context, server_hostname=name
        )
        return connection


def _words(error: OSError | ValueError) -> str:
    """Return the system's own words; asyncio wraps them, and TLS counts its errors differently."""
    if isinstance(error, OSError) and error.errno and not isinstance(error, ssl.SSLError):
        return os.strerror(error.errno)
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
