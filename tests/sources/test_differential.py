"""The same bytes to aiohttp's server and to ours: both accept or both refuse, but for the differences listed here.

Accepting means that the framing is taken: what is asked for is another matter. aiohttp parses with llhttp as we do, so
what differs is what one of the two checks beside it.
"""

import asyncio
import re
from collections.abc import AsyncIterator

import pytest
from aiohttp import web

from tests.sources.test_conformance import CASES, Case, named
from tests.support.raw_http import RawClient

PATIENCE_S = 2

STRICTER = {
    "CONNECT": "we are no proxy",
    "RTSP/1.0, which llhttp reads as HTTP/1.0": "another protocol",
    "RTSP/1.1, which llhttp reads as HTTP/1.1": "the same",
    "RTSP/1.0 behind several spaces and empty lines": "the same",
    "RTSP/1.0 of a GET": "the same",
    "a method of RTSP": "the same",
    "ICE/1.0, which llhttp reads as HTTP/1.0": "the same",
    "a method of Icecast": "the same",
    "gzip, chunked as transfer": "a transfer coding that is not exactly chunked is ambiguous",
    "chunked from HTTP/1.0": "HTTP/1.0 has no Transfer-Encoding: a proxy may frame it otherwise",
    "a fragment": "no target of RFC 9112",
    "another scheme": "we serve http only",
    "user information in the target": "forbidden by RFC 9110, and misleading",
    "a path that is not UTF-8": "no path of ours can be meant",
    "the token twice": "which one counts is ambiguous",
    "too large a body, from its length": "our limit",
    "too large a body, chunked": "our limit",
    "a bomb": "our limit",
    "a bomb in deflate": "our limit",
    "truncated gzip": "the events would be cut",
    "empty gzip": "no gzip at all",
    "another expectation": "an expectation that cannot be met is 417",
    "Expect for an unknown path": "answered before the body, which then may or may not come: we close",
}
"""What we refuse and aiohttp takes, and why."""

MILDER = {
    "what follows Connection: close is not read": "aiohttp refuses the bytes behind it, we drop them",
    "Expect": "we always say 100, aiohttp not when the body is there already",
    "Expect after another request": "the same",
    "Upgrade, then another request": "we go on after an Upgrade that is ignored",
    "Java's default client, twice": "the same",
    "Upgrade with Expect": "as Expect",
    "an unknown content encoding": "415, and the connection stays: the framing is sound",
    "an unknown content encoding, then a good request": "the same",
}
"""What we take and aiohttp refuses, and why."""


@pytest.fixture
async def peer() -> AsyncIterator[tuple[str, int]]:
    """aiohttp's own server, which reads every body and says 200."""

    async def take(request: web.BaseRequest) -> web.Response:
        await request.read()
        return web.Response()

    runner = web.ServerRunner(web.Server(take), access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    yield runner.addresses[0]
    await runner.cleanup()


async def peer_accepts(place: tuple[str, int], case: Case) -> bool:
    """Return whether aiohttp answers as often as there are requests, and never with an error.

    It closes on a half-closed client without an answer, so this waits; where it says nothing at all, it waits in vain.
    """
    answer = b""
    async with await RawClient.open(place) as client:
        try:
            async with asyncio.timeout(PATIENCE_S):
                await client.say(case.request)
                while answer.count(b"HTTP/1.1 ") + answer.count(b"HTTP/1.0 ") < len(case.statuses):
                    piece = await client.reader.read(65536)
                    if not piece:
                        return False
                    answer += piece
        except (TimeoutError, ConnectionError):
            return False
    return not re.search(rb"HTTP/1\.[01] [45]", answer)


def ours_accepts(case: Case) -> bool:
    """Return what the conformance table proves of ours: an error that closes is about the bytes."""
    return case.statuses[-1] < 400 or not case.closes


@pytest.mark.parametrize("case", CASES, ids=named)
async def test_the_same_bytes_have_the_same_fate_at_aiohttp(peer: tuple[str, int], case: Case) -> None:
    ours, theirs = ours_accepts(case), await peer_accepts(peer, case)
    assert ours or not theirs or case.name in STRICTER
    assert theirs or not ours or case.name in MILDER
    assert ours is not theirs or case.name not in {**STRICTER, **MILDER}, "listed, but there is no difference"


def test_every_listed_difference_is_a_case_of_the_table() -> None:
    assert {*STRICTER, *MILDER} <= {case.name for case in CASES}
