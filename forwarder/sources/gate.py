"""Who may ask at all: DNS rebinding (Host), browsers' cross-site requests (Origin, Sec-Fetch-Site), the token. Pure.

`Sec-Fetch-Mode` is not looked at: Node's fetch sends it.
"""

import hmac
import ipaddress
from collections.abc import Iterable

import msgspec

from forwarder.sources.answers import Denial
from forwarder.sources.head import Head

_SHOWN = 200
"""Characters of a foreign Host or Origin that an error repeats."""
_CROSS = frozenset((b"cross-site", b"same-site"))
_EXPOSE = b"Access-Control-Expose-Headers: Forwarder-Ack, Forwarder-Refused, Retry-After\r\n"


class Pass(msgspec.Struct, frozen=True):
    """What the gate says: `denial` is None for a welcome request; `cors` goes into every answer, errors too."""

    denial: Denial | None
    cors: bytes


class Gate:
    """The checks of one listener. `check_host`: loopback TCP only; `check_token`: TCP only, when one is configured."""

    def __init__(
        self,
        *,
        check_host: bool,
        check_token: bool,
        hosts: Iterable[str],
        origins: Iterable[str],
    ) -> None:
        self._check_host = check_host
        self._check_token = check_token
        self._hosts = frozenset(host.lower() for host in hosts)
        self._origins = frozenset(origin.lower().rstrip("/") for origin in origins)

    def check(self, head: Head, token: str | None) -> Pass:
        """Judge a head; a preflight needs no token because browsers never send one with it."""
        origin = head.text(b"origin")
        cors = b""
        if origin is not None and origin.lower() in self._origins:
            cors = b"Access-Control-Allow-Origin: %s\r\nVary: Origin\r\n%s" % (origin.encode("latin-1"), _EXPOSE)
        denial = self._host(head) or self._browser(head, origin, allowed=bool(cors))
        if denial is None and self._check_token and head.method != "OPTIONS":
            denial = _token(head, token)
        return Pass(denial, cors)

    def _host(self, head: Head) -> Denial | None:
        if not self._check_host:
            return None
        for host in head.hosts:
            name = _name(host)
            if not (_local(name) or name in self._hosts or host.lower() in self._hosts):
                return _forbidden(f"the host {host[:_SHOWN]!r} is not in listen.allowed_hosts", "foreign_host")
        return None

    def _browser(self, head: Head, origin: str | None, *, allowed: bool) -> Denial | None:
        if allowed:
            return None
        if origin is not None and not _same(origin, head):
            return _forbidden(f"the origin {origin[:_SHOWN]!r} is not in listen.allowed_origins", "foreign_origin")
        if head.fields.get(b"sec-fetch-site", b"").lower() in _CROSS:
            return _forbidden(
                "a browser's cross-site request without an origin that is in listen.allowed_origins", "cross_site"
            )
        return None


def _name(host: str) -> str:
    """Return the host without its port, lower case, without brackets or a final dot."""
    if host.startswith("["):
        name, bracket, port = host[1:].partition("]")
        return name.lower() if bracket and (port in ("", ":") or (port[0] == ":" and port[1:].isdigit())) else host
    name, _, port = host.partition(":")
    return name.lower().removesuffix(".") if not port or port.isdigit() else host


def _local(name: str) -> bool:
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return bool((mapped or address).is_loopback)


def _same(origin: str, head: Head) -> bool:
    """Return whether the origin is this very listener, as the client addresses it."""
    scheme, _, authority = origin.lower().partition("://")
    return scheme in ("http", "https") and bool(head.hosts) and all(authority == host.lower() for host in head.hosts)


def _token(head: Head, token: str | None) -> Denial | None:
    """Compare in constant time. A token that is configured but cannot be read lets nobody in."""
    given = head.fields.get(b"x-forwarder-token")
    if given is None:
        scheme, _, rest = head.fields.get(b"authorization", b"").partition(b" ")
        given = rest.strip() if scheme.lower() == b"bearer" else b""
    if token and hmac.compare_digest(given, token.encode()):
        return None
    return Denial(
        status=401,
        error="this listener needs its token (listen.auth_token): Authorization: Bearer … or X-Forwarder-Token",
        reason="unauthorized",
        headers=b"WWW-Authenticate: Bearer\r\n",
    )


def _forbidden(error: str, reason: str) -> Denial:
    return Denial(status=403, error=error, reason=reason)
