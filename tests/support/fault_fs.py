"""A file system in memory that loses what was not synced, fails on demand, and writes short."""

import errno
import os
import random
import threading
from collections.abc import Sequence
from pathlib import Path

from forwarder.spool.fs import Buffer

SECTOR = 512


class Node:
    """One file: what a reader sees, and what a power cut leaves."""

    def __init__(self, data: bytes = b"") -> None:
        self.data = bytearray(data)
        self.durable = bytearray(data)
        self.pending: list[tuple[int, bytes]] = []

    def write(self, offset: int, data: bytes) -> None:
        self.data[len(self.data) :] = bytes(max(0, offset - len(self.data)))
        self.data[offset : offset + len(data)] = data
        self.pending.append((offset, data))

    def sync(self) -> None:
        self.durable = bytearray(self.data)
        self.pending.clear()

    def sync_range(self, offset: int, data: bytes) -> None:
        """Make one write durable, and no earlier one: all that a write with RWF_DSYNC promises.

        Where an earlier one overlaps it, the page holds the later one: the earlier bytes never reach the disk any more.
        """
        self.pending.remove((offset, data))
        self.pending = [
            piece for at, old in self.pending for piece in _outside(at, old, offset, offset + len(data)) if piece[1]
        ]
        self.durable[len(self.durable) :] = bytes(max(0, offset - len(self.durable)))
        self.durable[offset : offset + len(data)] = data

    def lose(self, lots: random.Random) -> None:
        """Keep of the unsynced writes whatever sectors luck keeps."""
        for offset, data in self.pending:
            for at in range(0, len(data), SECTOR):
                if lots.random() < 0.5:
                    piece = data[at : at + SECTOR]
                    self.durable[len(self.durable) :] = bytes(max(0, offset + at - len(self.durable)))
                    self.durable[offset + at : offset + at + len(piece)] = piece
        self.data = bytearray(self.durable)
        self.pending.clear()


def _outside(at: int, old: bytes, start: int, stop: int) -> list[tuple[int, bytes]]:
    """Return what of `old`, written at `at`, lies before `start` and from `stop` on."""
    return [(at, old[: max(0, start - at)]), (max(at, stop), old[max(0, stop - at) :])]


