"""The HTTP client of one destination: one POST in, one value out. Every exception of aiohttp ends here."""

import asyncio
import io
import ssl
from collections.abc import Mapping
from contextlib import suppress
from typing import Protocol

import aiohttp
from yarl import URL

from forwarder import __version__
from forwarder.config.model import Destination
from forwarder.core.lane import retry
from forwarder.core.lane.outcome import Answer, Result, Unreachable
from forwarder.core.seams import Clock

ANSWER_BYTES = 2048
"""What is kept of an answer's body; the rest is not read, however long it is."""
BODY_PATIENCE_S = 5.0
"""The status decides; a body that trickles is not waited for."""
CONNECTION_LIFE_S = 300.0
"""Connections are renewed, so that a change of DNS or of a load balancer's set is seen."""
KEEP_ALIVE_S = 4.0
"""Below the 5 s after which common servers close idle connections: a request written into one that is just being closed
would be ambiguous."""
CONNECT_S = 10.0
CONNECT_SHARE = 0.9
"""Below the whole time-out, so that it is known which one passed: one while connecting is not ambiguous."""
BESIDE = 3
"""Connections beside `concurrency`: for one suspect, its last try, and one probe of a parked batch key."""
LARGE_BODY = 1024 * 1024
REDIRECTS = frozenset((301, 302, 307, 308))
HOPS = 3
"""Tries of one request at most: redirects within the host, and connections that turned out to be closed."""


NOT_SENT = Unreachable("reset", detail="the connection was closed before the request was sent")
"""Kept connections go stale; nothing has reached the vendor, so the request is made again at once, on another one."""


class Poster(Protocol):
    """What the flusher needs of a client."""

    async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> Result:
        """Make one request; never raises for anything that a network or a vendor can do."""

    def reconfigure(self, destination: Destination) -> None:
        """Use new settings from the next request on."""

    async def close(self) -> None:
        """Close all connections."""


class _Session:
    """One aiohttp session, how old it is and who still uses it."""

    __slots__ = ("http", "renew_at", "users")

    def __init__(self, http: aiohttp.ClientSession, renew_at: float) -> None:
        self.http = http
        self.renew_at = renew_at
        self.users = 0


class Client:
    """Connections of one destination: keep-alive, verified TLS, three time-outs, no cookies, no environment."""

    def __init__(self, destination: Destination, *, clock: Clock) -> None:
        self._destination = destination
        self._clock = clock
        self._session: _Session | None = None
        self._retired: list[_Session] = []
        self._opening = asyncio.Lock()

    async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> Result:
        """Post `body`; a redirect within the same host is followed, any other is an answer."""
        try:
            session = await self._open()
        except (OSError, ssl.SSLError, ValueError) as error:
            return Unreachable("tls", detail=self._file_trouble(error))
        session.users += 1
        try:
            return await self._post(session, url, headers, body)
        finally:
            session.users -= 1
            await self._close_retired()

    def reconfigure(self, destination: Destination) -> None:
        """Use new settings (certificates included) from the next request on; requests in flight end as they began."""
        self._destination = destination
        self._retire()

    async def close(self) -> None:
        """Close all connections, those in use too."""
        self._retire()
        for session in self._retired:
            await session.http.close()
        self._retired.clear()

    async def _open(self) -> _Session:
        session = self._session
        if session is not None and self._clock.monotonic() < session.renew_at:
            return session
        async with self._opening:
            session = self._session
            if session is not None and self._clock.monotonic() < session.renew_at:
                return session
            self._retire()
            self._session = _Session(await self._make(), self._clock.monotonic() + CONNECTION_LIFE_S)
            return self._session

    async def _make(self) -> aiohttp.ClientSession:
        destination = self._destination
        # Reading certificates takes tens of milliseconds: not on the loop.
        context = await asyncio.to_thread(_tls, destination.ca_file, destination.client_cert)
        total = destination.timeout
        connect = min(CONNECT_S, total * CONNECT_SHARE)
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                ssl=context, limit=destination.concurrency + BESIDE, keepalive_timeout=KEEP_ALIVE_S, ttl_dns_cache=30
            ),
            # One timer a request: `total` covers reading, too.
            timeout=aiohttp.ClientTimeout(total=total, connect=connect, sock_connect=connect),
            headers={"User-Agent": f"forwarder/{__version__}", "Accept-Encoding": "identity"},
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
        )

    async def _post(self, session: _Session, url: str, headers: Mapping[str, str], body: bytes) -> Result:
        result: Result = NOT_SENT
        for _ in range(HOPS):
            result, target = await self._try(session, url, headers, body)
            if target is None and result != NOT_SENT:
                return result
            url = target or url
        return result

    async def _try(
        self, session: _Session, url: str, headers: Mapping[str, str], body: bytes
    ) -> tuple[Result, str | None]:
        # aiohttp writes bytes in one go; a file-like body is written in parts, with pauses for the loop.
        data = body if len(body) <= LARGE_BODY else io.BytesIO(body)
        try:
            async with session.http.post(
                url, data=data, headers=headers, proxy=self._destination.proxy, allow_redirects=False
            ) as response:
                return await self._read(response, url)
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            return _unreachable(error), None

    async def _read(self, response: aiohttp.ClientResponse, url: str) -> tuple[Answer, str | None]:
        status, headers = response.status, response.headers
        after = headers.get("Retry-After")
        retry_after_s = None if after is None else retry.retry_after(after, wall=self._sent_at(headers))
        start = _at_hand(response)
        if start is None:
            start = await _start(response)
        target = _location(response, url) if status // 100 == 3 else None  # noqa: PLR2004
        if target is None:
            return Answer(status, retry_after_s, start), None
        answer = Answer(status, retry_after_s, start, str(target.origin()))
        follow = status in REDIRECTS and _same_host(URL(url), target)
        return answer, str(target) if follow else None

    def _sent_at(self, headers: Mapping[str, str]) -> float:
        """Return what a date is measured against: the answer's own clock where it tells it, else ours."""
        date = retry.http_date(headers.get("Date", ""))
        return date if date is not None else self._clock.wall()

    def _retire(self) -> None:
        if self._session is not None:
            self._retired.append(self._session)
            self._session = None

    async def _close_retired(self) -> None:
        if not self._retired:
            return
        done = [session for session in self._retired if session.users == 0]
        self._retired = [session for session in self._retired if session.users]
        for session in done:
            await session.http.close()

    def _file_trouble(self, error: Exception) -> str:
        name = self._destination.name
        return f"cannot load destinations.{name}.ca_file or client_cert: {error}"


