"""A relay between the daemon and a TLS server that lets what comes back through slowly, in part, or not at all.

It understands no TLS: it counts flights. What the server sends before the client's second flight is the handshake, and
what comes after that is the answer.

    with TlsRelayThread(receiver.port) as relay:
        relay.misbehave(Slowness.CRAWL_HANDSHAKE)
        … deliver to relay.url …
"""

import asyncio
import contextlib
import enum
import socket
import struct
import threading
from collections.abc import Coroutine
from types import TracebackType
from typing import Any, Self

CRAWL_S = 0.05
"""From byte to byte: a handshake of two kilobytes takes minutes."""
GARBAGE = b"SSH-2.0-OpenSSH_9.2p1\r\n"


class Slowness(enum.Enum):
    """What happens to new connections."""

    FAITHFUL = "faithful"
    TRICKLE = "trickle"
    """Every byte of handshake and answer in a packet of its own, as fast as they go: slow, but it arrives."""
    STALL_HANDSHAKE = "stall the handshake"
    """The client's hello is never answered."""
    CRAWL_HANDSHAKE = "crawl in the handshake"
    """Byte by byte, so slowly that no time-out is long enough, and never quite silent."""
    HALF_HANDSHAKE = "half a handshake"
    """Half of the server's flight, then RST."""
    GARBAGE_HANDSHAKE = "garbage for a handshake"
    """Something that is not TLS, then an orderly end."""
    STALL_ANSWER = "stall the answer"
    """The handshake passes; the request reaches the vendor, its answer never comes back. Ambiguous."""
    CRAWL_ANSWER = "crawl in the answer"
    """The same, but the answer comes byte by byte, too slowly. Ambiguous."""
    RESET_ANSWER = "reset instead of the answer"
    """The same, but half of the answer's first record comes, then RST. Ambiguous."""


_ANSWER = frozenset({Slowness.STALL_ANSWER, Slowness.CRAWL_ANSWER, Slowness.RESET_ANSWER})


class _Connection:
    """One relayed connection; `second_flight` is set once the client has answered the server's handshake."""

    def __init__(self, mode: Slowness, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.mode = mode
        self.reader = reader
        self.writer = writer
        self.served = False
        self.second_flight = False

    async def run(self, port: int) -> None:
        if self.mode is Slowness.GARBAGE_HANDSHAKE:
            self.writer.write(GARBAGE)
            await self.writer.drain()
            return
        server, upstream = await asyncio.open_connection("127.0.0.1", port)
        try:
            there = asyncio.ensure_future(self._to_server(upstream))
            back = asyncio.ensure_future(self._to_client(server))
            _, pending = await asyncio.wait((there, back), return_when=asyncio.FIRST_COMPLETED)
            for task in pending:
                task.cancel()
            await asyncio.gather(there, back, return_exceptions=True)
        finally:
            upstream.transport.abort()

    async def _to_server(self, upstream: asyncio.StreamWriter) -> None:
        while data := await self.reader.read(65536):
            self.second_flight = self.second_flight or self.served
            upstream.write(data)
            await upstream.drain()

    async def _to_client(self, server: asyncio.StreamReader) -> None:
        while data := await server.read(65536):
            if not await self._pass_on(data):
                return

    async def _pass_on(self, data: bytes) -> bool:
        """Hand data to the client as the mode says; return whether the connection goes on."""
        faithful = self.mode is Slowness.FAITHFUL or (self.mode in _ANSWER and not self.second_flight)
        match self.mode:
            case _ if faithful:
                await self._write(data)
            case Slowness.STALL_HANDSHAKE | Slowness.STALL_ANSWER:
                await asyncio.Event().wait()
            case Slowness.CRAWL_HANDSHAKE | Slowness.CRAWL_ANSWER:
                await self._write_bytewise(data, CRAWL_S)
            case Slowness.TRICKLE:
                await self._write_bytewise(data, 0)
            case _:
                await self._write(data[: len(data) // 2])
                connection = self.writer.get_extra_info("socket")
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                return False
        self.served = True
        return True

    async def _write(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def _write_bytewise(self, data: bytes, pause_s: float) -> None:
        for at in range(len(data)):
            await self._write(data[at : at + 1])
            await asyncio.sleep(pause_s)


class TlsRelayThread:
    """The relay on a thread and loop of its own; `attempts` counts connections."""

    def __init__(self, upstream_port: int) -> None:
        self.attempts = 0
        self.url = ""
        self._mode = Slowness.FAITHFUL
        self._port = upstream_port
        self._tasks: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Event()
        self._server: asyncio.Server | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="tls relay", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self._call(self._open())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._call(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def misbehave(self, mode: Slowness) -> None:
        """Set the mode of new connections, and cut those that are open, so that it holds at once."""
        self._mode = mode
        self._call(self._cut())

    def wait_for_attempts(self, count: int, *, timeout_s: float = 60.0) -> None:
        """Return once there were `count` connections in all; raises TimeoutError."""
        self._call(self._wait(count, timeout_s))

    async def _open(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.url = f"https://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def _close(self) -> None:
        assert self._server is not None
        self._server.close()
        await self._cut()

    async def _cut(self) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _wait(self, count: int, timeout_s: float) -> None:
        async with asyncio.timeout(timeout_s):
            while self.attempts < count:
                self._changed.clear()
                await self._changed.wait()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.attempts += 1
        self._changed.set()
        try:
            with contextlib.suppress(OSError, asyncio.CancelledError):
                await _Connection(self._mode, reader, writer).run(self._port)
        finally:
            self._tasks.discard(task)
            writer.close()

    def _call(self, coroutine: Coroutine[Any, Any, object]) -> None:
        asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(120)
