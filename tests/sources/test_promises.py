"""P1 and P10 at the door, with the vendors' real checks behind it: what is answered, and what is handed on."""

import gzip
import zlib
from collections.abc import Callable, Sequence

import pytest

from forwarder.core.seams import Durability
from forwarder.vendors.base import BadRequest
from forwarder.vendors.samples import Sample, samples
from tests.sources.harness import Open, Setup
from tests.support.bodies import data
from tests.support.fuzz_targets import ROUTER
from tests.support.raw_http import bytewise, post

NOW = b"2026-05-28T20:26:40.000Z"
"""What the clock of these tests says."""
SIGNAL = b'{"appID":"A","clientUser":"u","type":"t"%s}'
STAMPED = b'{"receivedAt":"%s","appID":"A","clientUser":"u","type":"t"%%s}' % NOW
PERSON = b'{"user":{"email":"a@b.example"}%s}'

Wire = Callable[[str, bytes], Sequence[bytes]]


def request(path: str, body: bytes, headers: bytes = b"") -> bytes:
    return post(body, headers).replace(b" /v2/ ", b" %s " % path.encode())


def chunks(path: str, body: bytes) -> bytes:
    sizes = (b"%x\r\n%s\r\n" % (len(body[at : at + 7]), body[at : at + 7]) for at in range(0, len(body), 7))
    head = b"POST %s HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n" % path.encode()
    return head + b"".join(sizes) + b"0\r\n\r\n"


