"""Who gets in: a table of both sides."""

from collections.abc import Sequence

import pytest

from forwarder.core.seams import Durability
from forwarder.sources import head
from forwarder.sources.gate import Gate
from tests.sources.harness import Open
from tests.support.raw_http import RawClient, bytewise, post

TOKEN = "secret"  # noqa: S105 - a test's
LISTED = ["https://app.example", "null", "capacitor://localhost", "tauri://localhost", "http://localhost:3000"]

WELCOME: Sequence[tuple[str, str, dict[str, str]]] = [
    ("curl", "127.0.0.1:8765", {}),
    ("an SDK on IPv6", "[::1]:8765", {}),
    ("a mapped loopback address", "[::ffff:127.0.0.1]", {}),
    ("another loopback address", "127.8.8.8", {}),
    ("localhost in capitals", "LOCALHOST:1", {}),
    ("localhost with a final dot", "localhost.", {}),
    ("a subdomain of localhost", "app.localhost:8765", {}),
    ("a listed host", "forwarder.internal:8765", {}),
    ("a listed host with its port", "emulator:8765", {}),
    ("Node's fetch", "localhost:8765", {"Sec-Fetch-Mode": "cors"}),
    ("the address bar", "localhost:8765", {"Sec-Fetch-Site": "none", "Sec-Fetch-Mode": "navigate"}),
    ("the same origin", "localhost:8765", {"Origin": "http://localhost:8765", "Sec-Fetch-Site": "same-origin"}),
    ("a listed page", "localhost:8765", {"Origin": "https://app.example", "Sec-Fetch-Site": "cross-site"}),
    ("a listed page in capitals", "localhost:8765", {"Origin": "HTTPS://App.Example"}),
    ("a listed other port", "localhost:8765", {"Origin": "http://localhost:3000", "Sec-Fetch-Site": "same-site"}),
    ("a sandboxed frame", "localhost:8765", {"Origin": "null", "Sec-Fetch-Site": "cross-site"}),
    ("Capacitor", "localhost:8765", {"Origin": "capacitor://localhost"}),
    ("Tauri", "localhost:8765", {"Origin": "tauri://localhost"}),
    ("Android's emulator, listed", "10.0.2.2:8765", {}),
]  # fmt: skip

STRANGERS: Sequence[tuple[str, str, dict[str, str], str]] = [
    ("DNS rebinding", "evil.example:8765", {}, "allowed_hosts"),
    ("rebinding with its own origin", "evil.example", {"Origin": "http://evil.example"}, "allowed_hosts"),
    ("a name that ends alike", "notlocalhost", {}, "allowed_hosts"),
    ("a name that begins alike", "localhost.evil.example", {}, "allowed_hosts"),
    ("an address that begins alike", "127.0.0.1.evil.example", {}, "allowed_hosts"),
    ("the wildcard address", "0.0.0.0:8765", {}, "allowed_hosts"),
    ("the wildcard address of IPv6", "[::]:8765", {}, "allowed_hosts"),
    ("another address", "192.168.1.2:8765", {}, "allowed_hosts"),
    ("another address, mapped", "[::ffff:8.8.8.8]", {}, "allowed_hosts"),
    ("loopback in short", "127.1", {}, "allowed_hosts"),
    ("loopback as one number", "2130706433", {}, "allowed_hosts"),
    ("loopback in octal", "0177.0.0.1", {}, "allowed_hosts"),
    ("a bracket that is not closed", "[::1", {}, "allowed_hosts"),
    ("an odd port of IPv6", "[::1]:80a", {}, "allowed_hosts"),
    ("something behind the bracket", "[::1]evil", {}, "allowed_hosts"),
    ("two names", "localhost, evil.example", {}, "allowed_hosts"),
    ("an odd port", "localhost:80a", {}, "allowed_hosts"),
    ("no name", "", {}, "allowed_hosts"),
    ("a listed host on another port", "emulator:1", {}, "allowed_hosts"),
    ("a foreign page", "localhost:8765", {"Origin": "https://evil.example"}, "allowed_origins"),
    ("a page of another scheme", "localhost:8765", {"Origin": "http://app.example"}, "allowed_origins"),
    ("a page of another port", "localhost:8765", {"Origin": "http://localhost:3001"}, "allowed_origins"),
    ("a listed page with a suffix", "localhost:8765", {"Origin": "https://app.example.evil"}, "allowed_origins"),
    ("a form without an origin", "localhost:8765", {"Sec-Fetch-Site": "cross-site"}, "allowed_origins"),
    ("a form without an origin, in capitals", "localhost:8765", {"Sec-Fetch-Site": "Cross-Site"}, "allowed_origins"),
    ("a sandboxed frame that is not listed", "localhost:8765", {"Origin": "file://"}, "allowed_origins"),
    ("an origin that begins alike", "localhost:8765", {"Origin": "http://localhost:8765.evil"}, "allowed_origins"),
    ("two origins", "localhost:8765", {"Origin": "https://app.example https://evil.example"}, "allowed_origins"),
    ("an empty origin", "localhost:8765", {"Origin": ""}, "allowed_origins"),
    ("a page of the same site", "localhost:8765", {"Sec-Fetch-Site": "same-site"}, "allowed_origins"),
    ("an extension", "localhost:8765", {"Origin": "chrome-extension://abc"}, "allowed_origins"),
]


