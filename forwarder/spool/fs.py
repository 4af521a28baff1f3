"""The file system as the spool sees it: the only user of `os` for spool files. Tests put a faulty one in its place."""

import contextlib
import errno
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

Buffer = bytes | memoryview

_FILE_MODE = 0o600
_DIRECTORY_MODE = 0o700
_MAX_BUFFERS = 512
"""Well below IOV_MAX (1024 on Linux)."""
_DSYNC: int = getattr(os, "RWF_DSYNC", 0)
_NO_DSYNC = frozenset({errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS})


class Fs(Protocol):
    """What the spool asks of a file system; every method may raise OSError."""

    def make_directory(self, path: Path) -> None:
        """Create a private directory (and its parents) durably; one that exists is fine."""

    def names(self, directory: Path) -> list[str]:
        """Return the names in a directory."""

    def size(self, path: Path) -> int:
        """Return a file's size."""

    def create(self, path: Path) -> int:
        """Create a file that must not exist, private, for reading and writing; return its descriptor."""

    def append_to(self, path: Path) -> int:
        """Create a file that must not exist, private, for appending; return its descriptor."""

    def open(self, path: Path) -> int:
        """Open a file for reading; return its descriptor."""

    def close(self, descriptor: int) -> None:
        """Close a descriptor."""

    def read(self, descriptor: int, offset: int, size: int) -> bytes:
        """Return up to `size` bytes at `offset`, fewer only at the end of the file."""

    def write(self, descriptor: int, buffers: Sequence[Buffer], offset: int, *, sync: bool) -> None:
        """Write all buffers at `offset`; with `sync`, return only when they are durable."""

    def append(self, descriptor: int, data: bytes) -> int:
        """Append with one system call; return how many bytes were taken."""

    def sync(self, descriptor: int) -> None:
        """Make a file's data durable."""

    def sync_directory(self, path: Path) -> None:
        """Make created, renamed and deleted names durable."""

    def truncate(self, path: Path, size: int) -> None:
        """Cut a file."""

    def replace(self, path: Path, data: bytes) -> None:
        """Put `data` in the place of `path`, durably: afterwards it holds the old bytes or the new ones."""

    def move(self, source: Path, target: Path) -> None:
        """Rename a file, durably."""

    def remove(self, path: Path) -> None:
        """Delete a file; one that is gone already is fine."""

    def free(self, path: Path) -> int:
        """Return the bytes that may still be written on the volume of `path`."""

    def salt(self) -> int:
        """Return 32 random bits."""


class RealFs:
    """The kernel's file system."""

    def __init__(self) -> None:
        self._dsync = _DSYNC

    def make_directory(self, path: Path) -> None:
        """Create a private directory (and its parents) durably; one that exists is fine."""
        if path.is_dir():
            return
        self.make_directory(path.parent)
        with contextlib.suppress(FileExistsError):
            path.mkdir(mode=_DIRECTORY_MODE)
        self.sync_directory(path.parent)

    def names(self, directory: Path) -> list[str]:
        """Return the names in a directory."""
        return [path.name for path in directory.iterdir()]

    def size(self, path: Path) -> int:
        """Return a file's size."""
        return path.stat().st_size

    def create(self, path: Path) -> int:
        """Create a file that must not exist, private, for reading and writing; return its descriptor."""
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _FILE_MODE)

    def append_to(self, path: Path) -> int:
        """Create a file that must not exist, private, for appending; return its descriptor."""
        return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _FILE_MODE)

    def open(self, path: Path) -> int:
        """Open a file for reading; return its descriptor."""
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def close(self, descriptor: int) -> None:
        """Close a descriptor."""
        os.close(descriptor)

    def read(self, descriptor: int, offset: int, size: int) -> bytes:
        """Return up to `size` bytes at `offset`, fewer only at the end of the file."""
        data = os.pread(descriptor, size, offset)
        while data and len(data) < size:
            more = os.pread(descriptor, size - len(data), offset + len(data))
            if not more:
                break
            data += more
        return data

    def write(self, descriptor: int, buffers: Sequence[Buffer], offset: int, *, sync: bool) -> None:
        """Write all buffers at `offset`; with `sync`, return only when they are durable."""
        if len(buffers) > _MAX_BUFFERS:
            buffers = [b"".join(buffers)]
        size = sum(map(len, buffers))
        if sync and self._dsync:
            written = self._write_synced(descriptor, buffers, offset)
            if written == size:
                return
        else:
            written = os.pwritev(descriptor, buffers, offset)
        if written < size:
            _write_rest(descriptor, memoryview(b"".join(buffers))[written:], offset + written)
        if sync:
            self.sync(descriptor)

    def _write_synced(self, descriptor: int, buffers: Sequence[Buffer], offset: int) -> int:
        """Write and sync in one call; where the kernel or the file system cannot, write nothing and remember it."""
        try:
            return os.pwritev(descriptor, buffers, offset, self._dsync)
        except OSError as exc:
            if exc.errno not in _NO_DSYNC:
                raise
            self._dsync = 0
            return 0

    def append(self, descriptor: int, data: bytes) -> int:
        """Append with one system call; return how many bytes were taken."""
        return os.write(descriptor, data)

    def sync(self, descriptor: int) -> None:
        """Make a file's data durable."""
        if hasattr(os, "fdatasync"):
            os.fdatasync(descriptor)
        else:  # macOS: fsync is the most that Python offers there
            os.fsync(descriptor)

    def sync_directory(self, path: Path) -> None:
        """Make created, renamed and deleted names durable."""
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def truncate(self, path: Path, size: int) -> None:
        """Cut a file."""
        os.truncate(path, size)

    def replace(self, path: Path, data: bytes) -> None:
        """Put `data` in the place of `path`, durably: afterwards it holds the old bytes or the new ones."""
        temporary = path.with_name(path.name + ".new")
        temporary.unlink(missing_ok=True)
        descriptor = self.create(temporary)
        try:
            _write_rest(descriptor, memoryview(data), 0)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        temporary.replace(path)
        self.sync_directory(path.parent)

    def move(self, source: Path, target: Path) -> None:
        """Rename a file, durably."""
        source.rename(target)
        self.sync_directory(target.parent)
        self.sync_directory(source.parent)

    def remove(self, path: Path) -> None:
        """Delete a file; one that is gone already is fine."""
        path.unlink(missing_ok=True)

    def free(self, path: Path) -> int:
        """Return the bytes that may still be written on the volume of `path`."""
        volume = os.statvfs(path)
        return volume.f_bavail * volume.f_frsize

    def salt(self) -> int:
        """Return 32 random bits."""
        return int.from_bytes(os.urandom(4), "little")


def _write_rest(descriptor: int, rest: memoryview, offset: int) -> None:
    while rest:
        written = os.pwrite(descriptor, rest, offset)
        rest, offset = rest[written:], offset + written
