"""A small real file system on a loop device, with real trouble to order: power cuts, no space, read-only.

The mount point's name ends in the id of the process that made it, so that the next run can take away what one that was
killed has left.
"""

import errno
import fcntl
import os
import re
import shutil
import struct
import subprocess
from pathlib import Path
from typing import Self

import pytest

_SHUTDOWN = 0x8004587D
_NO_LOG_FLUSH = 2
MIB = 1024 * 1024
_LEAST = {"ext4": 16 * MIB, "xfs": 320 * MIB}
_PACKAGE = {"ext4": "e2fsprogs", "xfs": "xfsprogs"}
_NAME = "forwarder-proof"
_LEFT = re.compile(rf"/[^ ]*/{_NAME}-[a-z0-9]+-(\d+)(?= )")


class Volume:
    """`with Volume(directory, "ext4") as volume`: a file system mounted at `volume.path`."""

    def __init__(self, directory: Path, kind: str = "ext4", *, size: int = 0) -> None:
        self.path = directory / f"{_NAME}-{kind}-{os.getpid()}"
        self._image = directory / f"{kind}.image"
        self._kind = kind
        self._size = max(size, _LEAST[kind])
        if os.geteuid() != 0:
            pytest.skip("needs root to mount")
        if not Path("/dev/loop-control").exists():
            pytest.skip("needs loop devices")
        if shutil.which(f"mkfs.{kind}") is None:
            pytest.skip(f"needs mkfs.{kind} (apt-get install {_PACKAGE[kind]})")

    def __enter__(self) -> Self:
        take_away_what_is_left()
        self.path.mkdir()
        with self._image.open("wb") as image:
            image.truncate(self._size)
        quiet = ["-q", "-m", "0"] if self._kind == "ext4" else ["-q"]
        _run(f"mkfs.{self._kind}", *quiet, str(self._image))
        try:
            self.mount()
        except subprocess.CalledProcessError as exc:
            pytest.skip(f"cannot mount {self._kind} here: {exc.stderr.decode().strip()}")
        return self

    def __exit__(self, *_: object) -> None:
        _take_away(self.path)

    def mount(self) -> None:
        """Mount it (again)."""
        _run("mount", "-o", "loop", str(self._image), str(self.path))

    def unmount(self) -> None:
        """Unmount it; whoever used it must be gone."""
        _run("umount", str(self.path))

    def cut_power(self) -> None:
        """Drop everything that is not on the disk yet; from now on every operation fails with EIO."""
        descriptor = os.open(self.path, os.O_RDONLY)
        try:
            fcntl.ioctl(descriptor, _SHUTDOWN, struct.pack("I", _NO_LOG_FLUSH))
        finally:
            os.close(descriptor)

    def power_on(self) -> None:
        """Mount what the power cut left."""
        self.unmount()
        self.mount()

    def repair(self) -> None:
        """Unmount, check and repair, mount: what an operator does after an abort."""
        self.unmount()
        subprocess.run(["e2fsck", "-fy", str(self._image)], check=False, capture_output=True, timeout=60)
        self.mount()

    def fill(self, leave: int = 0) -> Path:
        """Let somebody else's file take all space but `leave` bytes; return it."""
        ballast = self.path / "somebody-elses-file"
        with ballast.open("ab", buffering=0) as file:
            for step in (MIB, 4096):
                try:
                    while self.free > leave + step:
                        file.write(bytes(step))
                except OSError as exc:
                    if exc.errno != errno.ENOSPC:
                        raise
            os.fsync(file.fileno())
        return ballast

    @property
    def free(self) -> int:
        """Return the bytes that are free."""
        found = os.statvfs(self.path)
        return found.f_bavail * found.f_frsize

    def make_read_only(self) -> None:
        """Lay a read-only mount of the same file system over it: what is opened from now on is read-only."""
        _run("mount", "--bind", str(self.path), str(self.path))
        _run("mount", "-o", "remount,bind,ro", str(self.path))

    def abort(self) -> None:
        """Let the file system give up, as it does when it finds itself damaged: it is read-only until mounted anew."""
        _run("mount", "-o", "remount,abort", str(self.path))

    def make_writable(self) -> None:
        """Take the read-only mount away."""
        _run("umount", str(self.path))


def take_away_what_is_left() -> None:
    """Unmount what runs that were killed have left; their loop devices go with the mounts."""
    for path, owner in {match[0]: match[1] for match in _LEFT.finditer(_mounts())}.items():
        if not Path("/proc", owner).exists():
            _take_away(Path(path))


def _take_away(path: Path) -> None:
    while f" {path} " in _mounts():  # after a power cut nothing else can be asked
        _run("umount", "--lazy", str(path))


def _mounts() -> str:
    return Path("/proc/self/mountinfo").read_text()


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, timeout=60)
