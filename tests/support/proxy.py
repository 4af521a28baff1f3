"""A hostile TCP proxy between the daemon and the stand-in; how it misbehaves is switched at run time.

async with HostileProxy(receiver.port) as proxy:
    proxy.mode = Mode.RESET_AFTER_REQUEST
    … deliver to proxy.url …
"""

import asyncio
import contextlib
import enum
import re
import socket
import struct
import threading
from collections.abc import Coroutine
from types import TracebackType
from typing import Any, Self

_HEAD_END = b"\r\n\r\n"
_LENGTH = re.compile(rb"(?im)^content-length:\s*(\d+)\s*$")
_CHUNKED = re.compile(rb"(?im)^transfer-encoding:.*chunked")
_CONTINUE = re.compile(rb"(?im)^expect:\s*100-continue")
GARBAGE = b"\x16\x03\x01 this is not HTTP \x00\xff\r\n\r\n"


class Mode(enum.Enum):
    """What happens to the next request; connections that wait obey a new mode only with their next request."""

    FAITHFUL = "faithful"
    """Nothing bad."""
    RESET_ON_CONNECT = "reset on connect"
    """RST at once."""
    RESET_BEFORE_BODY = "reset before the body"
    """RST as soon as the head has arrived: the vendor never sees the request."""
    RESET_IN_BODY = "reset in the body"
    """RST after about half of the body."""
    RESET_AFTER_REQUEST = "reset after the request"
    """The vendor gets all of the request and answers; the client sees RST instead. Was it delivered? Ambiguous."""
    STALL_BEFORE_BODY = "stall before the body"
    """Read the head and then nothing any more (the buffers take 2 MiB); the client's time-out must fire."""
    STALL_ANSWER = "stall the answer"
    """The vendor gets all of it and answers; the client waits for ever. Ambiguous."""
    TRICKLE = "trickle"
    """The answer comes byte by byte, each in a packet of its own."""
    HALF_ANSWER = "half an answer"
    """Half of the answer's head, then an orderly end."""
    TRUNCATED_ANSWER = "truncated answer"
    """The head and half of the body that it announces, then an orderly end."""
    GARBAGE = "garbage"
    """An answer that is not HTTP, then an orderly end."""
    HUGE_ANSWER = "huge answer"
    """A good head, then a body without end, for as long as somebody reads it."""
    ENDLESS_HEAD = "endless head"
    """Header lines without end."""
    CLOSE_AFTER_ANSWER = "close after the answer"
    """The full answer without `Connection: close`, then an orderly end: a kept connection goes stale."""


