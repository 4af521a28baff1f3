"""What is measured and what it is measured against: each started on the daemon's core, on an empty directory."""

import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import msgspec

from benchmarks.machine import DAEMON_CORE, LOAD_CORE, need
from benchmarks.process import Child, free_port

ROOT = Path(__file__).parent.parent


class Running(msgspec.Struct, frozen=True, kw_only=True):
    """A subject with its receiver, both listening."""

    child: Child
    url: str
    port: int
    receiver_port: int
    admin_port: int = 0


Starter = Callable[[ExitStack, Path, str, int], Running]
"""(stack that ends it, empty directory, durability, receiver's port) → running."""


def daemon_config(directory: Path, *, receiver_port: int, durability: str = "fsync", extra: str = "") -> str:
    """Return a configuration that is all defaults but for addresses (and what a case states in `extra`)."""
    port, admin = free_port(), free_port()
    return f"""
[listen]
http = ["127.0.0.1:{port}"]
udp = ["127.0.0.1:{port}"]
admin = "127.0.0.1:{admin}"
[spool]
directory = "{directory}/spool"
durability = "{durability}"
{extra}
[destinations.telemetrydeck]
kind = "telemetrydeck"
url = "http://127.0.0.1:{receiver_port}"
"""


def start_daemon(stack: ExitStack, directory: Path, config: str, *arguments: str) -> Running:
    """Start `forwarder run` with this configuration."""
    path = directory / "forwarder.toml"
    path.write_text(config, encoding="utf-8")
    command = [sys.executable, "-m", "forwarder", "run", "--config", str(path), *arguments]
    child = stack.enter_context(Child(command, core=DAEMON_CORE, log=directory / "daemon.log"))
    port, admin = (int(port_in(config, key)) for key in ("http = [", "admin = "))
    child.wait_for_port(port)
    return Running(
        child=child,
        url=f"http://127.0.0.1:{port}",
        port=port,
        admin_port=admin,
        receiver_port=int(port_in(config, "url = ")),
    )


def port_in(config: str, key: str) -> str:
    """Return the port of the address that follows `key`."""
    return config.partition(key)[2].partition("\n")[0].rpartition(":")[2].strip('"]')


def forwarder(stack: ExitStack, directory: Path, durability: str, receiver_port: int) -> Running:
    """Start the real daemon with default settings."""
    return start_daemon(stack, directory, daemon_config(directory, receiver_port=receiver_port, durability=durability))


def aiohttp_door(stack: ExitStack, directory: Path, durability: str, receiver_port: int) -> Running:
    """Start the door built on aiohttp.web over the same spool."""
    config = daemon_config(directory, receiver_port=receiver_port, durability=durability)
    path = directory / "forwarder.toml"
    path.write_text(config, encoding="utf-8")
    return _python(stack, directory, "aiohttp_door", int(port_in(config, "http = [")), receiver_port, str(path))


def prototype(stack: ExitStack, directory: Path, durability: str, receiver_port: int) -> Running:
    """Start the bare prototype (it delivers nothing)."""
    port = free_port()
    return _python(stack, directory, "prototype", port, receiver_port, str(port), str(directory), durability)


def sqlite_forwarder(stack: ExitStack, directory: Path, durability: str, receiver_port: int) -> Running:
    """Start the 60-line forwarder; it knows one durability."""
    if durability != "fsync":
        raise ValueError(durability)
    port = free_port()
    url = f"http://127.0.0.1:{receiver_port}"
    return _python(stack, directory, "sqlite_forwarder", port, receiver_port, str(port), str(directory), url)


def _python(stack: ExitStack, directory: Path, module: str, port: int, receiver: int, *arguments: str) -> Running:
    command = [sys.executable, "-m", f"benchmarks.{module}", *arguments]
    child = stack.enter_context(Child(command, core=DAEMON_CORE, log=directory / f"{module}.log"))
    child.wait_for_port(port)
    return Running(child=child, url=f"http://127.0.0.1:{port}", port=port, receiver_port=receiver)


@contextmanager
def receiver(directory: Path) -> Iterator[int]:
    """Run the stand-in receiver on the load's core; its port."""
    need("taskset")
    port = free_port()
    command = [sys.executable, "-m", "benchmarks.receiver", str(port)]
    with Child(command, core=LOAD_CORE, log=directory / "receiver.log") as child:
        child.wait_for_port(port)
        yield port


@contextmanager
def scratch(root: Path) -> Iterator[Path]:
    """Provide an empty directory on the measured volume, and remove it."""
    path = root / "scratch"
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir(parents=True)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
