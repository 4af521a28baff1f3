"""A service manager as far as one service can see: it holds the sockets, and hears what the service says of itself.

    with Manager(tmp_path) as manager:
        manager.listen("http", sock)
        with Daemon(tmp_path, CONFIG, command=manager.command, env=manager.env) as daemon: …
        manager.wait_for("READY=1")

As a program (`python manager.py …`) it is the last step before the service: descriptors in place, LISTEN_PID set, exec.
"""

import os
import socket
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

FIRST_DESCRIPTOR = 3
PATIENCE_S = 30.0


class Manager:
    """Holds sockets for a service and collects its messages. Messages are lists of assignments."""

    def __init__(self, directory: Path, *, watchdog_s: float | None = None) -> None:
        self._path = directory / "notify"
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(self._path))
        self._news = threading.Condition()
        self._held: list[tuple[str, socket.socket]] = []
        self.messages: list[list[str]] = []
        self.command = (sys.executable, __file__, "run", "--config")
        self.env = {"NOTIFY_SOCKET": str(self._path)}
        if watchdog_s is not None:
            self.env["WATCHDOG_USEC"] = str(int(watchdog_s * 1e6))
        self._reader = threading.Thread(target=self._read, daemon=True)

    def __enter__(self) -> Self:
        self._reader.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as last:
            last.sendto(b"", str(self._path))
        self._reader.join()
        self._socket.close()
        for _, held in self._held:
            held.close()

    def listen(self, name: str, sock: socket.socket) -> None:
        """Hold a socket under this FileDescriptorName from the next start on."""
        self._held.append((name, sock))
        self.env["LISTEN_FDS"] = str(len(self._held))
        self.env["LISTEN_FDNAMES"] = ":".join(held for held, _ in self._held)
        self.env["TEST_DESCRIPTORS"] = ",".join(str(descriptor) for descriptor in self.descriptors)

    @property
    def descriptors(self) -> list[int]:
        """Return what a process must be started with (`Process.pass_fds`)."""
        return [held.fileno() for _, held in self._held]

    def wait_for(self, assignment: str, *, after: int = 0) -> int:
        """Return the position behind the first message from `after` on that holds an assignment starting so."""
        return self.wait(lambda lines: any(line.startswith(assignment) for line in lines), assignment, after=after)

    def wait(self, wanted: Callable[[list[str]], bool], what: str, *, after: int = 0) -> int:
        """Return the position behind the first message from `after` on that is wanted, now or when it comes."""
        deadline = time.monotonic() + PATIENCE_S
        with self._news:
            while True:
                for position in range(after, len(self.messages)):
                    if wanted(self.messages[position]):
                        return position + 1
                left = deadline - time.monotonic()
                assert left > 0, f"{what} was not said; said: {self.messages[after:]}"
                self._news.wait(left)

    def said(self, assignment: str, *, after: int = 0) -> list[str]:
        """Return every assignment from `after` on that starts so."""
        return [line for message in self.messages[after:] for line in message if line.startswith(assignment)]

    def _read(self) -> None:
        while data := self._socket.recv(65536):
            with self._news:
                self.messages.append(data.decode().split("\n"))
                self._news.notify_all()


def main() -> None:
    descriptors = [int(text) for text in os.environ.pop("TEST_DESCRIPTORS", "").split(",") if text]
    spare = [os.dup2(descriptor, 500 + index) for index, descriptor in enumerate(descriptors)]
    for index, descriptor in enumerate(spare):
        os.dup2(descriptor, FIRST_DESCRIPTOR + index)
        os.close(descriptor)
    os.environ["LISTEN_PID"] = os.environ["WATCHDOG_PID"] = str(os.getpid())
    os.execv(sys.executable, [sys.executable, "-m", "forwarder", *sys.argv[1:]])  # noqa: S606  no shell is wanted


if __name__ == "__main__":
    main()
