"""A client of bytes: says exactly what it is told, and reads answers one by one."""

import asyncio
import socket
import struct
from collections.abc import Iterable
from typing import NamedTuple, Self

import orjson

REQUEST = b"POST /v2/ HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n%s\r\n%s"


PATIENCE_S = 10
"""How long an answer may take before a test fails instead of hanging."""


def post(body: bytes = b'{"ok":1}', headers: bytes = b"") -> bytes:
    """Return a plain request; `headers` are whole lines."""
    return REQUEST % (len(body), headers, body)


class Answer(NamedTuple):
    """One answer; header names are lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> dict[str, object]:
        parsed: dict[str, object] = orjson.loads(self.body)
        return parsed


class RawClient:
    """One connection to a TCP address or a unix path."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def open(cls, place: object, *, receive_buffer: int | None = None) -> Self:
        sock = socket.socket(socket.AF_UNIX if isinstance(place, str) else socket.AF_INET)
        if receive_buffer is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        sock.settimeout(0)
        try:
            await asyncio.get_running_loop().sock_connect(sock, place)  # type: ignore[arg-type]
        except OSError:
            sock.close()
            raise
        reader, writer = await asyncio.open_connection(sock=sock, limit=2**20)
        return cls(reader, writer)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.writer.transport.abort()

    async def say(self, *pieces: bytes) -> None:
        """Send each piece by itself."""
        for piece in pieces:
            self.writer.write(piece)
            await self.writer.drain()
            await asyncio.sleep(0)

    async def hear(self, *, bodiless: bool = False) -> Answer:
        """Read one answer; raises IncompleteReadError at the end of the connection."""
        async with asyncio.timeout(PATIENCE_S):
            return await self._hear(bodiless=bodiless)

    async def _hear(self, *, bodiless: bool) -> Answer:
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = head[:-4].split("\r\n")
        headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
        length = 0 if bodiless else int(headers.get("content-length", "0"))
        return Answer(int(first.split()[1]), headers, await self.reader.readexactly(length))

    async def ask(self, *pieces: bytes) -> Answer:
        await self.say(*pieces)
        return await self.hear()

    async def rest(self) -> bytes:
        """Read until the server closes."""
        try:
            async with asyncio.timeout(PATIENCE_S):
                return await self.reader.read()
        except ConnectionResetError:
            return b"(reset)"

    def reset(self) -> None:
        """Vanish: the peer gets a reset, whatever was in flight."""
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    def shut(self) -> None:
        """Send no more."""
        self.writer.write_eof()


def bytewise(data: bytes) -> Iterable[bytes]:
    """Split at every byte."""
    return (data[i : i + 1] for i in range(len(data)))
