"""What a signal should not have: counted by rule, never refused (the vendor says *should*)."""

import msgspec
from msgspec import UNSET, UnsetType

from forwarder.vendors.telemetrydeck.paths import Version

NESTED_PAYLOAD = "nested_payload"
"""A value inside `payload` is an object or an array."""
PAYLOAD_TYPE = "payload_type"
"""`payload` is neither an object nor an array."""
PAYLOAD_ON_V3 = "payload_on_v3"
"""A flat v3 event carries a `payload` container, as v2 does."""
NESTED_VALUE = "nested_value"
"""A value of a flat v3 event is an object or an array."""

RULES = (NESTED_PAYLOAD, PAYLOAD_TYPE, PAYLOAD_ON_V3, NESTED_VALUE)

_CONTAINERS = b"{["


class _Payload(msgspec.Struct, gc=False):
    payload: dict[str, msgspec.Raw] | list[msgspec.Raw] | UnsetType | None = UNSET


_PAYLOAD: msgspec.json.Decoder[_Payload] = msgspec.json.Decoder(_Payload)
_FLAT: msgspec.json.Decoder[dict[str, msgspec.Raw]] = msgspec.json.Decoder(dict[str, msgspec.Raw])


def is_plain(event: bytes, *, flat: bool) -> bool:
    """Return whether a glance tells that nothing nests: one container (`payload`), or none in a flat event."""
    at = event.find(b"{", 1)
    if event.find(b"[", 1) != -1:
        return False
    return at == -1 if flat else at != -1 and event.find(b"{", at + 1) == -1


def rule(event: bytes, version: Version) -> str | None:
    """Return the rule that the event breaks, if any."""
    if version == "v1" or is_plain(event, flat=version == "v3"):
        return None
    try:
        return _flat_rule(_FLAT.decode(event)) if version == "v3" else _payload_rule(_PAYLOAD.decode(event).payload)
    except msgspec.ValidationError:
        return PAYLOAD_TYPE
    except (msgspec.DecodeError, RecursionError):
        return None  # valid but beyond the decoder: not worth a slower look


def _flat_rule(members: dict[str, msgspec.Raw]) -> str | None:
    nested = {name for name, value in members.items() if memoryview(value)[0] in _CONTAINERS}
    if "payload" in nested:
        return PAYLOAD_ON_V3
    return NESTED_VALUE if nested else None


def _payload_rule(payload: dict[str, msgspec.Raw] | list[msgspec.Raw] | UnsetType | None) -> str | None:
    if not isinstance(payload, dict | list):
        return None
    values = payload.values() if isinstance(payload, dict) else payload
    return NESTED_PAYLOAD if any(memoryview(value)[0] in _CONTAINERS for value in values) else None
