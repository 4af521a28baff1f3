"""The top-level members of one event, by name, still as JSON; and which vendor such names belong to."""

from collections.abc import Container, Mapping

import msgspec

from forwarder.core.json import text as json_text
from forwarder.vendors.base import Shape

Members = Mapping[str, bytes | msgspec.Raw]

_DECODER: msgspec.json.Decoder[dict[str, msgspec.Raw]] = msgspec.json.Decoder(dict[str, msgspec.Raw])

_ENCHARGE = frozenset(
    (
        "user",
        "userId",
        "email",
        "previousUserId",
        "previousEmail",
        "anonymousId",
        "name",
        "event",
        "objectType",
        "groupId",
    )
)
_TELEMETRYDECK = frozenset(("clientUser", "payload", "isTestMode", "floatValue"))

_KINDS = {ord('"'): "a string", ord("{"): "an object", ord("["): "an array", ord("n"): "null"}
_BOOLEANS = b"tf"


def members(event: bytes) -> Members:
    """Return the members of a valid object; of duplicate names the last one, as decoders do."""
    try:
        return _DECODER.decode(event)
    except (msgspec.DecodeError, RecursionError):
        found = json_text.members(event)
        return {member.name: event[member.value.start : member.value.end] for member in found}


def kind(value: bytes) -> str:
    """Return what a JSON value is, in words for an error."""
    return _KINDS.get(value[0]) or ("a boolean" if value[0] in _BOOLEANS else "a number")


def shape(names: Container[str]) -> Shape | None:
    """Return the vendor whose event has such members: `appID` decides, then Encharge's names, then TelemetryDeck's."""
    if "appID" in names:
        return "telemetrydeck"
    if any(name in names for name in _ENCHARGE):
        return "encharge"
    if any(name in names for name in _TELEMETRYDECK):
        return "telemetrydeck"
    return None
