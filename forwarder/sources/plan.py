"""What to do with a request, decided when its head is complete: everything but the body. Pure but for its cache."""

from collections.abc import Sequence
from http import HTTPStatus

import msgspec

from forwarder.config.model import Listen
from forwarder.core.seams import Durability
from forwarder.sources import answers, body, head, terms
from forwarder.sources.answers import Denial, Shape
from forwarder.sources.gate import Gate
from forwarder.vendors.base import BadRequest, Route, Router

SMALL_BODY = 2 * 1024
"""Bytes of a body that may be checked together with others."""
ROUTES = 1024
"""Resolved routes kept; at the limit all are forgotten. Not kept: refusals, and targets that hold a write key."""
_ALLOW = b"Allow: POST, OPTIONS\r\n"
_ALLOW_ROOT = b"Allow: GET, HEAD, POST, OPTIONS\r\n"
_OPTIONS = {"*": _ALLOW, "/": _ALLOW_ROOT}
"""What OPTIONS says where no events go."""
_HELLO = b'{"forwarder":"POST events to /events, or point a TelemetryDeck or Encharge client at this address"}'
_PREFLIGHT = (
    b"Access-Control-Allow-Methods: POST\r\n"
    b"Access-Control-Allow-Headers: Content-Type, Content-Encoding, Authorization, X-Forwarder-Token, "
    b"X-Encharge-Token, Forwarder-Ack\r\n"
    b"Access-Control-Max-Age: 600\r\n"
)


class Fixed(msgspec.Struct, frozen=True):
    """An answer that needs no events."""

    status: int
    body: bytes = b""
    extra: bytes = b""


class Accept(msgspec.Struct, frozen=True):
    """Check the body with this route and submit what it holds."""

    route: Route
    terms: terms.Terms
    key: bytes | None = None
    """The Encharge write key of the header."""
    small: int = 0
    """Bytes up to which a body may be checked together with others (turn.py)."""


class Plan(msgspec.Struct, frozen=True):
    """One request whose framing is sound: how its body comes, what to do with it, how to answer."""

    action: Accept | Fixed | Denial
    shape: Shape
    length: int | None
    """Content-Length; None for a chunked body."""
    coding: str = ""
    expect: bool = False


