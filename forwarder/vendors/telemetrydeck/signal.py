"""What a signal must have: typed decoders that declare nothing else, and the reading that names what is wrong."""

from collections.abc import Mapping

import msgspec
from msgspec import UNSET, UnsetType

from forwarder.core.json import text as json_text
from forwarder.vendors import members as event_members
from forwarder.vendors.documents import Fault
from forwarder.vendors.members import Members
from forwarder.vendors.telemetrydeck.paths import IngestPath

ReceivedAt = str | UnsetType | None


_NAMES = {"app_id": "appID", "client_user": "clientUser", "received_at": "receivedAt"}


class Signal(msgspec.Struct, gc=False, rename=_NAMES):
    """The fields of v2 and v3 that carry a documented must, and `receivedAt`. All else is skipped, not built."""

    app_id: str
    client_user: str
    type: str
    received_at: ReceivedAt = UNSET


class FirstSignal(Signal, gc=False, rename=_NAMES):
    """v1: `payload` is an array of "key:value" strings."""

    payload: list[str] | UnsetType | None = UNSET


class AppSignal(msgspec.Struct, gc=False, rename=_NAMES):
    """One object on a path that names the app: very old clients leave `appID` out of the body."""

    client_user: str
    type: str
    app_id: str = ""
    received_at: ReceivedAt = UNSET


class AppFirstSignal(AppSignal, gc=False, rename=_NAMES):
    """The same in an array: v1, with its payload."""

    payload: list[str] | UnsetType | None = UNSET


AnySignal = Signal | AppSignal

_FORMS: tuple[type[AnySignal], ...] = (Signal, FirstSignal, AppSignal, AppFirstSignal)
_ONE: list[msgspec.json.Decoder[AnySignal]] = [msgspec.json.Decoder(form) for form in _FORMS]
_MANY: list[msgspec.json.Decoder[list[AnySignal]]] = [msgspec.json.Decoder(list[form]) for form in _FORMS]  # type: ignore[valid-type]


class Reader:
    """Reads signals of one form; the form follows from the path."""

    def __init__(self, path: IngestPath) -> None:
        self.pairs = path.version == "v1" and not path.single
        """Whether `payload` must be an array of "key:value" strings."""
        self._required = ("clientUser", "type") if path.app else ("appID", "clientUser", "type")
        form = 2 * bool(path.app) + self.pairs
        self.one = _ONE[form]
        self.many = _MANY[form]

    def read(self, event: bytes) -> AnySignal | Fault:
        """Read one object that is valid JSON; a fault names the field."""
        try:
            signal = self.one.decode(event)
        except (msgspec.DecodeError, RecursionError):
            return self._read_carefully(event)
        if self.pairs and not has_pairs(signal):
            return _payload_fault(event)
        return signal

    def _read_carefully(self, event: bytes) -> AnySignal | Fault:
        """Read by RFC 8259 alone: what the decoder refuses may be valid, or needs a better error."""
        members = event_members.members(event)
        for name in self._required:
            fault = _string_fault(name, members, event)
            if fault is not None:
                return fault
        if self.pairs and not _is_pairs(members.get("payload")):
            return _payload_fault(event)
        app, user, word = (_text(members, name) for name in ("appID", "clientUser", "type"))
        return Signal(app, user, word, _received_at(members))


def has_pairs(signal: AnySignal) -> bool:
    """Return whether every entry of a v1 payload is "key:value"."""
    payload = getattr(signal, "payload", None)
    return not payload or all(":" in pair for pair in payload)


def _string_fault(name: str, members: Members, event: bytes) -> Fault | None:
    if name not in members:
        if event_members.shape(members) == "encharge":
            error = f"{name} is missing; this looks like an Encharge event: post it to /v1 as one object, or to /events"
            return Fault(error, "wrong_vendor", event)
        return Fault(f"{name} is missing: it must be a string", "missing_field", event)
    value = bytes(members[name])
    if value[:1] != b'"':
        return Fault(f"{name} must be a string, not {event_members.kind(value)}", "wrong_type", event)
    return None


def _payload_fault(event: bytes) -> Fault:
    return Fault('payload must be an array of "key:value" strings on v1: for an object use /v2/', "wrong_type", event)


def _is_pairs(value: bytes | msgspec.Raw | None) -> bool:
    if value is None or bytes(value) == b"null":
        return True
    text = bytes(value)
    if text[:1] != b"[":
        return False
    entries = [text[entry.start : entry.end] for entry in json_text.elements(text)]
    return all(entry[:1] == b'"' and ":" in json_text.string(entry) for entry in entries)


def _text(members: Members, name: str) -> str:
    value = bytes(members.get(name, b'""'))
    return json_text.string(value) if value[:1] == b'"' else ""


def _received_at(members: Mapping[str, bytes | msgspec.Raw]) -> ReceivedAt:
    """Return UNSET, None for null, or any string for a value of whatever type, which is the sender's business."""
    if "receivedAt" not in members:
        return UNSET
    return None if bytes(members["receivedAt"]) == b"null" else ""