def lines(headers: dict[str, str]) -> bytes:
    return "".join(f"{name}: {value}\r\n" for name, value in headers.items()).encode()


def request(host: str, headers: dict[str, str]) -> bytes:
    return post(headers=lines(headers)).replace(b"Host: localhost\r\n", f"Host: {host}\r\n".encode())


LISTS = {"allowed_origins": LISTED, "allowed_hosts": ["forwarder.internal", "emulator:8765", "10.0.2.2"]}


@pytest.mark.parametrize(("who", "host", "headers"), WELCOME, ids=[row[0] for row in WELCOME])
async def test_p11_a_welcome_caller_gets_in(door: Open, who: str, host: str, headers: dict[str, str]) -> None:
    setup = await door(**LISTS)
    async with await setup.client() as client:
        assert (await client.ask(request(host, headers))).status == 200, who


@pytest.mark.parametrize(("who", "host", "headers", "key"), STRANGERS, ids=[row[0] for row in STRANGERS])
async def test_p11_a_stranger_is_told_which_key_would_let_it_in(
    door: Open, who: str, host: str, headers: dict[str, str], key: str
) -> None:
    setup = await door(**LISTS)
    async with await setup.client() as client:
        answer = await client.ask(request(host, headers))
    assert answer.status == 403, who
    assert f"listen.{key}" in str(answer.json["error"])
    assert "access-control-allow-origin" not in answer.headers
    assert setup.intake.events == []


async def test_a_listed_page_gets_nothing_without_the_lists(door: Open) -> None:
    setup = await door()
    for _, host, headers in WELCOME[-7:]:
        async with await setup.client() as client:
            assert (await client.ask(request(host, headers))).status == 403


async def test_the_host_of_an_absolute_target_is_checked_as_well(door: Open) -> None:
    setup = await door()
    async with await setup.client() as client:
        assert (await client.ask(post().replace(b" /v2/", b" http://evil.example/v2/"))).status == 403


async def test_a_unix_socket_takes_any_host_but_no_foreign_page(door: Open) -> None:
    setup = await door(unix=True, token=TOKEN)  # the token is for TCP
    async with await setup.client() as client:
        assert (await client.ask(request("service.example", {}))).status == 200
        assert (await client.ask(request("service.example", {"Origin": "https://service.example"}))).status == 200
        assert (await client.ask(request("service.example", {"Origin": "https://evil.example"}))).status == 403