class Rules:
    """The settings in force. Replaced as a whole at reload; plans made by older rules run to their end."""

    def __init__(self, *, router: Router, settings: Listen, durability: Durability, token: str | None) -> None:
        self.settings = settings
        self.token = token
        self.router = router
        self.durability = durability
        self._routes: dict[tuple[bytes, bool], Route] = {}
        self._origins = self.gate(loopback=False, tcp=False)

    def gate(self, *, loopback: bool, tcp: bool) -> Gate:
        """Return the gate of one listener."""
        return Gate(
            check_host=loopback and tcp,
            check_token=tcp and self.settings.auth_token is not None,
            hosts=self.settings.allowed_hosts,
            origins=self.settings.allowed_origins,
        )

    def plan(
        self,
        guard: Gate,
        method: str,
        target: bytes,
        version: str,
        headers: Sequence[tuple[bytes, bytes]],
        *,
        keep: bool,
    ) -> Plan | Denial:
        """Decide; a Denial by itself means that the head's framing is wrong."""
        request = head.read(method, target, version, headers)
        if isinstance(request, Denial):
            return request
        passed = guard.check(request, self.token)
        action = passed.denial or self._decide(request, cors=bool(passed.cors))
        if isinstance(action, Fixed):
            action = _expectation(request) or action
        shape = Shape(passed.cors, not keep, request.old, request.method == "HEAD")
        return Plan(
            action,
            answers.PLAIN if shape == answers.PLAIN else shape,
            request.length,
            body.CODINGS.get(_coding(request), ""),
            b"expect" in request.fields and not request.old,
        )

    def cors(self, headers: Sequence[tuple[bytes, bytes]]) -> bytes:
        """Return the CORS headers for a request whose head is wrong or not whole, by the headers that came."""
        origins = [value.strip(b" \t") for name, value in headers if name.lower() == b"origin"]
        if len(origins) != 1:
            return b""
        fields = {b"origin": origins[0]}
        request = head.Head(method="", target=b"", path="", query={}, old=False, hosts=(), length=None, fields=fields)
        return self._origins.check(request, None).cors

    def _decide(self, request: head.Head, *, cors: bool) -> Accept | Fixed | Denial:
        if request.method == "OPTIONS" and request.path in _OPTIONS:
            return _preflight(request, cors=cors, allow=_OPTIONS[request.path])
        if request.method not in ("POST", "OPTIONS"):
            return self._other_method(request)
        route = self._resolve(request)
        if isinstance(route, BadRequest):
            return answers.denied(route)
        if request.method == "OPTIONS":
            return _preflight(request, cors=cors)
        return self._body_denial(request) or self._accept(request, route)

    def _other_method(self, request: head.Head) -> Fixed | Denial:
        """Answer what brings no events: GET at the root; else 405 where the path exists, whatever the query, or 404."""
        if request.path == "/":
            if request.method in ("GET", "HEAD"):
                return Fixed(HTTPStatus.OK, _HELLO)
            return Denial(status=405, error="send events to /events", reason="method", headers=_ALLOW_ROOT)
        route = self.router.resolve(request.path, {}, encharge_token=b"x-encharge-token" in request.fields)
        if isinstance(route, BadRequest):
            return answers.denied(route)
        return Denial(status=405, error="events are sent with POST", reason="method", headers=_ALLOW)

    def _accept(self, request: head.Head, route: Route) -> Accept | Denial:
        wanted = terms.read(request, configured=self.durability, allow_lower=self.settings.allow_lower_ack)
        if isinstance(wanted, Denial):
            return wanted
        key = request.fields.get(b"x-encharge-token")
        together = route.together and key is None and wanted.level is not Durability.DELIVERED
        return Accept(route, wanted, key, SMALL_BODY if together else 0)

    def _body_denial(self, request: head.Head) -> Denial | None:
        coding = _coding(request)
        if coding not in body.CODINGS:
            return Denial(
                status=415,
                error=f"the content encoding {coding[:40]!r} is not understood, only gzip, deflate and identity",
                reason="content_encoding",
                headers=b"Accept-Encoding: gzip, deflate\r\n",
            )
        if request.length is not None and request.length > self.settings.max_body:
            return body.too_large()
        return _expectation(request)

    def _resolve(self, request: head.Head) -> Route | BadRequest:
        key = (request.target, b"x-encharge-token" in request.fields)
        route = self._routes.get(key)
        if route is None:
            found = self.router.resolve(request.path, terms.others(request), encharge_token=key[1])
            if isinstance(found, BadRequest) or not found.cacheable:
                return found
            if len(self._routes) >= ROUTES:
                self._routes.clear()
            route = self._routes[key] = found
        return route


def _expectation(request: head.Head) -> Denial | None:
    if not request.old and request.fields.get(b"expect", b"100-continue").lower() != b"100-continue":
        return Denial(status=417, error="only Expect: 100-continue can be met", reason="expect", close=True)
    return None


def _coding(request: head.Head) -> str:
    return request.fields.get(b"content-encoding", b"").decode("latin-1").lower()


def _preflight(request: head.Head, *, cors: bool, allow: bytes = _ALLOW) -> Fixed:
    if not cors:
        return Fixed(HTTPStatus.NO_CONTENT, extra=allow)
    private = request.fields.get(b"access-control-request-private-network", b"").lower() == b"true"
    extra = b"Access-Control-Allow-Private-Network: true\r\n" if private else b""
    return Fixed(HTTPStatus.NO_CONTENT, extra=allow + _PREFLIGHT + extra)
