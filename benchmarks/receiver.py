"""A stand-in for both vendors that does next to nothing: it reads, counts events, answers 200. `GET /` tells.

`forwarder receive` judges and stores, which at these rates would be the bottleneck on the load's core.
"""

import asyncio
import sys
import urllib.request
from typing import cast

import httptools
import msgspec
import uvloop

_MARK = b'"clientUser":'
_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"


class Counts(msgspec.Struct):
    """What arrived so far. `first_at` and `last_at` are seconds of the monotonic clock."""

    requests: int = 0
    events: int = 0
    first_at: float = 0.0
    last_at: float = 0.0
    broken: int = 0
    """Bodies that are neither an array nor an object."""


class Connection(asyncio.Protocol):
    """One connection."""

    def __init__(self, counts: Counts) -> None:
        self._counts = counts
        self._parser = httptools.HttpRequestParser(self)
        self._parts: list[bytes] = []
        self._loop = asyncio.get_running_loop()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Parse."""
        self._parser.feed_data(data)

    def on_body(self, piece: bytes) -> None:
        """Keep a piece of the body."""
        self._parts.append(piece)

    def on_message_complete(self) -> None:
        """Count and answer."""
        if self._parser.get_method() == b"GET":
            body = msgspec.json.encode(self._counts)
            self._transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
            return
        body = b"".join(self._parts)
        self._parts.clear()
        counts = self._counts
        counts.last_at = self._loop.time()
        counts.first_at = counts.first_at or counts.last_at
        counts.requests += 1
        if body[:1] == b"[" and body[-1:] == b"]":
            counts.events += body.count(_MARK)
        elif body[:1] == b"{" and body[-1:] == b"}":
            counts.events += 1
        else:
            counts.broken += 1
        self._transport.write(_ANSWER)


def counts(port: int) -> Counts:
    """Ask a running receiver."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=10) as response:
        return msgspec.json.decode(response.read(), type=Counts)


async def serve(port: int) -> None:
    """Listen until the process is ended."""
    held = Counts()
    server = await asyncio.get_running_loop().create_server(lambda: Connection(held), "127.0.0.1", port, backlog=1024)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1])))
