"""Addresses to listen on, as operators write them."""

import ipaddress
import re
from collections.abc import Mapping

from forwarder.config.model import Address
from forwarder.config.unfit import Unfit, closest

TCP = 'an address such as "127.0.0.1:8765", "[::1]:8765"'
UNIX = '{ unix = "/run/forwarder/http.sock", mode = "0660", group = "www-data" }'
SYSTEMD = '"systemd:NAME"'
_HOST_NAME = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63})*\.?", re.ASCII)
_SYSTEMD_NAME = re.compile(r"[\x21-\x39\x3b-\x7e]{1,255}")
_LONGEST_PATH = 107  # bytes of sun_path, without its closing zero


def parse(raw: object, expected: str) -> Address:
    """Return the address that `raw` (a string or a table) stands for; raises Unfit."""
    if isinstance(raw, dict):
        return _table(raw)
    if not isinstance(raw, str):
        raise Unfit(expected, f'"127.0.0.1:{raw}"' if _is_port(raw) else None)
    scheme, colon, rest = raw.partition(":")
    if colon and scheme == "systemd":
        if not _SYSTEMD_NAME.fullmatch(rest):
            raise Unfit(f"{SYSTEMD} with the FileDescriptorName of a socket unit")
        return Address(systemd=rest)
    if colon and scheme == "unix":
        return Address(unix=_path(rest))
    if raw.startswith("/"):
        raise Unfit(expected, f'"unix:{raw}"')
    return _host_and_port(raw, expected)


def is_loopback(host: str) -> bool:
    """Return whether `host` (a name or an IP literal) can only be this machine."""
    name = host.lower().rstrip(".")
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback


def overlap(first: Address, second: Address) -> bool:
    """Return whether two listeners of one transport cannot both be bound."""
    if first.unix or second.unix:
        return first.unix == second.unix
    if first.systemd or second.systemd:
        return first.systemd == second.systemd
    if first.port != second.port or first.port == 0:
        return False
    return any(_clash(one, two) for one in _bound(first.host or "") for two in _bound(second.host or ""))


_Bound = ipaddress.IPv4Address | ipaddress.IPv6Address | str


def _bound(host: str) -> tuple[_Bound, ...]:
    """Return the addresses that binding `host` takes, or its name when that is for DNS to say."""
    name = host.lower().rstrip(".")
    if name == "localhost":
        return ipaddress.IPv4Address("127.0.0.1"), ipaddress.IPv6Address("::1")
    try:
        return (ipaddress.ip_address(name),)
    except ValueError:
        return (name,)


def _clash(one: _Bound, two: _Bound) -> bool:
    if one == two:
        return True
    if isinstance(one, str) or isinstance(two, str):
        return False
    return one.version == two.version and (one.is_unspecified or two.is_unspecified)


def _host_and_port(raw: str, expected: str) -> Address:
    host, colon, port = raw.rpartition(":")
    if not colon:
        raise Unfit(expected, f'"127.0.0.1:{raw}"' if _is_port(raw) else None)
    if not _is_port(port):
        raise Unfit(f"{expected}, the port from 0 to 65535")
    if host.startswith("[") and host.endswith("]"):
        return Address(host=_literal(host[1:-1], expected), port=int(port))
    if ":" in host:
        raise Unfit(expected, f'"[{host}]:{port}"')
    if host in {"", "*"}:
        raise Unfit(f"{expected}, the host spelled out", f'"127.0.0.1:{port}"')
    if host.replace(".", "").isdigit():
        return Address(host=_literal(host, expected), port=int(port))
    if not _HOST_NAME.fullmatch(host):
        raise Unfit(expected)
    return Address(host=host, port=int(port))


def _literal(host: str, expected: str) -> str:
    try:
        ipaddress.ip_address(host)
    except ValueError as exc:
        raise Unfit(f"{expected}; {host} is not an IP address") from exc
    return host


def _is_port(raw: object) -> bool:
    if isinstance(raw, bool) or not isinstance(raw, int | str):
        return False
    text = str(raw)
    return text.isascii() and text.isdigit() and len(text) <= 5 and int(text) <= 0xFFFF  # noqa: PLR2004 - digits of 65535


def _table(raw: Mapping[str, object]) -> Address:
    known = ("unix", "mode", "group")
    for key in raw:
        if key not in known:
            raise Unfit(f"{UNIX} without {key!r}", closest(key, known))
    path = raw.get("unix")
    if not isinstance(path, str):
        raise Unfit(UNIX)
    group = raw.get("group")
    if group is not None and (not isinstance(group, str) or not group):
        raise Unfit(f"{UNIX}, group as a string")
    return Address(unix=_path(path), mode=_mode(raw.get("mode", "0660")), group=group)


def _mode(raw: object) -> int:
    if not isinstance(raw, str) or not re.fullmatch(r"0?[0-7]{3}", raw):
        raise Unfit(f'{UNIX}, mode as a string of octal digits such as "0660"')
    return int(raw, 8)


def _path(path: str) -> str:
    if not path.startswith("/") or "\0" in path:
        raise Unfit("an absolute path of a unix socket")
    if len(path.encode()) > _LONGEST_PATH:
        raise Unfit(f"the path of a unix socket of at most {_LONGEST_PATH} bytes")
    return path
