"""The direct transport: how many connections it opens, to whom, and what it refuses to send."""

import asyncio
import socket
import ssl

import pytest
from aiohttp import web

from forwarder.core.lane.outcome import Unreachable
from forwarder.flusher import direct, transport
from forwarder.flusher.direct import Direct
from forwarder.flusher.transport import Reply
from tests.flusher.harness import HEADERS, serve, telemetrydeck

CONTEXT = ssl.create_default_context()


async def test_requests_one_after_another_share_a_connection_and_at_once_have_one_each_up_to_the_limit() -> None:
    async with serve() as vendor:
        gate = asyncio.Event()

        async def hold(_request: web.Request, _body: bytes) -> web.Response:
            await gate.wait()
            return web.Response()

        one = Direct(telemetrydeck(vendor.url, concurrency=2), CONTEXT)
        for _ in range(3):
            assert isinstance(await one.exchange(vendor.url, HEADERS, b"[]"), Reply)
        assert len(set(vendor.peers)) == 1
        vendor.handler = hold
        limit = 2 + transport.BESIDE
        waiting = [asyncio.create_task(one.exchange(vendor.url, HEADERS, b"[]")) for _ in range(limit)]
        while len(vendor.bodies) < 3 + limit:  # noqa: ASYNC110  the vendor has no event for it
            await asyncio.sleep(0)
        refused = await one.exchange(vendor.url, HEADERS, b"[]")
        assert refused == Unreachable("connect", detail=f"all {limit} connections are in use")
        gate.set()
        assert {reply.status for reply in await asyncio.gather(*waiting) if isinstance(reply, Reply)} == {200}
        assert len(set(vendor.peers)) == limit
        await one.close()


async def test_a_request_that_is_cancelled_leaves_no_connection_with_a_late_answer() -> None:
    async with serve() as vendor:
        gate = asyncio.Event()

        async def late(_request: web.Request, body: bytes) -> web.Response:
            if body == b"first":
                await gate.wait()
            return web.Response(text=body.decode())

        vendor.handler = late
        one = Direct(telemetrydeck(vendor.url), CONTEXT)
        first = asyncio.create_task(one.exchange(vendor.url, HEADERS, b"first"))
        while not vendor.bodies:  # noqa: ASYNC110  the vendor has no event for it
            await asyncio.sleep(0)
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        gate.set()
        second = await one.exchange(vendor.url, HEADERS, b"second")
        assert isinstance(second, Reply)
        assert second.body_start == "second"
        while vendor.seen[0].transport is not None:  # noqa: ASYNC110  aiohttp forgets it when it is closed
            await asyncio.sleep(0)
        await one.close()


async def test_an_address_that_does_not_answer_does_not_hold_up_another_one(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serve() as vendor:
        port = int(vendor.url.rpartition(":")[2])
        with socket.create_server(("127.0.0.2", port), backlog=0) as full, socket.socket() as filler:
            filler.connect(("127.0.0.2", port))  # its queue is full now: another one only waits
            found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, port)) for host in ("127.0.0.2", "127.0.0.1")]
            monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
            one = Direct(telemetrydeck(vendor.url), CONTEXT)
            reply = await one.exchange(f"http://two.invalid:{port}/", HEADERS, b"[]")
            assert isinstance(reply, Reply)
            assert full.fileno() >= 0
            await one.close()


@pytest.mark.parametrize("value", ["a\r\nb", "a\nb", "a\0b", "schl\u00fcssel"])
async def test_a_header_that_could_be_read_as_two_is_never_sent_nor_told(value: str) -> None:
    one = Direct(telemetrydeck("http://127.0.0.1:9"), CONTEXT)
    result = await one.exchange("http://127.0.0.1:9", {"X-Token": value}, b"{}")
    assert isinstance(result, Unreachable)
    assert not result.ambiguous
    assert "X-Token" in result.detail
    assert value not in result.detail


@pytest.mark.parametrize(
    ("url", "origin", "first"),
    [
        ("http://h.example/v2/", ("h.example", 80, False), b"POST /v2/ HTTP/1.1\r\nHost: h.example\r\n"),
        ("https://h.example:444", ("h.example", 444, True), b"POST / HTTP/1.1\r\nHost: h.example:444\r\n"),
        ("http://[::1]:80/a b?c=\u00e4", ("::1", 80, False), b"POST /a%20b?c=%C3%A4 HTTP/1.1\r\nHost: [::1]\r\n"),
    ],
)
def test_a_url_becomes_an_origin_and_the_head_of_a_request(url: str, origin: object, first: bytes) -> None:
    target = direct.aim(url, HEADERS)
    assert target.origin == origin
    assert target.head.startswith(first)
    assert target.head.endswith(b"\r\nContent-Type: application/json\r\nContent-Length: ")