class FaultFs:
    """Passes the contract of `Fs`; see test_fs.py.

    `failing` maps an operation to the errno it fails with, `fail_once` the same for its n-th call from now.
    """

    def __init__(self, seed: int = 0) -> None:
        self.lots = random.Random(seed)  # noqa: S311 - a test draws lots
        self.names_now: dict[Path, Node] = {}
        self.names_durable: dict[Path, Node] = {}
        self.directories: set[Path] = {Path("/")}
        self.open_files: dict[int, Node] = {}
        self.failing: dict[str, int] = {}
        self.once: dict[str, tuple[int, int]] = {}
        self.capacity = 1 << 40
        self.calls: list[str] = []
        self.dead = False
        self._next = 3
        self._lock = threading.RLock()

    # ---- for tests

    def fail_once(self, operation: str, code: int, *, nth: int = 1) -> None:
        self.once[operation] = (nth, code)

    def reborn(self) -> "FaultFs":
        """Return the same disk for the next process; the old process can do nothing any more."""
        with self._lock:
            self.dead = True
            new = FaultFs(self.lots.randrange(1 << 30))
            new.names_now, new.names_durable = dict(self.names_now), dict(self.names_durable)
            new.directories = set(self.directories)
            return new

    def power_cut(self) -> "FaultFs":
        """Return what a power cut leaves: each unsynced name and sector survives by luck."""
        new = self.reborn()
        names = dict(new.names_durable)
        for path in {*new.names_now, *new.names_durable}:
            if new.names_now.get(path) is not new.names_durable.get(path) and new.lots.random() < 0.5:
                names.pop(path, None)
                if path in new.names_now:
                    names[path] = new.names_now[path]
        for node in set(names.values()):
            node.lose(new.lots)
        new.names_now, new.names_durable = names, dict(names)
        return new

    def files(self) -> dict[str, bytes]:
        return {str(path): bytes(node.data) for path, node in self.names_now.items()}

    def put(self, path: Path, data: bytes) -> None:
        self.directories.update(path.parents)
        self.names_now[path] = self.names_durable[path] = Node(data)

    def _enter(self, operation: str) -> None:
        if self.dead:
            raise OSError(errno.EIO, "this process is dead")
        self.calls.append(operation)
        nth, code = self.once.get(operation, (0, 0))
        if nth == 1:
            del self.once[operation]
            raise OSError(code, os.strerror(code))
        if nth:
            self.once[operation] = (nth - 1, code)
        if operation in self.failing:
            raise OSError(self.failing[operation], os.strerror(self.failing[operation]))

    def _used(self) -> int:
        return sum(len(node.data) for node in self.names_now.values())

    def _node(self, path: Path) -> Node:
        if path not in self.names_now:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
        return self.names_now[path]

    # ---- Fs

    def make_directory(self, path: Path) -> None:
        with self._lock:
            self._enter("make_directory")
            self.directories.update((path, *path.parents))

    def names(self, directory: Path) -> list[str]:
        with self._lock:
            self._enter("names")
            return [path.name for path in self.names_now if path.parent == directory]

    def size(self, path: Path) -> int:
        with self._lock:
            self._enter("size")
            return len(self._node(path).data)

    def create(self, path: Path) -> int:
        with self._lock:
            self._enter("create")
            if path in self.names_now:
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))
            self.names_now[path] = Node()
            return self._descriptor(self.names_now[path])

    def append_to(self, path: Path) -> int:
        return self.create(path)

    def _descriptor(self, node: Node) -> int:
        self._next += 1
        self.open_files[self._next] = node
        return self._next

    def open(self, path: Path) -> int:
        with self._lock:
            self._enter("open")
            return self._descriptor(self._node(path))

    def close(self, descriptor: int) -> None:
        with self._lock:
            self.open_files.pop(descriptor)

    def read(self, descriptor: int, offset: int, size: int) -> bytes:
        with self._lock:
            self._enter("read")
            return bytes(self.open_files[descriptor].data[offset : offset + size])

    def write(self, descriptor: int, buffers: Sequence[Buffer], offset: int, *, sync: bool) -> None:
        with self._lock:
            node = self.open_files[descriptor]
            data = b"".join(buffers)
            try:
                self._enter("write")
            except OSError:
                if not self.dead:
                    node.write(offset, data[: self.lots.randrange(len(data) + 1)])
                raise
            room = self.capacity - self._used() + max(0, len(node.data) - offset)
            node.write(offset, data[: max(0, room)])
            if room < len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            if sync:
                self.sync(descriptor, only=(offset, data))

    def append(self, descriptor: int, data: bytes) -> int:
        with self._lock:
            self._enter("append")
            node = self.open_files[descriptor]
            taken = max(0, min(len(data), self.capacity - self._used()))
            node.write(len(node.data), data[:taken])
            return taken

    def sync(self, descriptor: int, only: tuple[int, bytes] | None = None) -> None:
        with self._lock:
            node = self.open_files[descriptor]
            try:
                self._enter("sync")
            except OSError:
                # as the kernel does it: the pages count as clean now, the next sync would say that all is well
                node.pending.clear()
                raise
            if only is None:
                node.sync()
            else:
                node.sync_range(*only)

    def sync_directory(self, path: Path) -> None:
        with self._lock:
            self._enter("sync_directory")
            for name in [name for name in self.names_durable if name.parent == path]:
                del self.names_durable[name]
            self.names_durable.update({name: node for name, node in self.names_now.items() if name.parent == path})

    def truncate(self, path: Path, size: int) -> None:
        with self._lock:
            self._enter("truncate")
            node = self._node(path)
            del node.data[size:]

    def replace(self, path: Path, data: bytes) -> None:
        with self._lock:
            self._enter("replace")
            temporary = path.with_name(path.name + ".new")
            self.names_now.pop(temporary, None)
            descriptor = self.create(temporary)
            try:
                self.write(descriptor, [data], 0, sync=True)
            finally:
                self.close(descriptor)
            self._enter("rename")
            self.names_now[path] = self.names_now.pop(temporary)
            self.sync_directory(path.parent)

    def move(self, source: Path, target: Path) -> None:
        with self._lock:
            self._enter("move")
            self._node(source)
            self.names_now[target] = self.names_now.pop(source)
            self.sync_directory(target.parent)
            self.sync_directory(source.parent)

    def remove(self, path: Path) -> None:
        with self._lock:
            self._enter("remove")
            self.names_now.pop(path, None)

    def free(self, path: Path) -> int:
        with self._lock:
            self._enter("free")
            return self.capacity - self._used()

    def salt(self) -> int:
        return self.lots.randrange(1 << 32)
