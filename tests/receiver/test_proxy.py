"""The hostile proxy does each thing it is asked for: otherwise the delivery tests would prove nothing."""

import asyncio
from collections.abc import AsyncIterator

import aiohttp
import pytest

from forwarder.receiver import Receiver
from tests.receiver.bodies import TELEMETRYDECK
from tests.support.proxy import GARBAGE, HostileProxy, Mode

BODY = TELEMETRYDECK["swift"]


@pytest.fixture
async def proxy(receiver: Receiver) -> AsyncIterator[HostileProxy]:
    async with HostileProxy(receiver.port) as proxy:
        yield proxy


async def post(http: aiohttp.ClientSession, proxy: HostileProxy) -> int:
    async with http.post(f"{proxy.url}/v2/", data=BODY) as answer:
        await answer.read()
        return answer.status


async def raw(proxy: HostileProxy, *, chunk: int = 0) -> tuple[bytes, int]:
    """Return the answer's bytes and in how many reads they came."""
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    writer.write(b"POST /v2/ HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(BODY) + BODY)
    parts: list[bytes] = []
    try:
        while part := await reader.read(65536):
            parts.append(part)
            if chunk and b"".join(parts).endswith(b"\r\n\r\n{}"):
                break
    finally:
        writer.close()
    return b"".join(parts), len(parts)


async def test_a_faithful_proxy_changes_nothing_and_keeps_connections(
    receiver: Receiver, proxy: HostileProxy, http: aiohttp.ClientSession
) -> None:
    assert [await post(http, proxy) for _ in range(3)] == [200, 200, 200]
    assert [seen.body for seen in receiver.requests()] == [BODY] * 3
    assert (proxy.connections, proxy.requests) == (1, 3)


@pytest.mark.parametrize(
    ("mode", "arrived"),
    [
        (Mode.RESET_ON_CONNECT, 0),
        (Mode.RESET_BEFORE_BODY, 0),
        (Mode.RESET_IN_BODY, 0),
        (Mode.RESET_AFTER_REQUEST, 1),
        (Mode.HALF_ANSWER, 1),
        (Mode.TRUNCATED_ANSWER, 1),
        (Mode.GARBAGE, 0),
    ],
)
async def test_a_cut_answer_is_an_error_and_the_vendor_has_seen_as_much_as_the_mode_says(
    receiver: Receiver, proxy: HostileProxy, http: aiohttp.ClientSession, mode: Mode, arrived: int
) -> None:
    proxy.mode = mode
    with pytest.raises(aiohttp.ClientError):
        await post(http, proxy)
    assert len(receiver.events()) == arrived
    proxy.mode = Mode.FAITHFUL
    assert await post(http, proxy) == 200


@pytest.mark.parametrize(
    "mode", [Mode.RESET_ON_CONNECT, Mode.RESET_BEFORE_BODY, Mode.RESET_IN_BODY, Mode.RESET_AFTER_REQUEST]
)
async def test_a_reset_is_no_orderly_end(proxy: HostileProxy, mode: Mode) -> None:
    proxy.mode = mode
    with pytest.raises(ConnectionResetError):
        await raw(proxy)


@pytest.mark.parametrize(("mode", "arrived"), [(Mode.STALL_BEFORE_BODY, 0), (Mode.STALL_ANSWER, 1)])
async def test_a_stall_lasts_until_the_client_gives_up(
    receiver: Receiver, proxy: HostileProxy, http: aiohttp.ClientSession, mode: Mode, arrived: int
) -> None:
    proxy.mode = mode
    posting = asyncio.create_task(post(http, proxy))
    await proxy.wait_for_requests(1)
    if arrived:
        await receiver.wait_for(lambda r: len(r.events()) == arrived)
    await asyncio.wait([posting], timeout=0.05)
    assert not posting.done()
    posting.cancel()
    assert len(receiver.events()) == arrived


async def test_a_trickled_answer_is_whole_but_comes_in_many_pieces(proxy: HostileProxy, receiver: Receiver) -> None:
    proxy.mode = Mode.TRICKLE
    answer, reads = await raw(proxy, chunk=1)
    assert answer.startswith(b"HTTP/1.1 200")
    assert answer.endswith(b"{}")
    assert reads > 1
    assert len(receiver.events()) == 1


async def test_garbage_and_half_answers_are_what_they_say(proxy: HostileProxy) -> None:
    proxy.mode = Mode.GARBAGE
    assert (await raw(proxy))[0] == GARBAGE
    proxy.mode = Mode.HALF_ANSWER
    half, _ = await raw(proxy)
    assert half.startswith(b"HTTP/1.1 200")
    assert b"\r\n\r\n" not in half
    proxy.mode = Mode.TRUNCATED_ANSWER
    cut, _ = await raw(proxy)
    assert b"\r\n\r\n" in cut
    assert not cut.endswith(b"{}")


async def test_a_connection_is_closed_after_a_whole_answer_that_did_not_announce_it(proxy: HostileProxy) -> None:
    proxy.mode = Mode.CLOSE_AFTER_ANSWER
    answer, _ = await raw(proxy)  # reads to the end of the connection
    assert answer.endswith(b"{}")
    assert b"connection: close" not in answer.lower()


async def test_chunked_requests_pass_whole(
    receiver: Receiver, proxy: HostileProxy, http: aiohttp.ClientSession
) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        yield BODY[:10]
        yield BODY[10:]

    async with http.post(f"{proxy.url}/v2/", data=chunks(), expect100=True) as answer:
        assert answer.status == 200
    assert receiver.requests()[0].body == BODY
