"""The client of one destination: one POST in, one value out. Follows redirects, reads Retry-After, renews itself."""

import asyncio
import ssl
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Protocol

from yarl import URL

from forwarder.config.model import Destination
from forwarder.core.lane import retry
from forwarder.core.lane.outcome import Answer, Result, Unreachable
from forwarder.core.seams import Clock
from forwarder.flusher import tls
from forwarder.flusher.direct import Direct
from forwarder.flusher.proxied import Proxied
from forwarder.flusher.transport import NOT_SENT, Reply, Transport

CONNECTION_LIFE_S = 300.0
"""Connections are renewed, so that a change of DNS or of a load balancer's set is seen."""
REDIRECTS = frozenset((301, 302, 307, 308))
HOPS = 3
"""Tries of one request at most: redirects within the host, and connections that turned out to be closed."""

Open = Callable[[Destination, ssl.SSLContext], Transport]


class Poster(Protocol):
    """What the flusher needs of a client."""

    async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> Result:
        """Make one request; never raises for anything that a network or a vendor can do."""

    def reconfigure(self, destination: Destination) -> None:
        """Use new settings from the next request on."""

    async def close(self) -> None:
        """Close all connections."""


def open_transport(destination: Destination, context: ssl.SSLContext) -> Transport:
    """Return the transport that a destination's settings ask for."""
    return Direct(destination, context) if destination.proxy is None else Proxied(destination, context)


class _Generation:
    """The connections made with one set of settings: how old they are and how many requests use them."""

    __slots__ = ("renew_at", "transport", "users")

    def __init__(self, transport: Transport, renew_at: float) -> None:
        self.transport = transport
        self.renew_at = renew_at
        self.users = 0


class Client:
    """Makes requests with the settings in force; connections live at most CONNECTION_LIFE_S."""

    def __init__(self, destination: Destination, *, clock: Clock, open_: Open = open_transport) -> None:
        self._destination = destination
        self._clock = clock
        self._open = open_
        self._current: _Generation | None = None
        self._retired: list[_Generation] = []
        self._renewing = asyncio.Lock()

    async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> Result:
        """Post `body`; a redirect within the same host is followed, any other is an answer."""
        try:
            generation = self._fresh() or await self._renew()
        except (OSError, ssl.SSLError, ValueError) as error:
            return Unreachable("tls", detail=self._file_trouble(error))
        generation.users += 1
        try:
            return await self._post(generation.transport, url, headers, body)
        finally:
            generation.users -= 1
            if self._retired:
                await self._close_retired()

    def reconfigure(self, destination: Destination) -> None:
        """Use new settings (certificates included) from the next request on; requests in flight end as they began."""
        self._destination = destination
        self._retire()

    async def close(self) -> None:
        """Close all connections, those in use too."""
        self._retire()
        for generation in self._retired:
            await generation.transport.close()
        self._retired.clear()

    # --- generations

    def _fresh(self) -> _Generation | None:
        current = self._current
        return current if current is not None and self._clock.monotonic() < current.renew_at else None

    async def _renew(self) -> _Generation:
        async with self._renewing:
            fresh = self._fresh()
            if fresh is not None:
                return fresh
            self._retire()
            destination = self._destination
            # Reading certificates takes tens of milliseconds: not on the loop.
            context = await asyncio.to_thread(tls.load, destination.ca_file, destination.client_cert)
            transport = self._open(destination, context)
            self._current = _Generation(transport, self._clock.monotonic() + CONNECTION_LIFE_S)
            return self._current

    def _retire(self) -> None:
        if self._current is not None:
            self._retired.append(self._current)
            self._current = None

    async def _close_retired(self) -> None:
        done = [generation for generation in self._retired if generation.users == 0]
        self._retired = [generation for generation in self._retired if generation.users]
        for generation in done:
            await generation.transport.close()

    def _file_trouble(self, error: Exception) -> str:
        name = self._destination.name
        return f"cannot load destinations.{name}.ca_file or client_cert: {error}"

    # --- one request

    async def _post(self, transport: Transport, url: str, headers: Mapping[str, str], body: bytes) -> Result:
        result: Result = NOT_SENT
        for _ in range(HOPS):
            reply = await transport.exchange(url, headers, body)
            if isinstance(reply, Unreachable):
                if reply != NOT_SENT:
                    return reply
                continue
            if reply.retry_after is None and reply.location is None:
                return Answer(reply.status, None, reply.body_start)
            target = _location(reply, url)
            result = self._answer(reply, target)
            if target is None or reply.status not in REDIRECTS or not _same_host(URL(url), target):
                return result
            url = str(target)
        return result

    def _answer(self, reply: Reply, target: URL | None) -> Answer:
        after = None if reply.retry_after is None else retry.retry_after(reply.retry_after, wall=self._sent_at(reply))
        return Answer(reply.status, after, reply.body_start, "" if target is None else str(target.origin()))

    def _sent_at(self, reply: Reply) -> float:
        """Return what a date is measured against: the answer's own clock where it tells it, else ours."""
        date = None if reply.date is None else retry.http_date(reply.date)
        return date if date is not None else self._clock.wall()


def _location(reply: Reply, url: str) -> URL | None:
    """Return where a redirect leads."""
    if reply.location is None or reply.status // 100 != 3:  # noqa: PLR2004
        return None
    with suppress(ValueError):
        target = URL(url).join(URL(reply.location))
        return target if target.scheme in ("http", "https") and target.host else None
    return None


def _same_host(origin: URL, target: URL) -> bool:
    """Return whether a write key may follow: same host and port, or the same host's step from http to https."""
    if origin.host != target.host:
        return False
    if origin.scheme == target.scheme:
        return origin.port == target.port
    return origin.scheme == "http" and origin.is_default_port() and target.is_default_port()
