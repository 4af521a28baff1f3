"""The bare prototype: what one core can do at all with this design, as the measure of what the real door costs.

httptools under uvloop, a typed msgspec check, the `receivedAt` stamp, the frame's checksums, group commit on one writer
thread over a zero-written file with RWF_DSYNC, the shipped layout of segments and frames. Nothing else: no routing, no
checks of head, host or limits, no metrics, no back-pressure, no ledger, no delivery.

Run as `python -m benchmarks.prototype PORT DIRECTORY fsync|written`.
"""

import asyncio
import os
import sys
import threading
import time
from array import array
from collections import deque
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

import httptools
import msgspec
import uvloop
from msgspec import UNSET, UnsetType

from forwarder.core.spool import frame as frames
from forwarder.core.spool import segment
from forwarder.core.spool.frame import Frame

STEP = 256 * 1024
SEGMENT = 64 * 1024 * 1024
LARGE = 64 * 1024
"""A commit of this size extends the file itself, as the shipped writer lets it."""
MAX_EVENTS = 3000
"""Events in a frame: about a mebibyte."""
_KEY = b"/v2/\0app"
_ANSWER = b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 14\r\n\r\n{"accepted":1}'


class Signal(msgspec.Struct, gc=False):
    """The fields with a must."""

    appID: str  # noqa: N815 - the vendor's name
    clientUser: str  # noqa: N815
    type: str
    receivedAt: str | UnsetType | None = UNSET  # noqa: N815


_MANY = msgspec.json.Decoder(list[Signal])
_RAW = msgspec.json.Decoder(list[msgspec.Raw])


class Store:
    """The segment file and its writer thread."""

    def __init__(self, directory: Path, loop: asyncio.AbstractEventLoop, *, sync: bool) -> None:
        self._directory = directory
        self._loop = loop
        self._flags = os.RWF_DSYNC if sync else 0
        self._inbox: deque[tuple[list[bytes], asyncio.Transport]] = deque()
        self._wake = threading.Event()
        self._busy = False
        self._number = 0
        self._sequence = 1
        self._salt = 12345
        self._small = True
        self._open()
        threading.Thread(target=self._run, daemon=True).start()

    def add(self, events: list[bytes], transport: asyncio.Transport) -> None:
        """Take events into the next commit."""
        self._inbox.append((events, transport))
        if not self._busy:
            self._busy = True
            self._wake.set()

    def _open(self) -> None:
        self._number += 1
        path = self._directory / f"{self._number:012d}.segment"
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        head = segment.Header(salt=self._salt, number=self._number, base=self._sequence, created_at_ns=time.time_ns())
        os.pwrite(self._file, segment.encode(head), 0)
        os.fdatasync(self._file)
        self._offset = self._size = segment.HEADER_SIZE

    def _run(self) -> None:
        while True:
            self._wake.wait()
            self._wake.clear()
            taken = [self._inbox.popleft() for _ in range(len(self._inbox))]
            self._commit([event for events, _ in taken for event in events])
            self._loop.call_soon_threadsafe(self._committed, [transport for _, transport in taken])
            if self._size - self._offset < STEP // 2 and self._small:
                os.pwrite(self._file, bytes(STEP), self._size)
                os.fdatasync(self._file)
                self._size += STEP

    def _commit(self, events: list[bytes]) -> None:
        buffers: list[bytes | memoryview] = []
        for at in range(0, len(events), MAX_EVENTS):
            part = events[at : at + MAX_EVENTS]
            frame = Frame(
                sequence=self._sequence,
                accepted_at=time.time(),
                batch_key=_KEY,
                lengths=array("I", map(len, part)),
                payload=b",".join(part),
            )
            buffers += frames.encode(frame, self._salt)
            self._sequence += len(part)
        size = sum(map(len, buffers))
        self._small = size < LARGE
        if self._offset + size > SEGMENT:
            os.close(self._file)
            self._open()
        os.pwritev(self._file, buffers, self._offset, self._flags)
        self._offset += size
        self._size = max(self._size, self._offset)

    def _committed(self, waiting: list[asyncio.Transport]) -> None:
        for transport in waiting:
            if not transport.is_closing():
                transport.write(_ANSWER)
        if self._inbox:
            self._wake.set()
        else:
            self._busy = False


class Connection(asyncio.Protocol):
    """One connection."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._parser = httptools.HttpRequestParser(self)
        self._parts: list[bytes] = []

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
        """Check, stamp, hand over."""
        body = b"".join(self._parts)
        self._parts.clear()
        stamp = b'{"receivedAt":"%s",' % _stamp()
        found = zip(_MANY.decode(body), _RAW.decode(body), strict=True)
        events = [
            bytes(raw).replace(b"{", stamp, 1) if signal.receivedAt is UNSET else bytes(raw) for signal, raw in found
        ]
        self._store.add(events, self._transport)


_made: list[tuple[int, bytes]] = [(0, b"")]


def _stamp() -> bytes:
    """Return the stamp of this millisecond."""
    millis = int(time.time() * 1000)
    if _made[0][0] != millis:
        text = datetime.fromtimestamp(millis // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S")
        _made[0] = (millis, b"%s.%03dZ" % (text.encode(), millis % 1000))
    return _made[0][1]


async def serve(port: int, directory: Path, durability: str) -> None:
    """Listen until the process is ended."""
    loop = asyncio.get_running_loop()
    store = Store(directory, loop, sync=durability == "fsync")
    server = await loop.create_server(lambda: Connection(store), "127.0.0.1", port, backlog=4096)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]))
