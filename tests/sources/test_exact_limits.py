"""Limits on what has no callback (heads, chunk headers, trailers) are exact to the byte, wherever the bytes are cut."""

import asyncio
import random
import zlib
from collections.abc import Iterator, Sequence
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forwarder.sources.chunks import MAX_OVERHEAD, MAX_QUIET
from forwarder.sources.head import MAX_HEAD
from forwarder.sources.reader import SLICE
from tests.sources.memory_door import converse
from tests.support.raw_http import bytewise, post

BODY = b'{"ok":1}'
START = b"POST /v2/ HTTP/1.1\r\nHost: localhost\r\n"
CHUNKED = START + b"Transfer-Encoding: chunked\r\n\r\n"
UPGRADE = b"Connection: Upgrade\r\nUpgrade: h2c\r\n"
STORED = b"\x00\x00\x00\xff\xff"
"""A block of deflate that holds nothing."""


def answers(pieces: Sequence[bytes], **limits: object) -> tuple[list[int], list[bytes]]:
    return asyncio.run(converse(pieces, **limits))


def cut(stream: bytes, edges: Sequence[int]) -> list[bytes]:
    places = sorted({0, len(stream), *(edge for edge in edges if edge < len(stream))})
    return [stream[a:b] for a, b in pairwise(places)]


def cuttings(stream: bytes) -> Iterator[list[bytes]]:
    """Yield it in one piece, in two at any place near its ends and the slices', byte by byte, and cut at random."""
    yield [stream]
    yield list(bytewise(stream))
    for middle in range(0, len(stream) + SLICE, SLICE):
        yield from (cut(stream, [max(1, middle + shift)]) for shift in range(-6, 7))
    chance = random.Random(len(stream))  # noqa: S311 - the same cuts each time
    for count in (1, 2, 3, 5, 8, 13, 40):
        yield cut(stream, [chance.randrange(1, len(stream)) for _ in range(count)])


