"""The addresses of a vendor's host: looked up once for all that wait, on a thread that nobody else needs."""

import asyncio
import socket
import threading
from collections.abc import Sequence
from contextlib import suppress

from aiohappyeyeballs import AddrInfoType

from forwarder.flusher import transport

Known = Sequence[AddrInfoType]


class Addresses:
    """Keeps what was found for a while. One look-up is under way at a time, whoever waits for it or gives up.

    It has a thread of its own: a name server that does not answer would fill the loop's pool of threads, and with it
    hold up every other destination; and it is a daemon thread, so that nobody waits for it at the end.
    """

    def __init__(self, host: str, port: int) -> None:
        self._host = host
        self._port = port
        self._known: Known = ()
        self._until = 0.0
        self._asking: asyncio.Future[Known] | None = None

    async def look_up(self) -> Known:
        """Return the addresses; raises socket.gaierror."""
        if self._known and asyncio.get_running_loop().time() < self._until:
            return self._known
        if self._asking is None:
            self._asking = self._ask()
        return await asyncio.shield(self._asking)

    def forget(self) -> None:
        """Resolve again next time: none of these could be reached."""
        self._known = ()

    def _ask(self) -> "asyncio.Future[Known]":
        loop = asyncio.get_running_loop()
        asking: asyncio.Future[Known] = loop.create_future()
        asking.add_done_callback(self._asked)

        def ask() -> None:
            answer: Known | Exception
            try:
                answer = socket.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)
            except (OSError, UnicodeError) as error:  # the latter: a host that is no host name
                answer = error
            with suppress(RuntimeError):  # the loop was closed meanwhile
                loop.call_soon_threadsafe(_end, asking, answer)

        threading.Thread(target=ask, name=f"resolve {self._host}", daemon=True).start()
        return asking

    def _asked(self, asking: "asyncio.Future[Known]") -> None:
        self._asking = None
        if not asking.cancelled() and asking.exception() is None:
            self._known = asking.result()
            self._until = asking.get_loop().time() + transport.RESOLVED_S


def _end(asking: "asyncio.Future[Known]", answer: Known | Exception) -> None:
    if asking.done():
        return
    if isinstance(answer, Exception):
        asking.set_exception(answer)
    else:
        asking.set_result(answer)
