"""Reading datagrams from a socket: a run of them in one system call where there is one for it (Linux), else one by one.

`recvmmsg` costs less than half of a `recv` a datagram, and gives Python's lock away once a run. Each datagram of a run
has its own place, as large as the largest that is taken, in memory that becomes real only where something is written.
"""

import contextlib
import ctypes
import errno
import mmap
import os
import socket
import sys
from typing import Any, Protocol

import msgspec

RUN = 256
"""Datagrams read at once."""
LARGEST = 256 * 1024
"""Larger datagrams (unix sockets only) are refused as too large."""
SAMPLE = 2048

_PAGE = 4096
_KEPT = 1024 * 1024
"""Bytes of large datagrams after which their memory is given back: what stays is a page a datagram of a run."""
_LINUX = sys.platform == "linux"
_FLAGS = socket.MSG_TRUNC if _LINUX else 0
"""MSG_TRUNC: what is larger than its place tells its full size."""
_NOTHING_YET = (errno.EAGAIN, errno.EWOULDBLOCK, errno.EINTR)


class TooLarge(msgspec.Struct, frozen=True, gc=False):
    """A datagram beyond LARGEST: its size and how it begins."""

    size: int
    sample: bytes


class Read(msgspec.Struct, frozen=True):
    """What one reading brought, in order; `trouble` is why it ended early, in the system's words."""

    datagrams: list[bytes]
    too_large: list[TooLarge]
    trouble: str | None = None

    @property
    def count(self) -> int:
        """Return how many datagrams were taken from the socket."""
        return len(self.datagrams) + len(self.too_large)

    @property
    def size(self) -> int:
        """Return how many bytes were read."""
        return sum(map(len, self.datagrams)) + LARGEST * len(self.too_large)


class Reader(Protocol):
    """Reads datagrams. One serves all listeners of a loop, since nothing is kept between two calls."""

    def read(self, sock: socket.socket) -> Read:
        """Return up to RUN datagrams that the socket has; never waits."""


def reader() -> Reader:
    """Return the best reader that this system has."""
    return Runs.made() or OneByOne()


class OneByOne:
    """Reads with a call a datagram: works everywhere."""

    def __init__(self) -> None:
        self._buffer = bytearray(LARGEST)
        self._view = memoryview(self._buffer)

    def read(self, sock: socket.socket) -> Read:
        """Return up to RUN datagrams that the socket has; never waits."""
        found = Read([], [])
        try:
            while found.count < RUN:
                size = sock.recv_into(self._buffer, 0, _FLAGS)
                if size > LARGEST:
                    found.too_large.append(TooLarge(size, bytes(self._view[:SAMPLE])))
                else:
                    found.datagrams.append(bytes(self._view[:size]))
        except BlockingIOError:
            pass
        except OSError as exc:
            return Read(found.datagrams, found.too_large, exc.strerror)
        return found


class _Piece(ctypes.Structure):
    """`struct iovec`."""

    _fields_ = (("base", ctypes.c_void_p), ("size", ctypes.c_size_t))


class _Head(ctypes.Structure):
    """`struct msghdr`."""

    _fields_ = (
        ("name", ctypes.c_void_p),
        ("name_size", ctypes.c_uint32),
        ("pieces", ctypes.c_void_p),
        ("pieces_count", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("control_size", ctypes.c_size_t),
        ("flags", ctypes.c_int),
    )


class _Message(ctypes.Structure):
    """`struct mmsghdr`."""

    _fields_ = (("head", _Head), ("size", ctypes.c_uint))


class Runs:
    """Reads a run of datagrams in one call of `recvmmsg`."""

    def __init__(self, recvmmsg: Any) -> None:
        self._recvmmsg = recvmmsg
        self._memory = mmap.mmap(-1, RUN * LARGEST, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        with contextlib.suppress(OSError):  # a kernel without huge pages
            self._memory.madvise(mmap.MADV_NOHUGEPAGE)
        base = ctypes.addressof(ctypes.c_char.from_buffer(self._memory))
        self._places = range(0, RUN * LARGEST, LARGEST)
        self._pieces = (_Piece * RUN)(*[_Piece(base + place, LARGEST) for place in self._places])
        heads = [_Head(pieces=ctypes.addressof(piece), pieces_count=1) for piece in self._pieces]
        self._messages = (_Message * RUN)(*[_Message(head) for head in heads])
        words = memoryview(self._messages).cast("B").cast("I")
        self._sizes = words[_Message.size.offset // 4 :: ctypes.sizeof(_Message) // 4]
        self._written = 0
        """Bytes of large datagrams since memory was given back."""

    @classmethod
    def made(cls) -> "Runs | None":
        """Return one, or None where the system has no such call or forbids it."""
        if not _LINUX:
            return None
        try:
            recvmmsg = ctypes.CDLL(None, use_errno=True).recvmmsg
        except (OSError, AttributeError):
            return None
        recvmmsg(-1, None, 0, 0, None)
        if ctypes.get_errno() != errno.EBADF:
            return None
        try:
            return cls(recvmmsg)
        except OSError:  # no address space for it (LimitAS)
            return None

    def read(self, sock: socket.socket) -> Read:
        """Return up to RUN datagrams that the socket has; never waits."""
        count = self._recvmmsg(sock.fileno(), self._messages, RUN, _FLAGS | socket.MSG_DONTWAIT, None)
        if count <= 0:
            said = ctypes.get_errno()
            return Read([], [], None if said in _NOTHING_YET else os.strerror(said))
        sizes = self._sizes[:count].tolist()
        if max(sizes) > _PAGE:
            return self._large(sizes)
        memory = self._memory
        return Read([memory[at : at + size] for at, size in zip(self._places, sizes, strict=False)], [])

    def _large(self, sizes: list[int]) -> Read:
        """Return what was read when some of it is large."""
        found = Read([], [])
        for at, size in zip(self._places, sizes, strict=False):
            if size > LARGEST:
                found.too_large.append(TooLarge(size, self._memory[at : at + SAMPLE]))
            else:
                found.datagrams.append(self._memory[at : at + size])
        self._written += sum(size for size in sizes if size > _PAGE)
        if self._written > _KEPT:
            self._memory.madvise(mmap.MADV_DONTNEED)
            self._written = 0
        return found
