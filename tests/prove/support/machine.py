"""A machine with a real systemd: systemd-nspawn booting a tree, on a host whose own PID 1 may be anything.

with Machine(tmp_path, tree) as machine:
    machine.run("systemctl", "start", "forwarder")
"""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

BOOT_S = 60.0
END_S = 60.0
HIERARCHIES = ("systemd", "unified")


class Machine:
    """Boots on top of a tree that stays as it is: what changes goes into an overlay, and survives a reboot."""

    def __init__(self, directory: Path, tree: Path) -> None:
        self.directory = directory / "machine"
        self.root = self.directory / "root"
        self._tree = tree
        self._name = f"fwd{os.getpid()}"
        self._nspawn: subprocess.Popen[bytes] | None = None
        self._leader = 0

    def __enter__(self) -> Self:
        for part in ("root", "upper", "work"):
            (self.directory / part).mkdir(parents=True)
        layers = f"lowerdir={self._tree},upperdir={self.directory}/upper,workdir={self.directory}/work"
        subprocess.run(["mount", "-t", "overlay", "overlay", "-o", layers, str(self.root)], check=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._nspawn is not None:
            self.cut()
        subprocess.run(["umount", "--lazy", str(self.root)], check=True)

    def boot(self) -> None:
        """Return when the system is up."""
        log = (self.directory / "console").open("ab")
        with log:
            self._nspawn = subprocess.Popen(
                [
                    *("systemd-nspawn", "-q", "-D", str(self.root), "--boot", "--register=no", "--keep-unit"),
                    *(f"--machine={self._name}", "--private-network", "--console=pipe"),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1"},
                preexec_fn=self._own_cgroup,  # noqa: PLW1509  no threads that matter before exec
            )
        deadline = time.monotonic() + BOOT_S
        while not self._up():
            assert time.monotonic() < deadline, f"it did not come up\n{self.console()[-3000:]}"
            assert self._nspawn.poll() is None, f"nspawn ended\n{self.console()[-3000:]}"
            time.sleep(0.1)  # another kernel's worth of processes: nothing to wait on

    def run(self, *command: str, check: bool = True, stdin: str | None = None) -> str:
        """Run a command inside; return its output, with its errors if it may fail."""
        done = subprocess.run([*self._enter, *command], capture_output=True, text=True, check=False, input=stdin or "")
        if check:
            said = f"{command}: {done.returncode}\n{done.stdout}\n{done.stderr}"
            assert done.returncode == 0, f"{said}\n{self.run('journalctl', '-b', '-n', '40', check=False)}"
            return done.stdout
        return done.stdout + done.stderr

    def start(self, *command: str, output: Path) -> subprocess.Popen[bytes]:
        """Start a command inside that goes on beside the test."""
        with output.open("wb") as stream:
            return subprocess.Popen([*self._enter, *command], stdin=subprocess.DEVNULL, stdout=stream, stderr=stream)

    def until(self, wanted: str, *command: str, timeout_s: float = 60.0) -> str:
        """Run a command until its output holds `wanted`; return the output."""
        deadline = time.monotonic() + timeout_s
        while wanted not in (output := self.run(*command, check=False)):
            if time.monotonic() > deadline:
                journal = self.run("journalctl", "-b", "-n", "40", check=False)
                raise AssertionError(f"{wanted!r} never came from {command}; last:\n{output[-4000:]}\n{journal}")
            time.sleep(0.1)  # what is waited for happens in another process tree
        return output

    def show(self, unit: str, name: str) -> str:
        """Return a property of a unit."""
        return self.run("systemctl", "show", "--value", "-p", name, unit).strip()

    def host_pid(self, inner: str) -> int:
        """Return the host's number of a process that is `inner` inside."""
        for status in Path("/proc").glob("[0-9]*/status"):
            with contextlib.suppress(OSError):
                fields = dict(line.split(":\t", 1) for line in status.read_text().splitlines() if ":\t" in line)
                numbers = fields.get("NSpid", "").split()
                if numbers[1:2] == [inner] and self._inside(status.parent):
                    return int(numbers[0])
        raise AssertionError(f"no process {inner} inside")

    def power_off(self) -> None:
        """Shut down as an operator does, and wait for the end."""
        self.run("systemctl", "poweroff", check=False)
        self._wait()

    def cut(self) -> None:
        """End the machine at once: every process of it is killed."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._leader or self._pid, signal.SIGKILL)
        self._wait()

    def console(self) -> str:
        """Return what the machine printed."""
        return (self.directory / "console").read_text(errors="replace")

    @property
    def _pid(self) -> int:
        assert self._nspawn is not None
        return self._nspawn.pid

    @property
    def _enter(self) -> Sequence[str]:
        return ("nsenter", "-t", str(self._leader), "-a")

    def _inside(self, process: Path) -> bool:
        return (process / "ns/pid").readlink() == Path(f"/proc/{self._leader}/ns/pid").readlink()

    def _up(self) -> bool:
        self._leader = self._leader or self._find_leader()
        if not self._leader:
            return False
        return self.run("systemctl", "is-system-running", check=False).strip() in ("running", "degraded")

    def _find_leader(self) -> int:
        children = Path(f"/proc/{self._pid}/task").glob("*/children")
        with contextlib.suppress(OSError):
            for child in " ".join(path.read_text() for path in children).split():
                if Path(f"/proc/{child}/comm").read_text().strip() == "systemd":
                    return int(child)
        return 0

    def _own_cgroup(self) -> None:
        for hierarchy in self._cgroups():
            hierarchy.mkdir(exist_ok=True)
            (hierarchy / "cgroup.procs").write_text(str(os.getpid()))

    def _cgroups(self) -> list[Path]:
        """Return a cgroup of our own in every hierarchy that systemd uses, so that machines can run side by side."""
        top = Path("/sys/fs/cgroup")
        hierarchies = [top / name for name in HIERARCHIES if (top / name).is_dir()]
        return [hierarchy / self._name for hierarchy in hierarchies or [top]]

    def _wait(self) -> None:
        assert self._nspawn is not None
        try:
            self._nspawn.wait(END_S)
        except subprocess.TimeoutExpired:
            self._nspawn.kill()
            self._nspawn.wait()
            raise
        finally:
            self._nspawn, self._leader = None, 0
            for group in self._cgroups():
                for path in sorted(group.rglob("*"), reverse=True):
                    with contextlib.suppress(OSError):
                        path.rmdir()
                with contextlib.suppress(OSError):
                    group.rmdir()
