"""The client against servers that answer well, badly, or not at all."""

import asyncio
import gzip
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trustme
from aiohttp import web

from forwarder.core.lane.outcome import Answer, Result, Unreachable
from forwarder.flusher import Client
from forwarder.flusher.client import Open
from tests.flusher.harness import HEADERS, JumpingClock, Post, RealClock, serve, telemetrydeck


@asynccontextmanager
async def raw(answer: bytes, *, read: bool = True, context: ssl.SSLContext | None = None) -> AsyncIterator[str]:
    """A server that writes `answer` to whoever connects and closes."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if read:
            await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", 0, ssl=context)
    host, port = server.sockets[0].getsockname()[:2]
    async with server:
        yield f"http{'s' if context else ''}://{host}:{port}"


async def test_an_answer_is_status_and_the_start_of_its_body(post: Post) -> None:
    async with serve() as vendor:
        vendor.status = 422
        assert await post(telemetrydeck(vendor.url)) == Answer(422, body_start="says the vendor")


async def test_a_huge_answer_is_not_read(post: Post) -> None:
    async with serve() as vendor:

        async def flood(request: web.Request, _body: bytes) -> web.StreamResponse:
            response = web.StreamResponse()
            await response.prepare(request)
            try:
                while True:
                    await response.write(b"x" * 65536)
            except (ConnectionError, asyncio.CancelledError):
                return response

        vendor.handler = flood
        result = await post(telemetrydeck(vendor.url))
        assert result == Answer(200, body_start="x" * 2048)


async def test_a_compressed_answer_is_not_unpacked(post: Post) -> None:
    async with serve() as vendor:

        async def bomb(_request: web.Request, _body: bytes) -> web.Response:
            return web.Response(body=gzip.compress(b"0" * 10_000_000)[:4000], headers={"Content-Encoding": "gzip"})

        vendor.handler = bomb
        result = await post(telemetrydeck(vendor.url))
        assert isinstance(result, Answer)
        assert len(result.body_start) <= 2048


async def test_a_body_that_breaks_off_does_not_change_the_status(post: Post) -> None:
    async with raw(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf") as url:
        assert await post(telemetrydeck(url)) == Answer(200, body_start="half")


@pytest.mark.parametrize(
    ("value", "expected"),
    [("30", 30.0), ("Thu, 28 May 2026 20:28:40 GMT", 120.0), ("Thu, 28 May 2099 20:28:40 GMT", 3600.0), ("x", None)],
)
async def test_retry_after_dates_are_measured_by_the_servers_own_clock(
    post: Post, value: str, expected: float | None
) -> None:
    head = (
        f"HTTP/1.1 503 No\r\nDate: Thu, 28 May 2026 20:26:40 GMT\r\nRetry-After: {value}\r\nContent-Length: 0\r\n\r\n"
    )
    async with raw(head.encode()) as url:
        assert await post(telemetrydeck(url)) == Answer(503, retry_after_s=expected)


@pytest.mark.parametrize(
    "answer", [b"", b"HTTP/1.1 2", b"SSH-2.0-x\r\n\r\n", b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 200, b"\0" * 9000]
)
async def test_a_garbled_answer_is_ambiguous(post: Post, answer: bytes) -> None:
    async with raw(answer) as url:
        result = await post(telemetrydeck(url))
    assert isinstance(result, Unreachable)
    assert (result.kind, result.ambiguous) == ("reset", True)


async def test_no_answer_in_time_is_ambiguous(post: Post) -> None:
    async with serve() as vendor:
        hang = asyncio.Event()

        async def stall(_request: web.Request, _body: bytes) -> web.Response:
            await hang.wait()
            return web.Response()

        vendor.handler = stall
        result = await post(telemetrydeck(vendor.url, timeout=0.05))
        hang.set()
    assert result == Unreachable("timeout", ambiguous=True, detail="no answer in time")


async def test_no_connection_is_not_ambiguous(post: Post) -> None:
    async with raw(b"") as url:
        pass
    result = await post(telemetrydeck(url))
    assert isinstance(result, Unreachable)
    assert (result.kind, result.ambiguous) == ("connect", False)


async def test_a_name_that_does_not_resolve_is_told_apart(post: Post) -> None:
    result = await post(telemetrydeck("http://no-such-host.invalid/"))
    assert result == Unreachable("dns", detail="no-such-host.invalid does not resolve")


@pytest.mark.parametrize("url", ["nonsense", "http://", "ftp://127.0.0.1/", "http://127.0.0.1:99999/"])
async def test_a_bad_url_is_a_value_not_an_exception(post: Post, url: str) -> None:
    assert isinstance(await post(telemetrydeck(url)), Unreachable)


async def test_redirects_within_the_host_are_followed_with_the_body_and_others_are_not(post: Post) -> None:
    async with serve() as vendor, serve() as elsewhere:

        async def move(request: web.Request, _body: bytes) -> web.Response:
            targets = {"/a": "/b", "/b": "/c/", "/away": f"{elsewhere.url}/x", "/round": "/round"}
            target = targets.get(request.path)
            return web.Response(status=308 if target else 200, headers={"Location": target} if target else {})

        vendor.handler = move
        destination = telemetrydeck(vendor.url)
        assert await post(destination, b"[1]", vendor.url + "/a") == Answer(200)
        assert vendor.bodies == [b"[1]"] * 3
        assert await post(destination, b"[1]", vendor.url + "/away") == Answer(308, location=elsewhere.url)
        assert elsewhere.bodies == []
        vendor.bodies.clear()
        result = await post(destination, b"[1]", vendor.url + "/round")
        assert isinstance(result, Answer)
        assert result.status == 308
        assert len(vendor.bodies) == 3


async def test_a_body_of_many_megabytes_arrives_whole(post: Post) -> None:
    async with serve() as vendor:
        body = b"[" + b"1," * 3_000_000 + b"1]"
        assert isinstance(await post(telemetrydeck(vendor.url), body), Answer)
        assert vendor.bodies == [body]
        assert vendor.seen[0].headers["Content-Length"] == str(len(body))


async def test_no_cookie_and_no_environment_proxy_are_used(transport: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    async with serve() as vendor:
        vendor.headers = {"Set-Cookie": "a=b"}
        client = Client(telemetrydeck(vendor.url), clock=RealClock(), open_=transport)
        for _ in range(2):
            assert isinstance(await client.post(vendor.url, HEADERS, b"[]"), Answer)
        await client.close()
        assert "Cookie" not in vendor.seen[1].headers
        assert vendor.seen[0].headers["User-Agent"].startswith("forwarder/")


async def ask_through(proxy: str, url: str) -> Result:
    client = Client(telemetrydeck(url, proxy=proxy), clock=RealClock())
    try:
        return await client.post(url, HEADERS, b"[]")
    finally:
        await client.close()


async def test_an_explicit_proxy_is_used_and_its_407_is_an_answer() -> None:
    async with raw(OK) as proxy:
        assert await ask_through(proxy, "http://vendor.invalid") == Answer(200), "no name was resolved here"
    async with raw(b"HTTP/1.1 407 Auth\r\nContent-Length: 0\r\n\r\n") as proxy:
        result = await ask_through(proxy, "https://vendor.invalid")
    assert isinstance(result, Answer)
    assert result.status == 407


async def test_connections_are_kept_and_renewed_after_five_minutes(transport: Open) -> None:
    async with serve() as vendor:
        clock = JumpingClock()
        client = Client(telemetrydeck(vendor.url), clock=clock, open_=transport)
        for ahead in (0.0, 299.0, 301.0):
            clock.ahead = ahead
            await client.post(vendor.url, HEADERS, b"[]")
        await client.close()
    first, second, third = vendor.peers
    assert first == second
    assert third != first


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def server_context(certificate: trustme.LeafCert, *, client_ca: trustme.CA | None = None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    if client_ca is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        # With TLS 1.3 the refusal comes only after the handshake, when the request may be on its way.
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        client_ca.configure_trust(context)
    return context


def save(path: Path, *blobs: trustme.Blob) -> str:
    path.write_bytes(b"".join(blob.bytes() for blob in blobs))
    return str(path)


OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


async def test_a_private_authority_is_trusted_only_where_it_is_configured(
    post: Post, authority: trustme.CA, tmp_path: Path
) -> None:
    context = server_context(authority.issue_cert("127.0.0.1"))
    async with raw(OK, context=context) as url:
        trusted = telemetrydeck(url, ca_file=save(tmp_path / "ca.pem", authority.cert_pem))
        assert await post(trusted) == Answer(200)
        refused = await post(telemetrydeck(url))
    assert isinstance(refused, Unreachable)
    assert (refused.kind, refused.ambiguous) == ("tls", False)


async def test_a_certificate_for_another_host_is_refused(post: Post, authority: trustme.CA, tmp_path: Path) -> None:
    context = server_context(authority.issue_cert("other.example"))
    async with raw(OK, context=context) as url:
        result = await post(telemetrydeck(url, ca_file=save(tmp_path / "ca.pem", authority.cert_pem)))
    assert isinstance(result, Unreachable)
    assert result.kind == "tls"


@pytest.mark.parametrize("given", [True, False])
async def test_a_client_certificate_is_shown_where_it_is_asked_for(
    post: Post, authority: trustme.CA, tmp_path: Path, *, given: bool
) -> None:
    context = server_context(authority.issue_cert("127.0.0.1"), client_ca=authority)
    mine = authority.issue_cert("me@example.com")
    pem = save(tmp_path / "me.pem", mine.private_key_pem, *mine.cert_chain_pems)
    ca_file = save(tmp_path / "ca.pem", authority.cert_pem)
    async with raw(OK, context=context) as url:
        result = await post(telemetrydeck(url, ca_file=ca_file, client_cert=pem if given else None))
    if given:
        assert result == Answer(200)
    else:
        # Whether the server's alert or its reset is seen first is the kernel's choice.
        assert isinstance(result, Unreachable)
        assert result.kind in ("tls", "connect")
        assert not result.ambiguous


@pytest.mark.parametrize("content", [None, b"not a certificate"])
async def test_a_certificate_file_that_cannot_be_loaded_parks_and_names_the_setting(
    post: Post, tmp_path: Path, content: bytes | None
) -> None:
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_bytes(content)
    result = await post(telemetrydeck("https://127.0.0.1:9", ca_file=str(path)))
    assert isinstance(result, Unreachable)
    assert result.kind == "tls"
    assert "destinations.td.ca_file" in result.detail


async def test_new_settings_hold_from_the_next_request_on(
    transport: Open, authority: trustme.CA, tmp_path: Path
) -> None:
    context = server_context(authority.issue_cert("127.0.0.1"))
    async with raw(OK, context=context) as url:
        client = Client(telemetrydeck(url), clock=RealClock(), open_=transport)
        before = await client.post(url, HEADERS, b"[]")
        client.reconfigure(telemetrydeck(url, ca_file=save(tmp_path / "ca.pem", authority.cert_pem)))
        after = await client.post(url, HEADERS, b"[]")
        await client.close()
    assert isinstance(before, Unreachable)
    assert after == Answer(200)