def _tls(ca_file: str | None, client_cert: str | None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=ca_file)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if client_cert is not None:
        context.load_cert_chain(client_cert)
    return context


def _at_hand(response: aiohttp.ClientResponse) -> str | None:
    """Return the start of a body that has arrived whole together with its head, as nearly every answer does."""
    content = response.content
    if not content.is_eof() or content.exception() is not None:
        return None
    return content.read_nowait()[:ANSWER_BYTES].decode(errors="replace")


async def _start(response: aiohttp.ClientResponse) -> str:
    """Return the first ANSWER_BYTES of the body as text; a body that breaks off does not change the status."""
    start = bytearray()
    with suppress(aiohttp.ClientError, TimeoutError, OSError, ValueError):
        async with asyncio.timeout(BODY_PATIENCE_S):
            while len(start) < ANSWER_BYTES and (piece := await response.content.read(ANSWER_BYTES - len(start))):
                start += piece
    if not response.content.at_eof():
        response.close()
    return start.decode(errors="replace")


def _location(response: aiohttp.ClientResponse, url: str) -> URL | None:
    header = response.headers.get("Location")
    if header is None:
        return None
    with suppress(ValueError):
        target = URL(url).join(URL(header))
        return target if target.scheme in ("http", "https") and target.host else None
    return None


def _same_host(origin: URL, target: URL) -> bool:
    """Return whether a write key may follow: same host and port, or the same host's step from http to https."""
    if origin.host != target.host:
        return False
    if origin.scheme == target.scheme:
        return origin.port == target.port
    return origin.scheme == "http" and origin.is_default_port() and target.is_default_port()


def _unreachable(error: Exception) -> Result:
    """Translate what aiohttp raised."""
    before = _before_writing(error)
    if before is not None:
        return before
    if _unwritten(error) and not _about_certificates(error):
        return NOT_SENT
    match error:
        case TimeoutError():
            return Unreachable("timeout", ambiguous=True, detail="no answer in time")
        case _ if _about_certificates(error):
            return Unreachable("tls", detail=_words(error))
        case aiohttp.ClientResponseError():
            return Unreachable("reset", ambiguous=True, detail="the answer is not HTTP")
        case _:
            return Unreachable("reset", ambiguous=True, detail=_words(error))


def _before_writing(error: Exception) -> Result | None:
    """Translate what fails before the request is written: it cannot have been processed, so it is not ambiguous."""
    match error:
        case aiohttp.ClientHttpProxyError():
            return Answer(error.status, body_start=error.message)
        case aiohttp.ClientConnectorDNSError():
            return Unreachable("dns", detail=f"{error.host} does not resolve")
        case aiohttp.ClientConnectorError() | aiohttp.ClientConnectorCertificateError():
            return Unreachable("tls" if _about_certificates(error) else "connect", detail=_words(error))
        case aiohttp.ConnectionTimeoutError():
            return Unreachable("timeout", detail="no connection in time")
        case aiohttp.InvalidURL():
            return Unreachable("connect", detail="not a usable URL")
        case _:
            return None


def _unwritten(error: Exception) -> bool:
    """Return whether a connection broke before all of the request was written: the vendor has nothing to act on."""
    return isinstance(error, aiohttp.ClientOSError) and (error.strerror or "").startswith("Can not write request body")


def _about_certificates(error: BaseException | None) -> bool:
    """Return whether a TLS failure is about certificates, ours or theirs (TLS 1.3 says so only after the handshake)."""
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError | aiohttp.ClientConnectorCertificateError):
            return True
        # aiohttp's own kind of SSLError has no reason: the one that it was raised from has it.
        reason = (getattr(error, "reason", None) or "").upper() if isinstance(error, ssl.SSLError) else ""
        if "CERTIFICATE" in reason or "ALERT" in reason:
            return True
        error = error.__cause__ or error.__context__
    return False


def _words(error: Exception) -> str:
    """Return what went wrong without addresses that change from try to try."""
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return str(error.certificate_error)
    if isinstance(error, aiohttp.ClientConnectorError):
        return f"{error.host}:{error.port}: {error.strerror or error.os_error or type(error.os_error).__name__}"
    return type(error).__name__ if not str(error) else f"{type(error).__name__}: {error}"[:200]
