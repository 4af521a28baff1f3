"""The same bytes to aiohttp's server and to ours: both accept or both refuse, but for the differences listed here.

Accepting means that every request is answered, and none with an error. The paths and bodies are all welcome here, so
that what is compared is the listener: framing, heads, codings. What both accept must be the same requests with the same
bodies. aiohttp parses with llhttp as we do, so what differs is what one of the two checks beside it.

The table of test_conformance.py goes over sockets; the corpus of the fuzzers, and what hypothesis makes of both, goes
into the two connections by hand.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec
import pytest
from aiohttp import web
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from forwarder.config.model import Listen
from forwarder.core.seams import Durability, Group
from forwarder.vendors.base import Checked
from tests.sources.harness import Open
from tests.sources.memory_door import MemoryTransport, hear_out, memory_door
from tests.sources.test_conformance import CASES, SHORT, Case, named
from tests.sources.test_corpus import edit
from tests.support.raw_http import RawClient

PATIENCE_S = 2
TURNS = 100
"""Of the loop, after which aiohttp has answered whatever was complete."""
LIMITS = msgspec.structs.replace(Listen(), max_body=1_000)
CORPUS = sorted((Path(__file__).parents[1] / "data" / "corpus").iterdir())
STATUS = re.compile(rb"HTTP/\d\.\d (\d{3}) ")

OF_RTSP = "another protocol, which llhttp reads as HTTP"
STRICTER = {
    "a wrong method": "405: only POST where events go, whatever the path",
    "HEAD where events go": "the same",
    "HEAD of nothing": "the same",
    "a wrong method with a wrong query": "the same",
    "a wrong method with a chunked body": "the same",
    "two content encodings": "415: we undo one",
    "an unknown ack": "aiohttp's handler does not know it",
    "an unknown strict": "the same",
    "a bad timeout": "the same",
    "CONNECT": "we are no proxy",
    "RTSP/1.0, which llhttp reads as HTTP/1.0": OF_RTSP,
    "RTSP/1.1, which llhttp reads as HTTP/1.1": OF_RTSP,
    "RTSP/1.0 behind several spaces and empty lines": OF_RTSP,
    "RTSP/1.0 of a GET": OF_RTSP,
    "a method of RTSP": OF_RTSP,
    "ICE/1.0, which llhttp reads as HTTP/1.0": OF_RTSP,
    "a method of Icecast": OF_RTSP,
    "gzip, chunked as transfer": "a transfer coding that is not exactly chunked is ambiguous",
    "chunked from HTTP/1.0": "HTTP/1.0 has no Transfer-Encoding: a proxy may frame it otherwise",
    "a fragment": "no target of RFC 9112",
    "another scheme": "we serve http only",
    "user information in the target": "forbidden by RFC 9110, and misleading",
    "a path that is not UTF-8": "no path of ours can be meant",
    "HTTP/2.0": "505: aiohttp answers as if it spoke that",
    "HTTP/0.9": "the same",
    "RTSP/2.0": OF_RTSP,
    "the token twice": "which one counts is ambiguous",
    "too large a body, from its length": "our limit",
    "too large a body, chunked": "our limit",
    "a bomb": "our limit",
    "a bomb in deflate": "our limit",
    "truncated gzip": "the events would be cut",
    "empty gzip": "no gzip at all",
    "another expectation": "an expectation that cannot be met is 417",
}
"""What we refuse and aiohttp takes, and why."""

MILDER = {
    "what follows Connection: close is not read": "aiohttp refuses the bytes behind it, we drop them",
}
"""What we take and aiohttp refuses, and why."""

OTHERWISE = {
    "x-gzip": "aiohttp hands it on as it is, we take it as gzip",
    "Upgrade, then another request": "we ignore Upgrade, aiohttp reads no request behind it",
    "Java's default client, twice": "the same",
}
"""What both take, but as other requests or other bodies, and why."""

STRICTER_IN_CORPUS = {"json-deep": "our limit", "json-huge-number": "our limit"}
"""As STRICTER, of files that are not a case of the table."""

RULES: Mapping[str, Sequence[tuple[str, bytes]]] = {
    "stricter": (
        ("only POST, GET / and OPTIONS are asked of us", rb"(?<![A-Z])(?!POST )[A-Z]+ +[/*a-z]"),
        ("another protocol, which llhttp reads as HTTP", rb"(RTSP|ICE)/\d"),
        ("Transfer-Encoding from HTTP/1.0", rb"(?is)HTTP/1\.0.*transfer-encoding"),
        ("a transfer coding that is not exactly chunked", rb"(?i)transfer-encoding:[^\r]*,"),
        ("a target that cannot be meant", rb"#|ftp://|@localhost|%ff"),
        ("a query that aiohttp's handler does not know", rb"[?&](ack|strict|timeout)="),
        ("which of two counts is ambiguous", rb"(?is)(x-encharge-token|expect):.*\1:"),
        ("our limit", rb"(?i)content-length: *[1-9]\d{3}|\r\n3e9\r\n"),
        ("a version that we do not speak", rb" HTTP/(0\.9|2\.0)\r|[A-Z-]+ +[^ \r\n]+\r"),
        ("a coding that we do not undo, or that is broken", rb"(?i)content-encoding:"),
        ("an expectation that cannot be met", rb"(?i)expect:(?! *100-continue\r)"),
        ("we read on behind an Upgrade that we ignore", rb"(?i)upgrade:"),
    ),
    "milder": (
        (
            "aiohttp refuses what follows the last request, we drop it",
            rb"(?is)(connection:[^\r]*close|HTTP/1\.0).*\r\n\r\n.",
        ),
        ("aiohttp counts a Host among the trailers to the next request", rb"(?i)\r\n0[^\r\n]*\r\n([^\r\n]+\r\n)*host:"),
        ("a target that only our router refuses", rb"POST \*"),
        ("a body that nobody wants: we do not decode it", rb"(?is)(OPTIONS|GET) .*content-encoding:"),
        ("aiohttp reads no request behind an Upgrade", rb"(?i)upgrade:"),
    ),
    "otherwise": (
        ("aiohttp does not know x-gzip", rb"(?i)x-gzip"),
        ("aiohttp reads no request behind an Upgrade", rb"(?i)upgrade:"),
    ),
}
"""The same for bytes that nobody named: what a difference must have in it."""


class Fate(NamedTuple):
    """What one server made of some bytes: its final answers, and the bodies of the POST requests that it took."""

    statuses: Sequence[int]
    bodies: Sequence[bytes]

    @property
    def accepted(self) -> bool:
        return bool(self.statuses) and all(status < 400 for status in self.statuses)


def statuses(answers: bytes) -> list[int]:
    return [int(status) for status in STATUS.findall(answers) if status != b"100"]


class AnyRoute:
    """Takes whatever body there is as one event."""

    success_status = 200
    cacheable = True
    together = False

    def check(self, body: bytes, *, received_at: bytes, presented_key: bytes | None = None) -> Checked:
        return Checked([Group("any", b"key", [body], len(body))], 1, [], {})

    def check_each(self, bodies: list[bytes], *, received_at: bytes) -> Checked | None:
        return None


class AnyRouter:
    """Serves every path."""

    def resolve(self, path: str, query: Mapping[str, str], *, encharge_token: bool) -> AnyRoute:
        return AnyRoute()

    def datagrams(self) -> AnyRoute:
        return AnyRoute()


async def ours_in_memory(data: bytes) -> Fate:
    """Return what a connection of ours makes of these bytes."""
    _, listener, intake = memory_door(router=AnyRouter(), max_body=LIMITS.max_body)
    return Fate(statuses(await hear_out(listener, [data])), intake.events)


async def theirs_in_memory(data: bytes) -> Fate:
    """Return what a connection of aiohttp makes of these bytes."""
    bodies: list[bytes] = []
    server = web.Server(taking(bodies))
    connection, transport = server(), MemoryTransport()
    connection.connection_made(transport)
    connection.data_received(data)
    for _ in range(TURNS):
        await asyncio.sleep(0)
    answers = transport.written
    connection.connection_lost(None)
    await server.shutdown(0)
    return Fate(statuses(answers), bodies)


async def both_in_memory(data: bytes) -> tuple[Fate, Fate]:
    return await ours_in_memory(data), await theirs_in_memory(data)


def taking(bodies: list[bytes]) -> Callable[[web.BaseRequest], Awaitable[web.Response]]:
    """Return a handler for aiohttp that reads every body and says 200."""

    async def take(request: web.BaseRequest) -> web.Response:
        body = await request.read()
        if request.method == "POST":
            bodies.append(body)
        return web.Response()

    return take


def difference(ours: Fate, theirs: Fate) -> str | None:
    if ours.accepted is not theirs.accepted:
        return "milder" if ours.accepted else "stricter"
    same = len(ours.statuses) == len(theirs.statuses) and ours.bodies == theirs.bodies
    return "otherwise" if ours.accepted and not same else None


def listed(name: str) -> str | None:
    lists = {"stricter": {**STRICTER, **STRICTER_IN_CORPUS}, "milder": MILDER, "otherwise": OTHERWISE}
    return next((which for which, reasons in lists.items() if name in reasons), None)


class Peer(NamedTuple):
    """aiohttp's own server on a socket; `bodies` are those it took from all connections so far."""

    place: tuple[str, int]
    bodies: list[bytes]


