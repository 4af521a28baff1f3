"""Bodies as the vendors' own clients send them, byte for byte, with the path that each posts to.

The files lie beside each vendor's code; the demo sends them and the tests check them.
"""

from importlib import resources
from typing import Literal

import msgspec

from forwarder.vendors.base import Shape

_TELEMETRYDECK = (
    ("swift", "/v2/namespace/com.example/"),
    ("kotlin", "/v2/"),
    ("javascript", "/v2/"),
    ("javascript-signal", "/v2/"),
    ("go", "/v2/"),
    ("python", "/v2/"),
    ("rust", "/v2/"),
    ("flutter", "/v2/namespace/com.example/"),
    ("elixir", "/v2/namespace/com.example/"),
    ("unity", "/api/v1/apps/3E7F9A10-52C4-4B86-9D1E-C07B6A85F234/signals/multiple/"),
    ("vapor", "/api/v1/apps/5C3B9D1E-7A42-4F0B-9E55-0D6C1B7A2F48/signals/multiple/"),
    ("old-client", "/api/v1/apps/5C3B9D1E-7A42-4F0B-9E55-0D6C1B7A2F48/signals/"),
    ("v3-flat", "/v3/com.example/"),
    ("user-counting-off", "/v2/"),
)
_ENCHARGE = (
    ("event", "/v1"),
    ("event-numeric-user", "/v1/"),
    ("identify", "/v1/"),
    ("alias", "/v1/"),
    ("group", "/v1/"),
    ("group-without-user", "/v1/"),
    ("segment-track", "/v1"),
    ("segment-identify", "/v1"),
    ("segment-page", "/v1"),
    ("segment-alias", "/v1"),
    ("segment-group", "/v1"),
)


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """One request body: `name` says which client or form, `path` where it is posted to."""

    name: str
    vendor: Shape
    path: str
    body: bytes


def samples() -> list[Sample]:
    """Return every sample of both vendors."""
    return [*_of("telemetrydeck", _TELEMETRYDECK), *_of("encharge", _ENCHARGE)]


def _of(vendor: Literal["telemetrydeck", "encharge"], rows: tuple[tuple[str, str], ...]) -> list[Sample]:
    folder = resources.files(f"forwarder.vendors.{vendor}").joinpath("samples")
    return [
        Sample(name=name, vendor=vendor, path=path, body=folder.joinpath(f"{name}.json").read_bytes())
        for name, path in rows
    ]
