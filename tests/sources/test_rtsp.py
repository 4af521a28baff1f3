"""`RTSP/1.0` in a request line is refused there and nowhere else, however the bytes come."""

import asyncio
from collections.abc import Iterator, Sequence
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forwarder.sources.body import Refused
from forwarder.sources.reader import SLICE
from forwarder.sources.rtsp import LINES as MANY
from forwarder.sources.rtsp import Reading, Watch
from tests.sources.memory_door import converse
from tests.support.raw_http import bytewise, post

MIB = 1024 * 1024
BODY = b'{"ok":1}'
HOST = b"Host: localhost\r\n"
LENGTH = HOST + b"Content-Length: 8\r\n"
UPGRADE = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAEAAEAAAAIAAAAB\r\n"
CHUNKED = b"POST /v2/ HTTP/1.1\r\nTransfer-Encoding: chunked\r\n" + HOST


def harmless(data: bytes) -> bytes:
    """Return the same bytes with a name that means nothing to anybody."""
    return data.replace(b"RTSP/", b"ZYXW/")


def answers(pieces: Sequence[bytes]) -> tuple[list[int], list[bytes]]:
    return asyncio.run(converse(pieces, max_body=MIB))


def parted(stream: bytes, cuts: Sequence[int]) -> list[bytes]:
    """Cut it; no piece is larger than what is read at once."""
    edges = sorted({0, *(cut for cut in cuts if cut < len(stream)), *range(0, len(stream), 60_000), len(stream)})
    return [stream[a:b] for a, b in pairwise(edges)]


BEFORE = {
    "nothing": b"",
    "empty lines": b"\r\n\r\n\r\n",
    "a body of known length": post(),
    "a body that ends in the line's start": post(b"POST /v2/"),
    "no body": b"GET / HTTP/1.1\r\n" + HOST + b"\r\n",
    "a chunked body": CHUNKED + b"\r\n8\r\n" + BODY + b"\r\n0\r\n\r\n",
    "trailers": CHUNKED + b"\r\n8;a=b\r\n" + BODY + b"\r\n0\r\nX: y\r\n\r\n",
    "a chunked body and a bare CR": CHUNKED + b"\r\n8\r\n" + BODY + b"\r\n0\r\n\r\n\r",
    "a chunked body, then one of known length": CHUNKED
    + b"X: RTSP/1.0\r\n\r\n8\r\n"
    + BODY
    + b"\r\n0\r\n\r\n"
    + post(),
    "an Upgrade that is ignored": post(headers=UPGRADE),
    "an Upgrade with a chunked body": CHUNKED + UPGRADE + b"\r\n8\r\n" + BODY + b"\r\n0\r\n\r\n",
}


@pytest.mark.parametrize("before", BEFORE.values(), ids=BEFORE)
@pytest.mark.parametrize("line", [b"POST /v2/ RTSP/1.0", b"POST  /v2/  RTSP/1.1", b"OPTIONS * RTSP/1.0"])
def test_a_line_of_rtsp_is_refused_wherever_the_bytes_are_cut(before: bytes, line: bytes) -> None:
    stream = before + line + b"\r\n" + LENGTH + b"\r\n" + BODY
    statuses, events = answers([before]) if before else ([], [])
    start, end = len(before), len(before) + len(line) + 2
    wanted = ([*statuses, 400], events)
    assert answers([stream]) == answers(list(bytewise(stream))) == wanted
    for first in range(1, end + 20):
        assert answers(parted(stream, [first])) == wanted, first
    for first in range(start + 5, end):
        for second in range(first + 1, end):
            assert answers(parted(stream, [first, second])) == wanted, (first, second)


@pytest.mark.parametrize(("lines", "statuses"), [(MANY - 1, [400, 200]), (MANY, [400])])
def test_only_what_holds_many_request_lines_in_its_chunks_is_cut_off(lines: int, statuses: list[int]) -> None:
    body = b"x" * SLICE + b"\nA / HTTP/1.1\r" * lines + b" RTSP/1."
    sent = CHUNKED + b"\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
    assert answers([sent + post()]) == (statuses, [BODY] * (len(statuses) - 1))  # what follows has such a line too


def test_request_lines_are_counted_anew_for_each_request() -> None:
    one = CHUNKED + b'\r\n8;a=" RTSP/1."\r\n' + BODY + b"\r\n0\r\n\r\n"
    assert answers([one * (MANY + 6)]) == ([200] * (MANY + 6), [BODY] * (MANY + 6))


NAMES = st.sampled_from(
    [b"RTSP/1.0", b" RTSP/1.0", b"  RTSP/1.1", b"RTSP/1.", b" RTSP/", b" RT", b"/v2/ RTSP/1.0", b" "]
)
LINES = st.sampled_from([b"POST /v2/ RTSP/1.0", b"GET / RTSP/1.1", b"OPTIONS *  RTSP/1.0"])
TEXTS = st.one_of(NAMES, LINES)
RAW = st.one_of(TEXTS, st.sampled_from([b"\r\n", b"\n", b"\r\n\r\n", b"0\r\n\r\n", b"\r\n0\r\n\r\n", b"\r", b"8\r\n"]))
FILLING = st.sampled_from([0, 0, 0, 1, 500, SLICE - 200, SLICE - 40, 3 * SLICE])


