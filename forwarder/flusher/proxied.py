"""The transport through a proxy: aiohttp, which knows absolute targets, CONNECT and TLS within it.

Every exception of aiohttp ends here.
"""

import asyncio
import io
import ssl
from collections.abc import Mapping
from contextlib import suppress

import aiohttp

from forwarder.config.model import Destination
from forwarder.core.lane.outcome import Unreachable
from forwarder.flusher import tls, transport
from forwarder.flusher.transport import ANSWER_BYTES, BODY_PATIENCE_S, Exchange, Reply


class Proxied:
    """One aiohttp session: keep-alive, verified TLS, no cookies, no environment. Without a proxy it goes direct."""

    def __init__(self, destination: Destination, context: ssl.SSLContext) -> None:
        connect_s = transport.connect_s(destination.timeout)
        self._proxy = destination.proxy
        self._http = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                ssl=context,
                limit=destination.concurrency + transport.BESIDE,
                keepalive_timeout=transport.KEEP_ALIVE_S,
                ttl_dns_cache=int(transport.RESOLVED_S),
            ),
            # One timer a request: `total` covers reading, too.
            timeout=aiohttp.ClientTimeout(total=destination.timeout, connect=connect_s, sock_connect=connect_s),
            headers=transport.HEADERS,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
        )

    async def exchange(self, url: str, headers: Mapping[str, str], body: bytes) -> Exchange:
        """Make one request."""
        # aiohttp writes bytes in one go; a file-like body is written in parts, with pauses for the loop.
        data = body if len(body) <= transport.LARGE_BODY else io.BytesIO(body)
        try:
            async with self._http.post(
                url, data=data, headers=headers, proxy=self._proxy, allow_redirects=False
            ) as response:
                return await _reply(response)
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            return _translated(error)

    async def close(self) -> None:
        """Close all connections."""
        await self._http.close()


async def _reply(response: aiohttp.ClientResponse) -> Reply:
    headers = response.headers
    start = await _start(response)
    return Reply(response.status, start, headers.get("Retry-After"), headers.get("Date"), headers.get("Location"))


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


def _translated(error: Exception) -> Exchange:
    """Translate what aiohttp raised."""
    before = _before_writing(error)
    if before is not None:
        return before
    about_certificates = tls.about_certificates(error)
    if _unwritten(error) and not about_certificates:
        return transport.NOT_SENT
    match error:
        case TimeoutError():
            return transport.NO_ANSWER
        case _ if about_certificates:
            return Unreachable("tls", detail=_words(error))
        case aiohttp.ClientResponseError():
            return transport.NOT_HTTP
        case _:
            return Unreachable("reset", ambiguous=True, detail=_words(error))


def _before_writing(error: Exception) -> Exchange | None:
    """Translate what fails before the request is written: it cannot have been processed, so it is not ambiguous."""
    match error:
        case aiohttp.ClientHttpProxyError():
            return Reply(error.status, error.message)
        case aiohttp.ClientConnectorDNSError():
            return Unreachable("dns", detail=f"{error.host} does not resolve")
        case aiohttp.ClientConnectorError() | aiohttp.ClientConnectorCertificateError():
            return Unreachable("tls" if tls.about_certificates(error) else "connect", detail=_words(error))
        case aiohttp.ConnectionTimeoutError():
            return transport.NO_CONNECTION
        case aiohttp.InvalidURL():
            return transport.NOT_A_URL
        case _:
            return None


def _unwritten(error: Exception) -> bool:
    """Return whether a connection broke before all of the request was written: the vendor has nothing to act on."""
    return isinstance(error, aiohttp.ClientOSError) and (error.strerror or "").startswith("Can not write request body")


def _words(error: Exception) -> str:
    """Return what went wrong without addresses that change from try to try."""
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return str(error.certificate_error)
    if isinstance(error, aiohttp.ClientConnectorError):
        return f"{error.host}:{error.port}: {error.strerror or error.os_error or type(error.os_error).__name__}"
    return type(error).__name__ if not str(error) else f"{type(error).__name__}: {error}"[:200]