class HostileProxy:
    """Forwards one request after the other to 127.0.0.1:`upstream_port`, or misbehaves as `mode` says.

    `requests` counts requests whose head arrived, `connections` accepted connections.
    """

    def __init__(self, upstream_port: int, *, mode: Mode = Mode.FAITHFUL) -> None:
        self.mode = mode
        self.requests = 0
        self.connections = 0
        self.resets = 0
        self._upstream_port = upstream_port
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Event()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, limit=1 << 20)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    @property
    def port(self) -> int:
        """Return the port that is bound."""
        assert self._server is not None
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    @property
    def url(self) -> str:
        """Return the base URL, without a trailing slash."""
        return f"http://127.0.0.1:{self.port}"

    async def wait_for_requests(self, count: int, *, timeout_s: float = 10.0) -> None:
        """Return once `count` requests have arrived; raises TimeoutError."""
        async with asyncio.timeout(timeout_s):
            while self.requests < count:
                self._changed.clear()
                await self._changed.wait()

    async def wait_for_attempts(self, count: int, *, timeout_s: float = 10.0) -> None:
        """Return once `count` requests or reset connections have been seen; raises TimeoutError."""
        async with asyncio.timeout(timeout_s):
            while self.requests + self.resets < count:
                self._changed.clear()
                await self._changed.wait()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        try:
            await self._converse(reader, writer)
        except (OSError, EOFError):
            writer.transport.abort()  # either side went away: so does the other
        except asyncio.CancelledError:
            writer.transport.abort()  # the end of the test
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.mode is Mode.RESET_ON_CONNECT:
            self.resets += 1
            self._changed.set()
            return _reset(writer)
        while True:
            try:
                head = await reader.readuntil(_HEAD_END)
            except asyncio.IncompleteReadError:
                return None
            self.requests += 1
            self._changed.set()
            if not await self._exchange(head, reader, writer):
                return None

    async def _exchange(self, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Serve one request; return whether the connection goes on."""
        mode = self.mode
        if mode in (Mode.RESET_BEFORE_BODY, Mode.RESET_ON_CONNECT):  # the latter: kept from before
            _reset(writer)
            return False
        if mode is Mode.STALL_BEFORE_BODY:
            await asyncio.Event().wait()
        if _CONTINUE.search(head):
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        if mode is Mode.RESET_IN_BODY:
            await reader.readexactly(max(1, _length(head) // 2))
            _reset(writer)
            return False
        body = await _body(head, reader)
        if mode is Mode.GARBAGE:
            return await _write(writer, GARBAGE)
        answer = await self._upstream(head + body)
        return await _answer(mode, answer, writer)

    async def _upstream(self, request: bytes) -> bytes:
        """Send one whole request on a connection of its own and return the whole answer."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self._upstream_port)
        try:
            writer.write(request)
            head = await reader.readuntil(_HEAD_END)
            while head.startswith(b"HTTP/1.1 100"):
                head = await reader.readuntil(_HEAD_END)
            return head + await _body(head, reader)
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()


class ProxyThread:
    """A HostileProxy on a thread and loop of its own, for synchronous tests."""

    def __init__(self, upstream_port: int) -> None:
        self._proxy = HostileProxy(upstream_port)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self.url = ""

    def __enter__(self) -> Self:
        self._thread.start()
        self._call(self._proxy.__aenter__())
        self.url = self._proxy.url
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._call(self._proxy.__aexit__(kind, error, trace))
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    @property
    def requests(self) -> int:
        """Return the requests whose head arrived."""
        return self._proxy.requests

    @property
    def attempts(self) -> int:
        """Return the requests and the connections that were reset before they could bring one."""
        return self._proxy.requests + self._proxy.resets

    def misbehave(self, mode: Mode) -> None:
        """Set the mode from the next request on."""
        self._proxy.mode = mode

    def wait_for_attempts(self, count: int, *, timeout_s: float = 60.0) -> None:
        """Return once there were `count` attempts in all; raises TimeoutError."""
        self._call(self._proxy.wait_for_attempts(count, timeout_s=timeout_s))

    def _call(self, coroutine: Coroutine[Any, Any, object]) -> None:
        asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(120)


async def _answer(mode: Mode, answer: bytes, writer: asyncio.StreamWriter) -> bool:
    head_size = answer.index(_HEAD_END) + len(_HEAD_END)
    match mode:
        case Mode.RESET_AFTER_REQUEST:
            _reset(writer)
        case Mode.STALL_ANSWER:
            await asyncio.Event().wait()
        case Mode.HALF_ANSWER:
            await _write(writer, answer[: head_size // 2])
        case Mode.TRUNCATED_ANSWER:
            await _write(writer, answer[: (head_size + len(answer)) // 2])
        case Mode.HUGE_ANSWER:
            await _flood(writer, b"HTTP/1.1 200 OK\r\nContent-Length: 1099511627776\r\n\r\n", b"x" * 65536)
        case Mode.ENDLESS_HEAD:
            await _flood(writer, b"HTTP/1.1 200 OK\r\n", b"X-More: of the same\r\n" * 1000)
        case Mode.CLOSE_AFTER_ANSWER:
            await _write(writer, answer)
        case Mode.TRICKLE:
            for index in range(len(answer)):
                writer.write(answer[index : index + 1])
                await writer.drain()
                await asyncio.sleep(0)
            return True
        case _:
            writer.write(answer)
            await writer.drain()
            return True
    return False


async def _body(head: bytes, reader: asyncio.StreamReader) -> bytes:
    if not _CHUNKED.search(head):
        return await reader.readexactly(_length(head))
    parts: list[bytes] = []
    while True:
        line = await reader.readuntil(b"\r\n")
        size = int(line.split(b";")[0], 16)
        parts += [line, await reader.readexactly(size + 2)]  # without trailers, which no client here sends
        if size == 0:
            return b"".join(parts)


def _length(head: bytes) -> int:
    match = _LENGTH.search(head)
    return int(match[1]) if match else 0


async def _write(writer: asyncio.StreamWriter, text: bytes) -> bool:
    """Write and end the connection in good order."""
    writer.write(text)
    await writer.drain()
    return False


async def _flood(writer: asyncio.StreamWriter, start: bytes, more: bytes) -> None:
    """Write until the other side has had enough."""
    writer.write(start)
    while True:
        writer.write(more)
        await writer.drain()


def _reset(writer: asyncio.StreamWriter) -> None:
    connection = writer.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
