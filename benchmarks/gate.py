"""A stand-in receiver within the benchmark that answers as many requests as it is told, and no more.

What a sender has done between two such moments is exact: it waits in the same state at both.
"""

import socket
import threading
import time
from contextlib import suppress
from typing import BinaryIO, Self

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
LENGTH = b"content-length:"
PATIENCE_S = 60.0
LOOK_S = 0.005


class Gate:
    """Listens on a port of its own; `with` ends it."""

    def __init__(self) -> None:
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._allowed = threading.Semaphore(0)
        self._lock = threading.Lock()
        self._sockets: list[socket.socket] = [self._listening]
        self.port = int(self._listening.getsockname()[1])
        self.arrived = 0
        self.answered = 0

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        for sock in self._sockets:
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()

    def let(self, requests: int, *, waiting: int) -> None:
        """Answer so many requests; return when `waiting` more are here and get no answer."""
        wanted = self.answered + requests
        for _ in range(requests):
            self._allowed.release()
        deadline = time.monotonic() + PATIENCE_S
        while self.answered < wanted or self.arrived < wanted + waiting:
            if time.monotonic() > deadline:
                raise RuntimeError(f"{self.arrived} requests came, {self.answered} were answered of {wanted}")
            time.sleep(LOOK_S)

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                sock, _ = self._listening.accept()
                self._sockets.append(sock)
                threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        with suppress(OSError), sock.makefile("rb") as stream:
            while size := _size(stream):
                stream.read(size)
                self._count(arrived=1)
                self._allowed.acquire()
                sock.sendall(ANSWER)
                self._count(answered=1)

    def _count(self, *, arrived: int = 0, answered: int = 0) -> None:
        with self._lock:
            self.arrived += arrived
            self.answered += answered


def _size(stream: BinaryIO) -> int:
    """Return the length of the body whose head comes next; 0 at the end."""
    size = 0
    while (line := stream.readline()) not in (b"", b"\r\n"):
        if line.lower().startswith(LENGTH):
            size = int(line.partition(b":")[2])
    return size
