"""TelemetryDeck's ingest paths: which of them a request came to, and their canonical form with a trailing slash."""

from collections.abc import Sequence
from typing import Literal
from urllib.parse import quote

import msgspec

Version = Literal["v1", "v2", "v3"]

MAX_NAME_BYTES = 255
"""Longest namespace or appID in a path; reverse-DNS names end at 253."""


class IngestPath(msgspec.Struct, frozen=True, kw_only=True):
    """One path of the vendor's API."""

    version: Version
    text: bytes
    """Canonical: percent-encoded, with a trailing slash."""
    namespace: str | None = None
    app: str | None = None
    """The appID, when the path names it."""
    single: bool = False
    """One bare object a request."""


V1 = IngestPath(version="v1", text=b"/v1/")
V2 = IngestPath(version="v2", text=b"/v2/")


def parse(segments: Sequence[str]) -> IngestPath | None:
    """Return the path of these decoded segments, or None when it is not one of TelemetryDeck's."""
    match segments:
        case ["v1"]:
            return V1
        case ["v2"]:
            return V2
        case ["v2", "namespace", namespace] if _is_name(namespace):
            return in_namespace("v2", namespace)
        case ["v3", namespace] if _is_name(namespace) and namespace != "w":
            return in_namespace("v3", namespace)
        case ["api", "v1", "apps", app, "signals", *rest] if _is_name(app) and rest in ([], ["multiple"]):
            return _of_app(app, single=not rest)
    return None


def is_web(segments: Sequence[str]) -> bool:
    """Return whether this is the web SDK's path, which a relay must not serve."""
    return list(segments[:2]) in (["v2", "w"], ["v3", "w"])


def in_namespace(version: Literal["v2", "v3"], namespace: str) -> IngestPath:
    """Return the path of a namespace."""
    folder = "namespace/" if version == "v2" else ""
    text = f"/{version}/{folder}{_quoted(namespace)}/".encode()
    return IngestPath(version=version, text=text, namespace=namespace)


def _of_app(app: str, *, single: bool) -> IngestPath:
    text = f"/api/v1/apps/{_quoted(app)}/signals/{'' if single else 'multiple/'}".encode()
    return IngestPath(version="v1", text=text, app=app, single=single)


def _is_name(segment: str) -> bool:
    """Return whether this can be a namespace or appID; dots alone would climb in the vendor's paths."""
    return segment not in (".", "..") and 0 < len(segment.encode(errors="surrogatepass")) <= MAX_NAME_BYTES


def _quoted(segment: str) -> str:
    return quote(segment, safe="", errors="surrogatepass")