@pytest.fixture
async def peer() -> AsyncIterator[Peer]:
    bodies: list[bytes] = []
    runner = web.ServerRunner(web.Server(taking(bodies)), access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    yield Peer(runner.addresses[0], bodies)
    await runner.cleanup()


async def ours_on_a_socket(door: Open, request: bytes) -> Fate:
    """Return what our listener answers to a client that then shuts down its sending side."""
    setup = await door()
    setup.door.configure(router=AnyRouter(), settings=LIMITS, durability=Durability.FSYNC)
    async with await setup.client() as client:
        await client.say(request)
        client.shut()
        return Fate(statuses(await client.rest()), setup.intake.events)


async def theirs_on_a_socket(peer: Peer, request: bytes, answers: int) -> Fate:
    """Return what aiohttp answers until it has done so `answers` times or closes.

    It closes on a half-closed client without an answer, so this waits; where it says less than we do, it waits in vain.
    """
    said = b""
    async with await RawClient.open(peer.place) as client:
        try:
            async with asyncio.timeout(PATIENCE_S):
                await client.say(request)
                while len(statuses(said)) < answers and (piece := await client.reader.read(65536)):
                    said += piece
        except (TimeoutError, ConnectionError):
            pass
    return Fate(statuses(said), peer.bodies)


@pytest.mark.parametrize("case", CASES, ids=named)
async def test_the_same_bytes_have_the_same_fate_at_aiohttp(door: Open, peer: Peer, case: Case) -> None:
    ours = await ours_on_a_socket(door, case.request)
    theirs = await theirs_on_a_socket(peer, case.request, len(ours.statuses))
    assert difference(ours, theirs) == listed(case.name), (ours, theirs)


@pytest.mark.parametrize("path", CORPUS, ids=[path.stem for path in CORPUS])
def test_the_corpus_of_the_fuzzers_has_the_same_fate_at_aiohttp(path: Path) -> None:
    name = {f"http-{slug(case.name)}": case.name for case in CASES}.get(path.stem, path.stem)
    ours, theirs = asyncio.run(both_in_memory(path.read_bytes()))
    assert difference(ours, theirs) == listed(name), (ours, theirs)


def slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


METHODS = (b"POST", b"GET", b"PUT", b"OPTIONS", b"post", b"M-SEARCH", b"")
TARGETS = (b"/", b"*", b"http://localhost/v2/", b"/v2/?a=b", b"/v2/%41", b"/v2/\xc3\xa9", b"v2", b"//a", b"/a b", b"")
VERSIONS = (b"HTTP/1.0", b"HTTP/1.2", b"HTTP/2.0", b"HTTP/0.9", b"http/1.1", b"HTTP/1.1 ", b"HTTP/11", b"")
HEADERS = (
    *(b"Host: localhost", b"Host:", b"Host: a, b", b"X-Host: c", b"Content-Length: 8", b"Content-Length: 7"),
    *(
        b"Content-Length: 8 ",
        b"Content-Length: 8,8",
        b"Content-Length:",
        b"Content-Length: 1_0",
        b"Content-length\t: 8",
    ),
    *(b"Content_Length: 8", b"X-Content-Length: 3", b"Transfer-Encoding: chunked", b"Transfer-Encoding: Chunked "),
    *(
        b"Transfer-Encoding : chunked",
        b"Transfer-Encoding: xchunked",
        b"Transfer_Encoding: chunked",
        b"Connection: close",
    ),
    *(b"Connection: keep-alive", b"Connection: Upgrade", b"Upgrade: h2c", b"Expect: 100-continue", b"Trailer: X"),
    *(b"Content-Encoding: gzip", b"Content-Encoding: identity", b"X: y", b"X:", b"X : y", b"X", b": y", b" X: y"),
    *(b"X: \0", b"X: \xff", b"X: a\tb", b"X\xff: y", b"X(: y", b"X: a\x7f", b"X: a\x0bb"),
)
FRAMED = (
    (b"Content-Length: 8", b'{"ok":1}'),
    (b"Content-Length: 08", b'{"ok":1}'),
    (b"Content-Length: 0", b""),
    (b"Transfer-Encoding: chunked", b'8\r\n{"ok":1}\r\n0\r\n\r\n'),
    (b"Transfer-Encoding:\tchunked", b'08;a=b;c="d"\r\n{"ok":1}\r\n00\r\nX: y\r\n\r\n'),
    (b"transfer-encoding:Chunked", b"1\r\n{\r\nA\r\n0123456789\r\n0\r\n\r\n"),
    (b"Transfer-Encoding: chunked", b"8 \r\n{}\r\n0\r\n\r\n"),
)
BYTES = (
    b"\r",
    b"\n",
    b"\r\n",
    b" ",
    b"\t",
    b"\0",
    b"\xff",
    b":",
    b",",
    b";",
    b"0",
    b"8",
    b"-",
    b"HTTP/1.1",
    b"\r\n\r\n",
    b"",
)


def request(first: Sequence[bytes], headers: list[bytes], framed: tuple[bytes, bytes], at: int) -> bytes:
    length, body = framed
    headers = [*headers[:at], length, *headers[at:]]
    return b" ".join(first) + b"\r\nHost: localhost\r\n" + b"".join(each + b"\r\n" for each in headers) + b"\r\n" + body


USUAL = (b"POST", b"/v2/", b"HTTP/1.1")
FIRST = st.one_of(
    st.just(USUAL),
    st.just(USUAL),
    st.tuples(st.sampled_from(METHODS), st.just(b"/v2/"), st.just(b"HTTP/1.1")),
    st.tuples(st.just(b"POST"), st.sampled_from(TARGETS), st.just(b"HTTP/1.1")),
    st.tuples(st.just(b"POST"), st.just(b"/v2/"), st.sampled_from(VERSIONS)),
)
REQUESTS = st.one_of(
    st.builds(
        request, FIRST, st.lists(st.sampled_from(HEADERS), max_size=3), st.sampled_from(FRAMED), st.integers(0, 3)
    ),
    st.sampled_from([case.request for case in SHORT if len(case.request) < 600]),
)
EDITS = st.lists(st.tuples(st.integers(0, 400), st.integers(0, 2), st.sampled_from(BYTES)), max_size=2)
STREAMS = st.builds(edit, st.lists(REQUESTS, min_size=1, max_size=3).map(b"".join), EDITS)


@settings(max_examples=600, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(STREAMS)
def test_requests_that_nobody_thought_of_have_the_same_fate_at_aiohttp(data: bytes) -> None:
    ours, theirs = asyncio.run(both_in_memory(data))
    which = difference(ours, theirs)
    assert which is None or any(re.search(rule, data) for _, rule in RULES[which]), (which, ours, theirs)


def test_every_listed_difference_is_a_case_of_the_table_or_a_file_of_the_corpus() -> None:
    assert {*STRICTER, *MILDER, *OTHERWISE} <= {case.name for case in CASES}
    assert set(STRICTER_IN_CORPUS) <= {path.stem for path in CORPUS}
