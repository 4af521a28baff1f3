"""Reading with care: into a buffer of the door's, which is small while memory is short.

Left to itself the loop reads up to a quarter of a mebibyte and hands it over as bytes, in one callback: the cheapest
way for small requests. From many connections with large bodies it would be more memory than `max_inflight` knows of.
"""

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from forwarder.sources.connection import Connection
    from forwarder.sources.http import HttpDoor


class Careful(asyncio.BufferedProtocol):
    """Stands between a transport and its connection. All connections read into the same buffer, one after another."""

    def __init__(self, connection: "Connection", door: "HttpDoor") -> None:
        self._connection = connection
        self._door = door
        self.connection_lost = connection.connection_lost  # type: ignore[method-assign]
        self.eof_received = connection.eof_received  # type: ignore[method-assign]
        self.pause_writing = connection.pause_writing  # type: ignore[method-assign]
        self.resume_writing = connection.resume_writing  # type: ignore[method-assign]

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - the door decides
        """Return where to read into."""
        door = self._door
        return door.small_buffer if door.inflight.full else door.buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Take what was read."""
        self._connection.data_received(bytes(self._door.buffer[:nbytes]))
