"""The `receivedAt` stamp: the time of acceptance, for events that carry none. No other byte of an event changes.

Without it the vendor would count a queued event at the time of its delivery.
"""

from msgspec import UNSET

from forwarder.core.json import text as json_text
from forwarder.vendors.telemetrydeck.signal import ReceivedAt

_NULL = b"null"


def opening(received_at: bytes) -> bytes:
    """Return what the `{` of an event without `receivedAt` becomes."""
    return b'{"receivedAt":"' + received_at + b'",'


def stamped(event: bytes, found: ReceivedAt, received_at: bytes) -> bytes:
    """Return the event with a stamp when it has none: `found` is the value that a decoder saw."""
    if found is UNSET:
        return event.replace(b"{", opening(received_at), 1)
    if found is None:
        return replace_null(event, received_at)
    return event


def replace_null(event: bytes, received_at: bytes) -> bytes:
    """Return the event with every top-level `"receivedAt":null` replaced in place (duplicates would win otherwise)."""
    quoted = b'"' + received_at + b'"'
    kept: list[bytes] = []
    at = 0
    for member in json_text.members(event):
        start, end = member.value.start, member.value.end
        if member.name == "receivedAt" and event[start:end] == _NULL:
            kept += (event[at:start], quoted)
            at = end
    return b"".join((*kept, event[at:]))
