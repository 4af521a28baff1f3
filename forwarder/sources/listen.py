"""From a configured address to bound sockets."""

import contextlib
import errno
import os
import shutil
import socket
import stat
from collections.abc import Sequence

import msgspec

from forwarder.config.address import is_loopback
from forwarder.config.model import Address, Listen
from forwarder.errors import ConfigurationError

_MISSING = frozenset((errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL, errno.EPROTONOSUPPORT))


class Bound(msgspec.Struct, frozen=True):
    """The sockets of one address; empty, with a note, where the machine has no IPv6."""

    sockets: Sequence[socket.socket]
    note: str = ""


def bind(address: Address, kind: socket.SocketKind, *, key: str) -> Bound:
    """Bind an address for streams or datagrams; `key` is the setting to name when it fails (ConfigurationError).

    Addresses of the form `systemd:NAME` are not bound but handed in by the service manager.
    """
    try:
        if address.unix is not None:
            return Bound([_bind_unix(address, address.unix, kind)])
        return _bind_ip(address, kind)
    except (OSError, LookupError) as exc:
        raise ConfigurationError([f"{key}: cannot listen on {address.label}: {_reason(exc)}"]) from exc


def unlink(address: Address, kind: socket.SocketKind) -> None:
    """Remove a unix socket's path once ours is closed, unless another process listens there by now."""
    path = address.unix
    if path is None:
        return
    with contextlib.suppress(OSError):
        if stat.S_ISSOCK(os.lstat(path).st_mode) and not _answers(path, kind):
            os.unlink(path)  # noqa: PTH108 - a socket's name, not a file of data


def permit(address: Address, *, key: str) -> None:
    """Give an open unix socket of ours the mode and group of `address` (reload); raises ConfigurationError."""
    if address.unix is None:
        return
    try:
        _set_permissions(address, address.unix)
    except (OSError, LookupError) as exc:
        raise ConfigurationError([f"{key}: cannot set mode and group of {address.label}: {_reason(exc)}"]) from exc


def check_reach(sock: socket.socket, settings: Listen, *, key: str) -> None:
    """Refuse a socket that was handed in bound beyond loopback, as the same address in the file would be.

    `key` is `http`, `udp` or `admin`; raises ConfigurationError.
    """
    if sock.family not in (socket.AF_INET, socket.AF_INET6):
        return
    host, port = sock.getsockname()[:2]
    allowed = key in settings.allow_remote or (key == "http" and settings.auth_token is not None)
    if allowed or is_loopback(str(host).partition("%")[0]):
        return
    token = "set listen.auth_token, or " if key == "http" else ""
    text = f"listen.{key}: the socket passed by the service manager is bound to {host} port {port}, reachable from"
    advice = f'bind it to loopback in the .socket unit, {token}allow it with listen.allow_remote = ["{key}"]'
    raise ConfigurationError([f"{text} other machines; {advice}"])


def _set_permissions(address: Address, path: str) -> None:
    if address.group is not None:
        shutil.chown(path, group=address.group)
    os.chmod(path, address.mode)  # noqa: PTH101 - a socket's name, not a file of data


def _bind_ip(address: Address, kind: socket.SocketKind) -> Bound:
    found = socket.getaddrinfo(address.host, address.port, type=kind, flags=socket.AI_PASSIVE)
    bound: list[socket.socket] = []
    note = ""
    for family, _, protocol, _, place in dict.fromkeys(found):
        try:
            bound.append(_bind_one(family, kind, protocol, place))
        except OSError as exc:
            if family != socket.AF_INET6 or exc.errno not in _MISSING:
                for sock in bound:
                    sock.close()
                raise
            note = f"{address.label} is not listened on: this machine has no IPv6 there ({exc.strerror})"
    return Bound(bound, note)


def _bind_one(family: int, kind: socket.SocketKind, protocol: int, place: tuple[object, ...]) -> socket.socket:
    sock = socket.socket(family, kind, protocol)
    try:
        sock.settimeout(0)
        if kind == socket.SOCK_STREAM:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(place)
    except OSError:
        sock.close()
        raise
    return sock


def _bind_unix(address: Address, path: str, kind: socket.SocketKind) -> socket.socket:
    """Bind under another name, then rename: nobody sees the socket without its mode, or a moment without it."""
    _check_path(path, kind)
    sock = socket.socket(socket.AF_UNIX, kind)
    fresh = f"{path}.{os.getpid()}"
    try:
        sock.settimeout(0)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(fresh)  # noqa: PTH108 - a socket's name, not a file of data
        _bind_private(sock, fresh)
        _set_permissions(address, fresh)
        if kind == socket.SOCK_STREAM:
            sock.listen()  # a connect between the rename and the server's own listen must not be refused
        os.rename(fresh, path)  # noqa: PTH104 - see above
    except (OSError, LookupError):
        sock.close()
        with contextlib.suppress(OSError):
            os.unlink(fresh)  # noqa: PTH108 - see above
        raise
    return sock


def _bind_private(sock: socket.socket, path: str) -> None:
    before = os.umask(0o177)
    try:
        sock.bind(path)
    finally:
        os.umask(before)


def _check_path(path: str, kind: socket.SocketKind) -> None:
    """Refuse a path that is somebody's: a file, or a socket that is listened on. A stale socket is replaced."""
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise OSError(errno.EEXIST, "the path exists and is not a socket: remove it or choose another")
    if _answers(path, kind):
        raise OSError(errno.EADDRINUSE, "another process listens there")


def _answers(path: str, kind: int) -> bool:
    with socket.socket(socket.AF_UNIX, kind) as probe:
        try:
            probe.connect(path)
        except OSError as exc:
            return exc.errno not in (errno.ECONNREFUSED, errno.ENOENT)
        return True


def _reason(exc: Exception) -> str:
    if isinstance(exc, OSError):
        if exc.errno == errno.EADDRINUSE:
            return "in use by another process (another forwarder?)"
        return exc.strerror or str(exc)
    return str(exc)
