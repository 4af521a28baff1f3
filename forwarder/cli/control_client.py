"""How the command line reaches a running daemon: the control socket; for reading also the admin listener."""

import contextlib
import http.client
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click
import msgspec

from forwarder.config.model import Address, Config
from forwarder.control import short_path
from forwarder.core.report import Report
from forwarder.errors import DaemonUnreachable, ForwarderError

TIMEOUT_S = 10.0
CHANGE_TIMEOUT_S = 300.0
"""A replay waits for the disk."""
_Command = TypeVar("_Command", bound=Callable[..., object])


class CallRefused(ForwarderError):
    """The daemon answered with an error."""


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a unix stream socket."""

    def __init__(self, path: Path, timeout_s: float) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        """Connect to the socket instead of a host."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        with short_path(self._path) as name:
            self.sock.connect(name)


def config_option(command: _Command) -> _Command:
    """Add `--config`, passed on as `path`."""
    return click.option(
        "-c", "--config", "path", type=click.Path(path_type=Path), envvar="FORWARDER_CONFIG", help="The TOML file."
    )(command)


def load_config(path: Path | None) -> Config:
    """Return the configuration that `run` would use. Raises ConfigurationError."""
    from forwarder.config import loading  # noqa: PLC0415 (--help needs no configuration)

    return loading.load(path)[0]


def call(config: Config, method: str, path: str, body: object = None) -> Any:
    """Ask the daemon through the control socket; raise DaemonUnreachable, or CallRefused with its error."""
    where = Path(config.spool.directory) / "control.sock"
    timeout_s = TIMEOUT_S if method == "GET" else CHANGE_TIMEOUT_S
    try:
        return msgspec.json.decode(_exchange(_UnixConnection(where, timeout_s), method, path, body))
    except OSError as exc:
        raise DaemonUnreachable(f"no daemon answers at {where}: {_why(exc)}. {HINT}") from exc


def fetch_report(config: Config, timeout_s: float = TIMEOUT_S) -> Report:
    """Return the daemon's report from the control socket or, where that is not reachable, the admin listener.

    Each of the two is given `timeout_s`.
    """
    where = Path(config.spool.directory) / "control.sock"
    ways: list[tuple[str, http.client.HTTPConnection]] = [(str(where), _UnixConnection(where, timeout_s))]
    if config.listen.admin is not None:
        ways.append((config.listen.admin.label, _admin(config.listen.admin, timeout_s)))
    tried: list[str] = []
    for name, connection in ways:
        try:
            return _report(_exchange(connection, "GET", "/status", None))
        except OSError as exc:
            tried.append(f"{name}: {_why(exc)}")
    raise DaemonUnreachable(f"no daemon answers: {'; '.join(tried)}. {HINT}")


HINT = (
    'Is it running ("forwarder run", "systemctl status forwarder")? '
    "--config FILE asks the daemon of another configuration."
)


def _why(exc: OSError) -> str:
    if isinstance(exc, PermissionError):
        return "permission denied; ask as root or as the daemon's user"
    return exc.strerror or str(exc) or type(exc).__name__


def _admin(address: Address, timeout_s: float) -> http.client.HTTPConnection:
    if address.unix is not None:
        return _UnixConnection(Path(address.unix), timeout_s)
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(address.host or "", address.host)  # noqa: S104 (connecting)
    return http.client.HTTPConnection(host or "127.0.0.1", address.port, timeout=timeout_s)


def _exchange(connection: http.client.HTTPConnection, method: str, path: str, body: object) -> bytes:
    with contextlib.closing(connection):
        try:
            connection.request(method, path, None if body is None else msgspec.json.encode(body))
            answer = connection.getresponse()
            content = answer.read()
        except http.client.HTTPException as exc:
            raise ConnectionError(f"no HTTP answer ({type(exc).__name__})") from exc
    if answer.status >= 400:  # noqa: PLR2004 (an error)
        raise CallRefused(_error(content) or f"{method} {path} was answered {answer.status}")
    return content


def _error(content: bytes) -> str | None:
    with contextlib.suppress(msgspec.DecodeError, UnicodeDecodeError, KeyError, TypeError):
        return str(msgspec.json.decode(content)["error"])
    return None


def _report(content: bytes) -> Report:
    try:
        return msgspec.json.decode(content, type=Report)
    except (msgspec.DecodeError, UnicodeDecodeError) as exc:
        raise CallRefused(f"the daemon's report cannot be read; is it another version? {exc}") from exc