async def test_a_listener_beyond_loopback_takes_any_host_but_no_foreign_page_and_asks_for_the_token(door: Open) -> None:
    setup = await door(host="0.0.0.0", token=TOKEN)  # noqa: S104 - that is the point
    token = b"X-Forwarder-Token: %s\r\n" % TOKEN.encode()
    async with await setup.client() as client:
        known = request("forwarder.default.svc:8765", {})
        assert (await client.ask(known)).status == 401
        assert (await client.ask(known.replace(b"\r\n\r\n", b"\r\n" + token + b"\r\n", 1))).status == 200
        foreign = request("forwarder.default.svc", {"Origin": "https://evil.example"})
        assert (await client.ask(foreign.replace(b"\r\n\r\n", b"\r\n" + token + b"\r\n", 1))).status == 403


def test_the_host_is_not_looked_at_where_it_need_not_be() -> None:
    gate = Gate(check_host=False, check_token=False, hosts=(), origins=())
    request = head.read("POST", b"/", "1.1", [(b"Host", b"forwarder.default.svc")])
    assert isinstance(request, head.Head)
    assert gate.check(request, None).denial is None


async def test_errors_carry_cors_headers_for_a_listed_page(door: Open) -> None:
    setup = await door(**LISTS)
    async with await setup.client() as client:
        for path in (b"/v2/", b"/nope"):
            answer = await client.ask(post(b"nonsense", lines({"Origin": LISTED[0]})).replace(b"/v2/", path))
            assert answer.status in (400, 404)
            assert answer.headers["access-control-allow-origin"] == LISTED[0]
            assert answer.headers["vary"] == "Origin"
        bad = post(headers=lines({"Origin": LISTED[0]}) + b"Content-Encoding: gzip\r\n")
        answer = await client.ask(bad)
        assert (answer.status, answer.headers["access-control-allow-origin"]) == (400, LISTED[0])


async def test_a_preflight_is_answered_for_a_listed_page_only(door: Open) -> None:
    setup = await door(token=TOKEN, **LISTS)
    private = b"Access-Control-Request-Private-Network: true\r\n"
    ask = b"OPTIONS /v2/ HTTP/1.1\r\nHost: localhost\r\nOrigin: %s\r\n" + private + b"\r\n"
    async with await setup.client() as client:
        answer = await client.ask(ask % LISTED[0].encode())
        assert answer.status == 204
        assert answer.headers["access-control-allow-methods"] == "POST"
        assert answer.headers["access-control-allow-private-network"] == "true"
        assert "content-length" not in answer.headers
        assert (await client.ask(ask % b"https://evil.example")).status == 403


@pytest.mark.parametrize(
    "header", [b"Authorization: Bearer secret", b"authorization: bearer  secret", b"X-Forwarder-Token: secret"]
)
async def test_the_token_lets_in(door: Open, header: bytes) -> None:
    setup = await door(token=TOKEN, durability=Durability.FSYNC)
    async with await setup.client() as client:
        assert (await client.ask(post(headers=header + b"\r\n"))).status == 200


@pytest.mark.parametrize(
    "header",
    [
        b"X: y",
        b"Authorization: Bearer wrong",
        b"Authorization: Basic secret",
        b"X-Forwarder-Token: ",
        b"Authorization: secret",
    ],
)
@pytest.mark.parametrize("token", [TOKEN, ""])
async def test_p11_nobody_gets_in_without_the_token(door: Open, header: bytes, token: str) -> None:
    setup = await door(token=token)
    async with await setup.client() as client:
        answer = await client.ask(post(headers=header + b"\r\n"))
    assert answer.status == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert "listen.auth_token" in str(answer.json["error"])


