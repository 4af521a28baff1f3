"""A vendor on a raw socket: it answers with whatever bytes it is told, and remembers which request got them."""

import asyncio
import contextlib
import re
import socket
import struct
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Literal

import msgspec
from hypothesis import strategies as st

End = Literal["keep", "close", "reset"]
GOOD = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
_LENGTH = re.compile(rb"(?i)\r\ncontent-length: (\d+)")


class Bytes(msgspec.Struct, frozen=True):
    """What is written for one request, and what becomes of the connection then."""

    text: bytes
    end: End = "keep"
    late: bytes = b""
    """Written after the answer, when the client has probably read it and waits for nothing."""


class RawVendor:
    """Asks `answers` for every request that arrived whole; `log` holds (body, bytes written) in order."""

    def __init__(self, answers: Callable[[bytes], Bytes]) -> None:
        self.url = ""
        self.log: list[tuple[bytes, bytes]] = []
        self._answers = answers

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, EOFError):
            while await self._exchange(reader, writer):
                pass
        writer.close()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = await reader.readuntil(b"\r\n\r\n")
        length = _LENGTH.search(head)
        body = await reader.readexactly(int(length[1]) if length else 0)
        answer = self._answers(body)
        self.log.append((body, answer.text))
        writer.write(answer.text)
        await writer.drain()
        if answer.late:
            await asyncio.sleep(0.001)  # a moment, so that it comes in a packet of its own
            writer.write(answer.late)
        if answer.end == "reset":
            connection = writer.get_extra_info("socket")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        return answer.end == "keep"

    def told(self, event: bytes) -> list[bytes]:
        """Return what was written for the requests that held an event."""
        return [text for body, text in self.log if event in body]


@asynccontextmanager
async def raw_vendor(answers: Callable[[bytes], Bytes]) -> AsyncIterator[RawVendor]:
    vendor = RawVendor(answers)
    tasks: set[asyncio.Task[None]] = set()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await vendor.serve(reader, writer)
        except asyncio.CancelledError:
            writer.transport.abort()  # the end of the test
        finally:
            tasks.discard(task)

    server = await asyncio.start_server(accept, "127.0.0.1", 0, limit=1 << 20)
    vendor.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield vendor
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def scripted(script: list[Bytes]) -> Callable[[bytes], Bytes]:
    """Answer from a script, and then with 200 for ever."""
    left: Iterator[Bytes] = iter(script)
    return lambda _body: next(left, Bytes(GOOD))


# --- every kind of answer there may be

_STATUS = st.one_of(
    st.sampled_from([b"%d" % status for status in (200, 204, 207, 400, 401, 403, 404, 408, 413, 422, 425, 429)]),
    st.sampled_from([b"%d" % status for status in (100, 101, 103, 301, 302, 304, 307, 308, 402, 407, 500, 502, 503)]),
    st.integers(0, 9999).map(lambda number: b"%d" % number),
    st.sampled_from([b"20O", b"", b"-200", b"2 00", b"\xd9\xa2\xd9\xa0\xd9\xa0"]),
)
_VERSION = st.sampled_from([b"HTTP/1.1"] * 8 + [b"HTTP/1.0", b"HTTP/2.0", b"HTTP/0.9", b"http/1.1", b"ICY", b""])
_REASON = st.one_of(st.sampled_from([b"OK", b"", b"\xff\xfe", b"x" * 20_000]), st.binary(max_size=12))
_AFTER = st.one_of(
    st.integers(-5, 10**12).map(lambda number: b"%d" % number),
    st.sampled_from([b"", b"0", b"1e3", b"0x10", b"NaN", b"9" * 5000, b"1.5", b"Thu, 28 May 2026 20:28:40 GMT"]),
    st.sampled_from([b"Thu, 99 May 9999 99:99:99 GMT", b"Mon, 01 Jan 0001 00:00:00 +9999", b"\xb2", b"-1"]),
    st.binary(max_size=20),
)
_LOCATION = st.one_of(
    st.sampled_from(
        [b"/", b"", b"x/y", b"//", b"///", b"//other.invalid/", b"?", b"#", b"/" + b"a" * 9000, b"http://"]
    ),
    st.sampled_from([b"http://[", b"http://[::1", b"javascript:alert(1)", b"http://other.invalid/", b"http://\xff/"]),
    st.sampled_from([b"https://127.0.0.1/", b"http://127.0.0.1:99999/", b"http://127.0.0.1:-1/", b"http://a b/", b"%"]),
    st.binary(max_size=20),
)
_FRAMING = st.sampled_from(
    [b"Content-Length: %(n)d"] * 6
    + [b"Content-Length: %(more)d", b"Content-Length: %(less)d", b"Content-Length: -1", b"Content-Length: 1e2"]
    + [b"Content-Length: 99999999999999999999999", b"Content-Length: %(n)d\r\nContent-Length: 1", b"Content-Length:"]
    + [b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked\r\nContent-Length: %(n)d", b"Transfer-Encoding: x"]
    + [b"Connection: close", b"Connection: upgrade\r\nUpgrade: h2c", b"X: y"]
)
_MORE = st.one_of(
    st.builds(lambda value: b"Retry-After: " + value, _AFTER),
    st.builds(lambda value: b"Location: " + value, _LOCATION),
    st.builds(lambda value: b"Date: " + value, _AFTER),
    st.sampled_from([b"Content-Encoding: gzip", b"Content-Encoding: br, gzip", b"Set-Cookie: a=b; Domain=.com"]),
    st.sampled_from([b" folded", b"No colon", b": no name", b"N\x00ul: \x00", b"X: " + b"y" * 40_000, b"Connection: "]),
    st.binary(max_size=30),
)
_BODY = st.one_of(
    st.just(b""),
    st.binary(max_size=200),
    st.sampled_from(
        [b'{"error":"no"}', b"x" * 100_000, b"5\r\nhello\r\n0\r\n\r\n", b"ffffffffffffffff\r\n", b"0\r\n\r\n"]
    ),
    st.sampled_from([GOOD, b"HTTP/1.1 503 no\r\nContent-Length: 0\r\n\r\n" + GOOD, b"\x1f\x8b\x08" + b"\0" * 50]),
)


def _compose(  # noqa: PLR0917  the parts of an answer in their order
    version: bytes, status: bytes, reason: bytes, framing: bytes, more: list[bytes], body: bytes, surplus: bytes
) -> bytes:
    sizes = {b"n": len(body), b"more": len(body) + 7, b"less": max(len(body) - 3, 0)}
    lines = [b" ".join((version, status, reason)), framing % sizes if b"%(" in framing else framing, *more]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body + surplus


_HTTP = st.builds(
    _compose,
    _VERSION,
    _STATUS,
    _REASON,
    _FRAMING,
    st.lists(_MORE, max_size=3),
    _BODY,
    st.sampled_from([b"", b"", GOOD]),
)
_END: st.SearchStrategy[End] = st.sampled_from(["keep", "keep", "close", "reset"])
ANSWERS = st.one_of(
    st.builds(Bytes, _HTTP, _END),
    st.builds(lambda text, cut, end: Bytes(text[: cut % (len(text) + 1)], end), _HTTP, st.integers(0, 500), _END),
    st.builds(Bytes, st.binary(max_size=300), _END),
)
"""Status × headers × body as a vendor, a proxy before it, or something else altogether may send them."""
