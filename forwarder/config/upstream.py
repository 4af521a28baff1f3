"""Where events go: the vendor's URL, and the proxy on the way there."""

import ipaddress
import re
from collections.abc import Mapping
from urllib.parse import SplitResult, urlsplit

from forwarder.config.address import is_loopback
from forwarder.config.mask import redacted
from forwarder.config.unfit import Unfit

_PROXY_FORMS = '"env", "none", or a URL such as "http://proxy.internal:3128"'


def url(raw: str) -> str:
    """Return `raw` if it can be a vendor's URL; raises Unfit."""
    expected = 'a URL such as "https://ingest.example.com"'
    parts = _split(raw, expected)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        meant = f'"https://{raw}"' if re.fullmatch(r"[\w.-]+(:\d+)?(/[\w./-]*)?", raw) else None
        raise Unfit(expected, meant, found=_shown(raw))
    if parts.username is not None or parts.password is not None:
        raise Unfit("a URL without user name and password", found=_shown(raw))
    if parts.query or parts.fragment or raw.endswith(("?", "#")):
        raise Unfit("a URL without query and fragment", found=_shown(raw))
    return raw


def proxy(raw: str) -> str:
    """Return `raw` if it can be the value of `proxy`; raises Unfit."""
    if raw in {"env", "none"}:
        return raw
    parts = _split(raw, _PROXY_FORMS)
    if parts.scheme.startswith("socks"):
        raise Unfit("an HTTP proxy, for SOCKS is not supported", found=_shown(raw))
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise Unfit(_PROXY_FORMS, found=_shown(raw))
    return raw


def proxy_from(environ: Mapping[str, str], target: str) -> tuple[str, str] | None:
    """Return (variable, value) of the proxy that the environment names for `target`, or None to connect directly.

    Lower-case names win, as curl has it. NO_PROXY lists `*`, host names (subdomains included), addresses and networks.
    """
    parts = urlsplit(target)
    host = parts.hostname or ""
    if is_loopback(host) or _excepted(host, parts.port, _either(environ, "no_proxy")[1]):
        return None
    variable, value = _either(environ, f"{parts.scheme}_proxy")
    if not value:
        return None
    return variable, value if "://" in value else f"http://{value}"


def _either(environ: Mapping[str, str], name: str) -> tuple[str, str]:
    for variable in (name, name.upper()):
        if value := environ.get(variable, "").strip():
            return variable, value
    return name, ""


def _excepted(host: str, port: int | None, exceptions: str) -> bool:
    return any(_matches(host.lower().rstrip("."), port, entry.strip().lower()) for entry in exceptions.split(","))


def _matches(host: str, port: int | None, entry: str) -> bool:
    if entry in {"", "*"}:
        return entry == "*"
    if not entry.startswith("[") and entry.count(":") == 1:
        entry, _, only = entry.partition(":")
        if only != str(port):
            return False
    try:
        return ipaddress.ip_address(host) in ipaddress.ip_network(entry.strip("[]"), strict=False)
    except ValueError:
        name = entry.removeprefix("*").lstrip(".")
        return host == name or host.endswith("." + name)


def _split(raw: str, expected: str) -> SplitResult:
    if not raw.isprintable() or " " in raw:
        raise Unfit(f"{expected}, without spaces", found=_shown(raw))
    try:
        parts = urlsplit(raw)
        _ = parts.port  # raises for a port that is none
    except ValueError as exc:
        raise Unfit(f"{expected}, with a valid host and port", found=_shown(raw)) from exc
    return parts


def _shown(raw: str) -> str:
    return f'"{redacted(raw)[:76]}"'
