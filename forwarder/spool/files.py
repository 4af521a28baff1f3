"""Small private files of the spool directory: 0600, replaced whole or appended and synced. Blocking."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from forwarder.errors import DiskTrouble

DIRECTORY_MODE = 0o700
FILE_MODE = 0o600


@contextlib.contextmanager
def trouble(operation: str, path: Path) -> Iterator[None]:
    """Turn an OSError of the block into DiskTrouble."""
    try:
        yield
    except OSError as exc:
        raise DiskTrouble(operation=operation, path=str(path), reason=exc.strerror or str(exc)) from exc


def private_directory(path: Path) -> None:
    """Create `path` as 0700, or narrow one that is wider and ours."""
    try:
        path.mkdir(mode=DIRECTORY_MODE)
    except FileExistsError:
        if path.stat().st_mode & 0o077:
            with contextlib.suppress(PermissionError):
                path.chmod(DIRECTORY_MODE)
        return
    sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Make created, renamed and deleted names under `path` durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def create(path: Path) -> int:
    """Create a file that does not exist yet, durably, and return its descriptor, open for appending."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, FILE_MODE)
    try:
        sync_directory(path.parent)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def write_all(descriptor: int, data: bytes) -> None:
    """Write everything, however short the single writes come out."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


@contextlib.contextmanager
def replacing(path: Path, *, synced: bool = True) -> Iterator[int]:
    """Yield a descriptor whose content takes the place of `path` when the block ends well."""
    temporary = path.with_name(f".{path.name}.new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, FILE_MODE)
    try:
        try:
            yield descriptor
            if synced:
                os.fsync(descriptor)
        finally:
            os.close(descriptor)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    if synced:
        sync_directory(path.parent)


def replace(path: Path, data: bytes, *, synced: bool = True) -> None:
    """Put `data` in the place of `path`: afterwards it holds the old bytes or the new ones, never a mixture."""
    with replacing(path, synced=synced) as descriptor:
        write_all(descriptor, data)


def delete(path: Path) -> None:
    """Delete a file durably; one that is gone already is fine."""
    path.unlink(missing_ok=True)
    sync_directory(path.parent)