WIRES: dict[str, Wire] = {
    "whole": lambda path, body: [request(path, body)],
    "in two halves": lambda path, body: [
        request(path, body)[: -len(body) // 2],
        request(path, body)[-len(body) // 2 :],
    ],
    "byte by byte": lambda path, body: list(bytewise(request(path, body))),
    "in chunks": lambda path, body: [chunks(path, body)],
    "gzip": lambda path, body: [request(path, gzip.compress(body), b"Content-Encoding: gzip\r\n")],
    "deflate": lambda path, body: [request(path, zlib.compress(body), b"Content-Encoding: deflate\r\n")],
}


async def real(door: Open, **settings: object) -> Setup:
    """Open a door with both vendors behind it."""
    setup = await door(**settings)
    setup.door.configure(router=ROUTER, settings=setup.door.rules.settings, durability=Durability.FSYNC)
    return setup


def stored(path: str, body: bytes) -> list[bytes]:
    """Return what the vendor's check makes of a body."""
    route = ROUTER.resolve(path, {}, encharge_token=False)
    assert not isinstance(route, BadRequest)
    checked = route.check(body, received_at=NOW)
    assert not isinstance(checked, BadRequest)
    return [event for group in checked.groups for event in group.events]


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize("sample", samples(), ids=lambda sample: sample.name)
async def test_p10_the_bytes_of_every_sdk_are_handed_on_untouched_but_for_the_stamp(
    door: Open, sample: Sample, wire: str
) -> None:
    setup = await real(door)
    async with await setup.client() as client:
        await client.say(*WIRES[wire](sample.path, sample.body))
        assert (await client.hear()).status == 200
    assert setup.intake.events == stored(sample.path, sample.body)
    assert all(
        event in sample.body or event.replace(b'"receivedAt":"%s",' % NOW, b"", 1) in sample.body
        for event in setup.intake.events
    )


UNTOUCHED = {
    "an escaped slash": rb',"x":"\/"',
    "escapes that need not be": rb',"\u0078":"\u0079"',
    "a lone surrogate": rb',"x":"\ud800"',
    "two that belong together": rb',"x":"\ud83d\ude00"',
    "not ASCII": ',"é":"😀"'.encode(),
    "a NUL as an escape": rb',"x":"\u0000"',
    "duplicates": b',"x":1,"x":2',
    "spaces": b' ,\t"x"\r\n:  1 ',
    "1e400": b',"x":1e400',
    "-0": b',"x":[-0,-0.0,0E0]',
    "a thousand digits": b',"x":' + b"9" * 1_000,
    "a number of a megabyte": b',"x":' + b"9" * 1_000_000,
    "a string of a megabyte": b',"x":"' + b"y" * 1_000_000 + b'"',
    "NaN in a string": b',"x":"NaN, \\"Infinity"',
    "500 levels": b',"x":' + b"[" * 500 + b"]" * 500,
    "the largest integer and the next": b',"x":[9223372036854775807,9223372036854775808,18446744073709551616]',
    "a fraction with many digits": b',"x":0.1000000000000000055511151231257827021181583404541015625',
}  # fmt: skip


@pytest.mark.parametrize("extra", UNTOUCHED.values(), ids=list(UNTOUCHED))
async def test_p10_whatever_rfc_8259_allows_is_handed_on_byte_for_byte(door: Open, extra: bytes) -> None:
    setup = await real(door, max_event=4 * 1024 * 1024)
    async with await setup.client() as client:
        for path, event in (("/v2/", SIGNAL % extra), ("/v1", PERSON % extra), ("/events", SIGNAL % extra)):
            assert (await client.ask(request(path, event))).status in (200, 202)
    assert setup.intake.events == [STAMPED % extra, PERSON % extra, STAMPED % extra]


REPAIRED = [
    (b',"x":NaN', b',"x":null'),
    (b',"x":[Infinity,-Infinity , NaN]', b',"x":[null,null , null]'),
    (b',"x":"NaN","y":NaN,"z":1e400', b',"x":"NaN","y":null,"z":1e400'),
]


@pytest.mark.parametrize(("sent", "kept"), REPAIRED)
async def test_p10_of_nan_only_itself_is_changed(door: Open, sent: bytes, kept: bytes) -> None:
    setup = await real(door)
    async with await setup.client() as client:
        assert (await client.ask(request("/v2/", SIGNAL % sent))).status == 200
    assert setup.intake.events == [STAMPED % kept]


async def test_p10_an_event_that_has_its_stamp_keeps_it_though_it_is_repaired(door: Open) -> None:
    setup = await real(door)
    own = SIGNAL % b',"receivedAt":"2020-01-01T00:00:00Z","x":NaN'
    async with await setup.client() as client:
        assert (await client.ask(request("/v2/", own))).status == 200
    assert setup.intake.events == [own.replace(b"NaN", b"null")]


async def test_p10_what_swift_and_kotlin_write_of_numbers_that_are_none_is_repaired(door: Open) -> None:
    setup = await real(door)
    body = data("kotlin-not-finite.json")
    async with await setup.client() as client:
        assert (await client.ask(request("/v2/", body))).status == 200
    assert b"NaN" in body
    assert setup.intake.events == stored("/v2/", body)


REFUSED: dict[str, tuple[bytes, str]] = {
    "not UTF-8": (SIGNAL % b',"x":"\xff"', "invalid byte at"),
    "not UTF-8 in a name that nobody reads": (SIGNAL % b',"\xff":1', "invalid byte at"),
    "an overlong form": (SIGNAL % b',"x":"\xc0\xaf"', "invalid byte at"),
    "a surrogate as UTF-8": (SIGNAL % b',"x":"\xed\xa0\x80"', "invalid byte at"),
    "UTF-16": ((SIGNAL % b"").decode().encode("utf-16"), "invalid byte at"),
    "a control character": (SIGNAL % b',"x":"\x01"', "at byte"),
    "a bad escape": (SIGNAL % rb',"x":"\x"', "at byte"),
    "a leading zero": (SIGNAL % b',"x":01', "at byte"),
    "a plus": (SIGNAL % b',"x":+1', "at byte"),
    "a bare word": (SIGNAL % b',"x":undefined', "at byte"),
    "single quotes": (b"{'appID':'A'}", "at byte"),
    "a comment": (SIGNAL % b" /* x */", "at byte"),
    "a trailing comma": (SIGNAL % b",", "at byte"),
    "two objects": (SIGNAL % b"" + SIGNAL % b"", "at byte"),
    "an end that is missing": ((SIGNAL % b"")[:-1], "at byte"),
    "600 levels": (SIGNAL % (b',"x":' + b"[" * 600 + b"]" * 600), "512 levels"),
    "10,000 levels": (SIGNAL % (b',"x":' + b"[" * 10_000 + b"]" * 10_000), "levels"),
    "100,000 levels": (b"[" * 100_000, "levels"),
    "nothing": (b"", "empty"),
    "spaces": (b" \r\n", "empty"),
    "a bare value": (b"17", "bare value"),
    "a bare string": (b'"x"', "bare value"),
}


@pytest.mark.parametrize(("body", "word"), REFUSED.values(), ids=list(REFUSED))
@pytest.mark.parametrize("path", ["/v2/", "/v1/", "/events"])
async def test_p4_p10_what_is_no_json_is_a_400_that_says_where_and_the_connection_lives(
    door: Open, body: bytes, word: str, path: str
) -> None:
    setup = await real(door)
    async with await setup.client() as client:
        answer = await client.ask(request(path, body))
        assert answer.status == 400
        assert word in answer.body.decode()
        assert setup.intake.events == []
        assert (await client.ask(request("/v2/", SIGNAL % b""))).status == 200


async def test_p4_one_event_that_is_no_utf8_does_not_reach_a_batch(door: Open) -> None:
    setup = await real(door)
    async with await setup.client() as client:
        answer = await client.ask(request("/v2/", b"[%s,%s]" % (SIGNAL % b"", SIGNAL % b',"x":"\xff"')))
    assert answer.status == 400
    assert setup.intake.events == []


async def test_a_byte_order_mark_before_the_body_is_dropped_and_one_in_an_event_kept(door: Open) -> None:
    setup = await real(door)
    mark = "\ufeff".encode()
    async with await setup.client() as client:
        assert (await client.ask(request("/v2/", mark + SIGNAL % (b',"x":"%s"' % mark)))).status == 200
    assert setup.intake.events == [STAMPED % (b',"x":"%s"' % mark)]


@pytest.mark.parametrize("level", [Durability.WRITTEN, Durability.FSYNC])
async def test_p1_no_2xx_goes_out_before_the_commit_and_none_after_a_failed_one(door: Open, level: Durability) -> None:
    setup = await door(prompt=False, durability=level)
    async with await setup.client() as client:
        await client.say(post())
        await setup.submitted(1)
        await client.say(post(b"[" + b",".join([b'{"ok":1}'] * 3) + b"]"))
        await setup.submitted(4)
        for _ in range(50):
            await client.say(b"")
        assert not client.reader._buffer  # type: ignore[attr-defined]
        setup.intake.commit(1)
        assert (await client.hear()).status == 200
        setup.intake.fail()
        assert (await client.hear()).status == 503
    assert setup.intake.levels == [level, level]