@st.composite
def bodies(draw: st.DrawFn) -> bytes:
    """Draw an event that says RTSP, or bytes that look as if the request had ended and another one had begun."""
    texts = b"".join(draw(st.lists(TEXTS, max_size=3)))
    if draw(st.booleans()):
        return b'{"ok":"%s%s"}' % (b"x" * draw(FILLING), texts)
    return b"".join(draw(st.lists(RAW, min_size=1, max_size=8))) + texts


@st.composite
def chunks(draw: st.DrawFn, data: bytes) -> bytes:
    """Draw a way to send it in chunks, with extensions and trailers that say RTSP."""
    edges = sorted({0, len(data), *draw(st.sets(st.integers(0, len(data)), max_size=3))})
    sent = b""
    for a, b in pairwise(edges):
        extension = b';a="%s"' % draw(TEXTS) if draw(st.booleans()) else b""
        sent += b"%x%s\r\n%s\r\n" % (b - a, extension, data[a:b])
    trailer = b"X-T: %s\r\n" % draw(TEXTS) if draw(st.booleans()) else b""
    return sent + b"0\r\n" + trailer + b"\r\n"


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    """Draw a sound request of HTTP that says RTSP in all places where it may."""
    target = draw(st.sampled_from([b"/v2/", b"/v2/?RTSP/1.0", b"/RTSP/1.0", b"http://localhost/v2/?/RTSP/1.0"]))
    first = b"X:%s\r\n" % draw(TEXTS) if draw(st.booleans()) else b""
    headers = first + HOST + b"".join(b"Y: %s\r\n" % text for text in draw(st.lists(TEXTS, max_size=2)))
    headers += draw(st.sampled_from([b"", b"", UPGRADE]))
    before = draw(st.sampled_from([b"", b"", b"\r\n", b"\r\n\r\n"]))
    head = before + b"%s %s HTTP/1.1\r\n" % (draw(st.sampled_from([b"POST", b"POST", b"OPTIONS"])), target) + headers
    data = draw(bodies())
    if draw(st.booleans()):
        return head + b"Transfer-Encoding: chunked\r\n\r\n" + draw(chunks(data))
    return head + b"Content-Length: %d\r\n\r\n" % len(data) + data


CUTS = st.lists(st.integers(0, 3_000), max_size=12)


@settings(max_examples=150, deadline=None)
@given(stream=st.lists(requests(), max_size=4).map(b"".join), cuts=CUTS)
def test_what_says_rtsp_elsewhere_has_the_answers_of_what_does_not(stream: bytes, cuts: Sequence[int]) -> None:
    statuses, events = answers(parted(stream, cuts))
    expected, unchanged = answers(parted(harmless(stream), cuts))
    assert (statuses, [*map(harmless, events)]) == (expected, [*map(harmless, unchanged)])


@settings(max_examples=150, deadline=None)
@given(
    before=st.lists(requests(), max_size=3).map(b"".join),
    line=LINES,
    after=st.lists(requests(), max_size=1).map(b"".join),
    cuts=CUTS,
)
def test_a_line_of_rtsp_among_requests_is_refused_exactly_there(
    before: bytes, line: bytes, after: bytes, cuts: Sequence[int]
) -> None:
    statuses, events = answers(parted(before, cuts))
    real = before + line + b"\r\n" + LENGTH + b"\r\n" + BODY + after
    assert answers(parted(real, cuts)) == ([*statuses, 400], events)


def steps(part: Reading, data: bytes, *, in_target: bool = False) -> Iterator[int]:
    """Return where the bytes are cut while nothing else is found out about them."""
    watch, at = Watch(lambda: in_target), 0
    while at < len(data):
        before, at = at, watch.stop(part, data, at, min(at + SLICE, len(data)))
        assert at > before
        yield at


@pytest.mark.parametrize(("part", "text"), [
    (Reading.CHUNKS, b" RTSP/1."),
    (Reading.CHUNKS, b"POST /v2/ RTSP/1.0\r"),
    (Reading.CHUNKS, b"\r\nX: RTSP/1.0\r"),
    (Reading.CHUNKS, b" "),
    (Reading.LINE, b" "),
    (Reading.HEADERS, b"X: RTSP/1.0\r\n"),
])  # fmt: skip
def test_hostile_bytes_are_not_cut_often(part: Reading, text: bytes) -> None:
    data = text * (MIB // len(text))
    assert len([*steps(part, data)]) <= 2 * MIB // SLICE + 2


def test_bytes_without_the_name_are_cut_at_the_slices_only() -> None:
    data = post(b"x" * MIB)
    for part in Reading:
        assert [*steps(part, data)] == [*range(SLICE, len(data), SLICE), len(data)]


def test_what_follows_a_target_is_refused_before_it_is_fed() -> None:
    with pytest.raises(Refused) as refused:
        [*steps(Reading.LINE, b" RTSP/1.0\r\n", in_target=True)]
    assert (refused.value.denial.status, refused.value.denial.close) == (400, True)
