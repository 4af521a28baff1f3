"""Which request is for which vendor and which form its body must have (vendor documentation and client sources)."""

import re
from collections.abc import Collection
from typing import Literal, get_args

import msgspec

Vendor = Literal["telemetrydeck", "encharge"]
VENDORS: tuple[Vendor, ...] = get_args(Vendor)

_TELEMETRYDECK = (
    # An array of signals, each naming its app.
    (re.compile(r"/v2(?:/namespace/[^/]+)?/?"), True, True),
    (re.compile(r"/v3/(?!w/?$)[^/]+/?"), True, True),
    # The first API: the app stands in the path.
    (re.compile(r"/api/v1/apps/(?P<app>[^/]+)/signals/multiple/?"), True, False),
    (re.compile(r"/api/v1/apps/(?P<app>[^/]+)/signals/?"), False, False),
    # The web SDK: one signal a request.
    (re.compile(r"/v[23]/w/?"), False, True),
)
_V1 = re.compile(r"/v1/?")
_ENCHARGE_KEY = re.compile(r"/v1/(?P<key>[^/]+)/?")


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """Where a request goes. `path` is what may be shown: a write key in it is hidden."""

    vendor: Vendor
    path: str
    array: bool
    """The body is an array; otherwise one object."""
    app: str | None = None
    """The app that the path names; then events need not."""
    names_app: bool = True
    """Every event must name its app."""
    key: str | None = None
    """The Encharge write key that was presented, by header or path."""


def find(path: str, token: str | None, vendors: Collection[Vendor]) -> Target | None:
    """Return the target of `path`; `token` is the X-Encharge-Token header. None: neither vendor serves this path.

    `/v1/` is served by both vendors. Without a token it is TelemetryDeck's, as long as that one is stood in for; the
    caller calls `encharge` when the body turns out to be an object.
    """
    if "telemetrydeck" in vendors:
        for pattern, array, names_app in _TELEMETRYDECK:
            if match := pattern.fullmatch(path):
                app = match.groupdict().get("app")
                return Target(vendor="telemetrydeck", path=path, array=array, app=app, names_app=names_app)
    if _V1.fullmatch(path):
        if "telemetrydeck" in vendors and (token is None or "encharge" not in vendors):
            return Target(vendor="telemetrydeck", path=path, array=True)
        return encharge(path, token)
    if "encharge" in vendors and (match := _ENCHARGE_KEY.fullmatch(path)):
        return encharge("/v1/{write-key}", token or match["key"])
    return None


def encharge(path: str, key: str | None) -> Target:
    """Return Encharge's target."""
    return Target(vendor="encharge", path=path, array=False, names_app=False, key=key)


def shared(target: Target) -> bool:
    """Return whether an object on this TelemetryDeck path would be Encharge's."""
    return _V1.fullmatch(target.path) is not None