def padded(size: int, filling: bytes, *, end: bytes = b"\r\n") -> bytes:
    """Return a head of exactly so many bytes, most of them `filling`."""
    fixed = START + b"X:" + b"y" + b"\r\nContent-Length: 8\r\n" + end
    space = size - len(fixed)
    return fixed.replace(b"X:", b"X:" + filling * (space // len(filling)) + b"y" * (space % len(filling)))


LIKE = b"\r\n0\r\n\r\nPOST /v2/ HTTP/1.1\r\n\r\n"
BEFORE = {
    "nothing": b"",
    "empty lines": b"\r\n\r\n\r\n",
    "a request": post(),
    "a request without a body": b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "a body that looks like the end of a head": post(b"\r\n\r\nPOST /v2/ HTTP/1.1\r\n\r\n"),
    "a body that ends in empty lines": post(b"1\r\n\r\n\r\n"),
    "a chunked body that looks like its end": CHUNKED + b"%x\r\n%s\r\n0\r\n\r\n\r\n" % (len(LIKE), LIKE),
    "a body of known length that ends like chunks": post(b"1\r\n0\r\n\r\n"),
    "a chunked body": CHUNKED + b"8\r\n" + BODY + b"\r\n0\r\n\r\n",
    "trailers": CHUNKED + b"8\r\n" + BODY + b"\r\n0\r\nX: y\r\n\r\n",
    "an ignored Upgrade": post(headers=UPGRADE),
    "an ignored Upgrade with chunks": CHUNKED.replace(b"Host", UPGRADE + b"Host") + b"8\r\n" + BODY + b"\r\n0\r\n\r\n",
}


@pytest.mark.parametrize("filling", [b"\t", b"y"], ids=["tabs", "a value"])
@pytest.mark.parametrize("before", BEFORE.values(), ids=BEFORE)
def test_a_head_is_measured_from_its_first_byte_to_its_last_wherever_it_is_cut(before: bytes, filling: bytes) -> None:
    first = answers([before]) if before else ([], [])
    for size, status in ((MAX_HEAD, 200), (MAX_HEAD + 1, 431)):
        stream = before + padded(size, filling) + BODY
        wanted = ([*first[0], status], [*first[1], BODY] if status == 200 else first[1])
        for pieces in cuttings(stream):
            assert answers(pieces) == wanted, (size, [*map(len, pieces)][:20])


def test_tabs_before_a_value_count_in_one_write_as_byte_by_byte() -> None:
    head = START + b"X:" + b"\t" * 40_000 + b"y\r\nContent-Length: 8\r\n\r\n"
    assert answers([head + BODY]) == answers([*bytewise(head + BODY)]) == ([431], [])


def test_headers_without_a_space_behind_the_colon_count_as_they_came() -> None:
    head = START + b"a:b\r\n" * 6_000 + b"Content-Length: 8\r\n\r\n"
    assert len(head) < MAX_HEAD
    assert answers([head + BODY]) == answers([*bytewise(head + BODY)]) == ([200], [BODY])


@pytest.mark.parametrize(("before", "after"), [
    (b"1;", b"\r\n{\r\n7\r\n" + BODY[1:] + b"\r\n0\r\n\r\n"),
    (b"4\r\n" + BODY[:4] + b"\r\n4;", b"\r\n" + BODY[4:] + b"\r\n0\r\n\r\n"),
    (b"8\r\n" + BODY + b"\r\n0;", b"\r\n\r\n"),
    (b"8\r\n" + BODY + b"\r\n0\r\nX: ", b"\r\nY: z\r\n\r\n"),
    (b"8\r\n" + BODY + b"\r\n0", b"\r\n\r\n"),
], ids=["an extension", "an extension behind a chunk", "the last extension", "a trailer", "zeros"])  # fmt: skip
def test_what_comes_in_a_row_without_a_body_is_measured_wherever_it_is_cut(before: bytes, after: bytes) -> None:
    body_end = before.rfind(BODY[-4:]) + 4 if b"\r\n" in before else 0
    if before.startswith(b"4\r\n"):
        body_end = 3 + 4
    tail = after.find(b"\r\n") + 2 if before.endswith(b";") and before[-2:-1] != b"0" else len(after)
    fixed = len(before) - body_end + tail
    filling = b"0" if before.endswith(b"\r\n0") else b"x"
    for size, status in ((MAX_QUIET, 200), (MAX_QUIET + 1, 400)):
        stream = CHUNKED + before + filling * (size - fixed) + after + post()
        wanted = ([200, 200], [BODY, BODY]) if status == 200 else ([400], [])
        for pieces in cuttings(stream):
            assert answers(pieces) == wanted, (size, [*map(len, pieces)][:20])


@pytest.mark.parametrize(("count", "status"), [(389, 200), (390, 400)])
def test_the_overhead_of_all_chunks_is_measured_at_each_byte(count: int, status: int) -> None:
    """So much body as follows would make up for it, but it comes too late, in whatever slice."""
    chunks = b"1;%s\r\n \r\n" % (b"x" * 93) * count
    stream = CHUNKED + chunks + b"1000\r\n" + BODY.rjust(0x1000) + b"\r\n0\r\n\r\n"
    assert ((count - 1) * 100 + 97 <= MAX_QUIET + MAX_OVERHEAD * (count - 1)) is (status == 200)
    for pieces in cuttings(stream):
        assert answers(pieces)[0] == [status], [*map(len, pieces)][:20]


FILLINGS = st.sampled_from([b"\t", b" ", b"y", b"y\r\nZ:"])
ANY = st.sampled_from([*BEFORE.values(), post(headers=b"X: y\r\n")])


@settings(max_examples=60, deadline=None)
@given(
    before=st.lists(ANY, max_size=5).map(b"".join),
    size=st.integers(MAX_HEAD - 2, MAX_HEAD + 2),
    filling=FILLINGS,
    cuts=st.lists(st.integers(0, 40_000), max_size=8),
)
def test_a_head_behind_any_requests_is_measured_wherever_it_is_cut(
    before: bytes, size: int, filling: bytes, cuts: Sequence[int]
) -> None:
    stream = before + padded(size, filling) + BODY
    statuses, events = answers([before] if before else [])
    good = size <= MAX_HEAD
    assert answers(cut(stream, cuts)) == ([*statuses, 200 if good else 431], [*events, BODY] if good else events)


@pytest.mark.parametrize(("coding", "empty"), [
    (b"deflate", STORED),
    (b"gzip", zlib.compressobj(wbits=31).flush()),
], ids=["empty blocks", "empty members"])  # fmt: skip
def test_compressed_bytes_that_hold_nothing_are_bounded_as_they_come(coding: bytes, empty: bytes) -> None:
    count = 1_000 // len(empty)
    packer = zlib.compressobj(wbits=31 if coding == b"gzip" else -15)
    whole = packer.compress(BODY) + packer.flush()
    head = CHUNKED.replace(b"Host", b"Content-Encoding: " + coding + b"\r\nHost")
    for much, status in ((count - 10, 200), (count + 1, 413)):
        data = empty * much + whole
        stream = head + b"%x\r\n%s\r\n0\r\n\r\n" % (len(data), data)
        for pieces in cuttings(stream):
            assert answers(pieces, max_body=1_000)[0] == [status]


def test_a_body_that_is_broken_before_it_is_too_large_is_broken_wherever_it_is_cut() -> None:
    data = zlib.compressobj(wbits=31).flush()[:10] + b"\xff" * 1_500
    stream = CHUNKED.replace(b"Host", b"Content-Encoding: gzip\r\nHost") + b"%x\r\n%s\r\n0\r\n\r\n" % (len(data), data)
    for pieces in cuttings(stream):
        assert answers(pieces, max_body=1_000) == ([400], [])


@pytest.mark.parametrize("size", [b"-8", b"+8", b"0x8", b"1_0", b"8 ", b" 8", b"-", b"_", b"-1000000"])
def test_a_chunk_size_that_only_python_would_take_is_refused(size: bytes) -> None:
    stream = CHUNKED + b"1\r\n{\r\n" + size + b"\r\n" + BODY + b"\r\n0\r\n\r\n"
    for pieces in ([stream], [stream[:100], stream[100:]], [*bytewise(stream)], cut(stream, [len(CHUNKED)])):
        assert answers(pieces) == ([400], [])


@pytest.mark.parametrize("zeros", [19, 20, 4_299, 4_300, 30_000])
def test_a_length_with_any_number_of_zeros_before_it_is_that_length(zeros: int) -> None:
    request = post().replace(b"Length: 8", b"Length: %s8" % (b"0" * zeros))
    for pieces in ([request + post()], [*bytewise(request + post())]):
        assert answers(pieces) == ([200, 200], [BODY, BODY])


HOSTILE = {
    "a length of zeros only": post(b"").replace(b"Length: 0", b"Length: " + b"0" * 5_000),
    "a length of nines": post().replace(b"Length: 8", b"Length: " + b"9" * 5_000),
    "a timeout of digits": post().replace(b"/v2/", b"/v2/?timeout=" + b"1" * 5_000),
    "a timeout of letters": post().replace(b"/v2/", b"/v2/?timeout=%FF%00&ack=%ff&strict=%ff"),
    "many fields": post().replace(b"/v2/", b"/v2/?" + b"a&" * 40),
    "bytes in the path": post().replace(b"/v2/", b"/\xff\xfe/"),
    "a surrogate in the path": post().replace(b"/v2/", b"/%ED%A0%80"),
    "a surrogate in the query": post().replace(b"/v2/", b"/v2/?destination=%ED%A0%80&ack=%ED%A0%80"),
    "a port of digits": post().replace(b"Host: localhost", b"Host: localhost:" + b"1" * 5_000),
    "a host of bytes": post().replace(b"Host: localhost", b"Host: \xff\xfe%\xb2:\xb2"),
    "an address of digits": post().replace(b"Host: localhost", b"Host: [" + b"1" * 5_000 + b"]"),
    "an address with a zone": post().replace(b"Host: localhost", b"Host: [::1%\xff]:1"),
    "an origin of bytes": post(headers=b"Origin: \xff://\xfe\r\nSec-Fetch-Site: \xb2\r\n"),
    "a token of bytes": post(headers=b"Authorization: \xff \xfe\r\nX-Forwarder-Token: \xff\r\n"),
    "a coding of bytes": post(headers=b"Content-Encoding: \xff\xfe\r\n"),
    "an expectation of bytes": post(headers=b"Expect: \xff\xfe\r\n"),
    "an ack of bytes": post(headers=b"Forwarder-Ack: \xff\xfe\r\n"),
    "an authority of bytes": post().replace(b"/v2/", b"http://[\xff/v2/"),
    "a chunk size of zeros": CHUNKED + b"0" * 5_000 + b"8\r\n" + BODY + b"\r\n" + b"0" * 5_000 + b"\r\n\r\n",
}


@pytest.mark.parametrize("request_", HOSTILE.values(), ids=HOSTILE)
def test_no_number_and_no_text_of_a_head_is_left_without_an_answer(request_: bytes) -> None:
    whole = answers([request_])
    assert whole == answers([*bytewise(request_)])
    assert len(whole[0]) == 1
    assert whole[0][0] < 500
