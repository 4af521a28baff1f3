"""A request's head: what llhttp does not check, and the few headers that mean something to us. Pure."""

from collections.abc import Mapping, Sequence
from urllib.parse import parse_qsl, unquote_to_bytes

import msgspec

from forwarder.sources.answers import Denial

MAX_HEAD = 32 * 1024
"""Bytes from the first one of the method up to the empty line, both included; the reader counts them."""
MAX_QUERY_FIELDS = 32
MAX_DIGITS = 20
"""Of a Content-Length, zeros before it apart; llhttp takes none over 64 bits."""

ONCE = frozenset(
    (
        b"host",
        b"content-length",
        b"transfer-encoding",
        b"content-encoding",
        b"expect",
        b"origin",
        b"sec-fetch-site",
        b"authorization",
        b"x-forwarder-token",
        b"x-encharge-token",
        b"forwarder-ack",
        b"access-control-request-private-network",
    )
)
"""Headers that are read, and no others; giving one twice is ambiguous and refused."""


class Head(msgspec.Struct, frozen=True, kw_only=True):
    """One request's head, checked. `length` is None for a chunked body."""

    method: str
    target: bytes
    path: str
    query: Mapping[str, str]
    old: bool
    """HTTP/1.0."""
    hosts: tuple[str, ...]
    """The Host header and the authority of an absolute target, where given."""
    length: int | None
    fields: Mapping[bytes, bytes]
    """The headers of `ONCE` that were given."""

    def text(self, name: bytes) -> str | None:
        """Return a header as text, or None."""
        value = self.fields.get(name)
        return None if value is None else value.decode("latin-1")


def read(method: str, target: bytes, version: str, headers: Sequence[tuple[bytes, bytes]]) -> Head | Denial:
    """Check a head; every denial closes the connection, because what follows cannot be trusted."""
    fields = _hopeless(method, version) or _fields(headers)
    if isinstance(fields, Denial):
        return fields
    old = version == "1.0"
    problem = _framing(fields, old=old)
    if problem is not None:
        return _bad(problem, "bad_framing")
    parts = _split(target)
    if parts is None:
        return _bad("the request target is not a path or an absolute http URL", "bad_target")
    authority, path, query = parts
    host = fields.get(b"host")
    return Head(
        method=method,
        target=target,
        path=path,
        query=query,
        old=old,
        hosts=tuple(each.decode("latin-1") for each in (host, authority) if each is not None),
        length=None if b"transfer-encoding" in fields else _number(fields.get(b"content-length", b"0")),
        fields=fields,
    )


def _hopeless(method: str, version: str) -> Denial | None:
    if method == "CONNECT":
        return Denial(status=405, error="this is no proxy", reason="method", headers=b"Allow: POST\r\n", close=True)
    if method == "SOURCE":
        return _bad("SOURCE is Icecast's method, not HTTP's", "bad_http")  # llhttp takes ICE/1.0 with it
    if version not in ("1.0", "1.1"):
        return _bad(f"HTTP/{version} is not spoken here, only 1.0 and 1.1", "http_version", status=505)
    return None


def too_long() -> Denial:
    """Return the answer to a head over the limit."""
    return _bad(f"the request's head is larger than {MAX_HEAD} bytes", "head_too_large", status=431)


def _bad(error: str, reason: str, status: int = 400) -> Denial:
    return Denial(status=status, error=error, reason=reason, close=True)


def _fields(headers: Sequence[tuple[bytes, bytes]]) -> dict[bytes, bytes] | Denial:
    fields: dict[bytes, bytes] = {}
    for name, value in headers:
        lower = name.lower()
        if lower in ONCE:
            if lower in fields:
                return _bad(f"the header {lower.decode()} was given twice", "bad_framing")
            fields[lower] = value.strip(b" \t")
    return fields


def _framing(fields: Mapping[bytes, bytes], *, old: bool) -> str | None:
    """Return what is wrong with Host, Transfer-Encoding or Content-Length."""
    if not old and b"host" not in fields:
        return "HTTP/1.1 needs a Host header"
    coding, length = fields.get(b"transfer-encoding"), fields.get(b"content-length")
    if coding is not None:
        if old:
            return "Transfer-Encoding needs HTTP/1.1"
        if coding.lower() != b"chunked":
            return "Transfer-Encoding must be exactly: chunked"
        if length is not None:
            return "Content-Length and Transfer-Encoding exclude each other"
    if length is not None and not (length.isdigit() and len(length.lstrip(b"0")) <= MAX_DIGITS):
        return "Content-Length must be a decimal number"
    return None


def _number(digits: bytes) -> int:
    """Return the number; zeros before it are no reason to count digits, which Python does and raises."""
    return int(digits.lstrip(b"0") or b"0")


def _split(target: bytes) -> tuple[bytes | None, str, dict[str, str]] | None:
    """Return (authority of an absolute target, decoded path, query), or None when it is malformed."""
    authority = None
    if not target.startswith(b"/") and target != b"*":
        scheme, found, rest = target.partition(b"://")
        if not found or scheme.lower() not in (b"http", b"https"):
            return None
        end = min((at for at in (rest.find(b"/"), rest.find(b"?")) if at >= 0), default=len(rest))
        authority, target = rest[:end], rest[end:]
        if not authority or b"@" in authority:
            return None
    if b"#" in target:
        return None
    raw_path, _, raw_query = target.partition(b"?")
    try:
        path = unquote_to_bytes(raw_path).decode() or "/"
        query = dict(parse_qsl(raw_query.decode(), keep_blank_values=True, max_num_fields=MAX_QUERY_FIELDS))
    except ValueError:
        return None
    return authority, path, query
