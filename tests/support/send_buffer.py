"""A send buffer that holds large datagrams; beyond net.core.wmem_max only root gets one."""

import contextlib
import socket

import pytest

_FORCED = 32  # SO_SNDBUFFORCE


def widen(sock: socket.socket, size: int) -> None:
    """Let `size` bytes wait in the socket, or skip the test where that is not granted."""
    for option in (_FORCED, socket.SO_SNDBUF):
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, option, size)
            break
    granted = sock.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) // 2  # Linux counts double
    if granted < size:
        pytest.skip(f"needs root, or net.core.wmem_max of {size} (only {granted} bytes were granted)")