async def test_a_changed_token_counts_within_a_sweep(door: Open) -> None:
    tokens = ["old"]
    setup = await door(token=lambda: tokens[0])
    old, new = post(headers=b"X-Forwarder-Token: old\r\n"), post(headers=b"X-Forwarder-Token: new\r\n")
    client: RawClient
    async with await setup.client() as client:
        assert [(await client.ask(each)).status for each in (old, old, new)] == [200, 200, 401]
        tokens[0] = "new"
        setup.door.sweep()
        assert [(await client.ask(each)).status for each in (old, new)] == [401, 200]


PAGE = b"Origin: https://app.example\r\n"
HEAD = b"POST /v2/ HTTP/1.1\r\nHost: localhost\r\n"

UNSOUND: Sequence[tuple[str, bytes, int, bool]] = [
    ("no Host", b"POST /v2/ HTTP/1.1\r\n" + PAGE + b"\r\n", 400, True),
    ("two Hosts", HEAD + PAGE + b"Host: localhost\r\n\r\n", 400, True),
    ("a bad target", HEAD.replace(b"/v2/", b"/#") + PAGE + b"\r\n", 400, True),
    ("another transfer coding", HEAD + PAGE + b"Transfer-Encoding: gzip\r\n\r\n", 400, True),
    ("an expectation", HEAD + PAGE + b"Content-Length: 1\r\nExpect: miracles\r\n\r\n", 417, True),
    ("CONNECT", b"CONNECT localhost:80 HTTP/1.1\r\nHost: localhost\r\n" + PAGE + b"\r\n", 405, True),
    ("HTTP/2.0", HEAD.replace(b"1.1", b"2.0") + PAGE + b"\r\n", 505, True),
    ("a head that is too long behind its origin", HEAD + PAGE + b"X: " + b"x" * 33_000, 431, True),
    ("a head that is too long before its origin", HEAD + b"X: " + b"x" * 33_000 + b"\r\n" + PAGE + b"\r\n", 431, False),
    ("two origins", HEAD + PAGE * 2 + b"\r\n", 400, False),
    ("two origins in a head that is too long", HEAD + PAGE * 2 + b"X: " + b"x" * 33_000, 431, False),
    ("a foreign origin", HEAD + b"Origin: https://evil.example\r\nHost: localhost\r\n\r\n", 400, False),
    ("a header that is none", HEAD + PAGE + b"X y: z\r\n\r\n", 400, False),
    ("a length that is none", HEAD + PAGE + b"Content-Length: x\r\n\r\n", 400, False),
    ("a chunk that is none", HEAD + PAGE + b"Transfer-Encoding: chunked\r\n\r\nx\r\n", 400, True),
]


@pytest.mark.parametrize("row", UNSOUND, ids=[row[0] for row in UNSOUND])
async def test_a_listed_page_may_read_what_is_wrong_with_its_head(
    door: Open, row: tuple[str, bytes, int, bool]
) -> None:
    _, sent, status, told = row
    setup = await door(**LISTS)
    for pieces in ([sent], bytewise(sent)):
        async with await setup.client() as client:
            answer = await client.ask(*pieces)
        assert answer.status == status
        assert answer.headers.get("access-control-allow-origin") == (LISTED[0] if told else None)
        assert answer.headers.get("vary") == ("Origin" if told else None)


async def test_a_listed_page_may_read_that_its_head_took_too_long_or_ended_early(door: Open) -> None:
    setup = await door(**LISTS)
    async with await setup.client() as slow, await setup.client() as short:
        await slow.say(HEAD + PAGE + b"X: y")
        await setup.until(lambda: len(setup.listener.crowd) == 2)
        await setup.until(lambda: any(each._reader.headers for each in setup.listener.crowd))
        setup.clock.advance(10)
        setup.door.sweep()
        await short.say(HEAD + PAGE + b"X: y")
        short.shut()
        for client, status in ((slow, 408), (short, 400)):
            answer = await client.hear()
            assert (answer.status, answer.headers.get("access-control-allow-origin")) == (status, LISTED[0])
