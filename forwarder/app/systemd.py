"""What systemd and a service share: readiness messages out, inherited sockets in. Works without systemd, doing nothing.

The protocol is small and stable (sd_notify(3), sd_listen_fds(3)); the packages for it are unmaintained or need C.
"""

import os
import socket
import time
from collections.abc import Mapping, MutableMapping

FIRST_DESCRIPTOR = 3


class Notifier:
    """Sends state to the socket named by $NOTIFY_SOCKET; a lost message is not an error."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        address = environ.get("NOTIFY_SOCKET", "")
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self.watchdog_s = _watchdog_s(environ)
        """Seconds between WATCHDOG=1 messages (half of what systemd asks), or None."""

    @property
    def heard(self) -> bool:
        """Return whether a service manager listens."""
        return bool(self._address)

    def reloading(self) -> None:
        """Say that a reload begins; systemd compares the time with that of its own order."""
        self.send("RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")

    def send(self, *lines: str) -> None:
        """Send assignments such as `READY=1`, `STATUS=…`."""
        if not self._address:
            return
        lines = tuple(line.replace("\n", " ") for line in lines)  # a line break would begin another assignment
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
            sock.setblocking(False)  # noqa: FBT003  the standard library's signature
            try:
                sock.sendto("\n".join(lines).encode(), self._address)
            except OSError:
                return


def _watchdog_s(environ: Mapping[str, str]) -> float | None:
    if environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    micros = environ.get("WATCHDOG_USEC", "")
    return int(micros) / 2e6 if micros.isdigit() and int(micros) else None


def inherited_sockets(environ: MutableMapping[str, str]) -> dict[str, list[socket.socket]]:
    """Return the sockets passed by socket activation, by their FileDescriptorName; call once, at start.

    The LISTEN_ variables are removed, so that child processes do not take the sockets for theirs.
    """
    pid, count = environ.pop("LISTEN_PID", ""), environ.pop("LISTEN_FDS", "")
    names = environ.pop("LISTEN_FDNAMES", "").split(":")
    if pid != str(os.getpid()) or not count.isdigit():
        return {}
    sockets: dict[str, list[socket.socket]] = {}
    for index in range(int(count)):
        descriptor = FIRST_DESCRIPTOR + index
        os.set_inheritable(descriptor, False)  # noqa: FBT003
        name = names[index] if index < len(names) and names[index] else "unknown"
        sockets.setdefault(name, []).append(socket.socket(fileno=descriptor))
    return sockets
