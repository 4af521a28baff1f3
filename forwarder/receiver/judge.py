"""The decision on one request that was read: which events are taken, or the refusal. No I/O."""

from collections import Counter
from typing import Any

import msgspec

from forwarder.receiver import documents, encharge, routes, telemetrydeck
from forwarder.receiver.documents import Document
from forwarder.receiver.faults import Faults
from forwarder.receiver.routes import Target, Vendor


class Taken(msgspec.Struct, frozen=True):
    """The vendor takes all of it. `unstamped` counts events without `receivedAt`, `types` counts them by name."""

    target: Target
    events: list[bytes]
    types: dict[str, int]
    unstamped: int = 0


class Refusal(msgspec.Struct, frozen=True):
    """The vendor takes nothing of it."""

    target: Target
    status: int
    error: str
    fault: str = ""
    """Which order brought it about; empty when the vendor itself would refuse."""


class Rules(msgspec.Struct, frozen=True, kw_only=True):
    """What the stand-in is, apart from faults."""

    vendors: tuple[Vendor, ...] = routes.VENDORS
    key: str | None = None
    require_received_at: bool = False


def judge(body: bytes, target: Target, *, content_type: str, rules: Rules, order: Faults) -> Taken | Refusal:
    """Decide as the vendor would, after the faults that concern what a body holds."""
    document = documents.read(body)
    if isinstance(document, Document) and _is_encharge(document, target, rules):
        target = routes.encharge(target.path, target.key)
    if (refusal := _form_fault(document, target, content_type, rules)) is not None:
        return refusal
    assert isinstance(document, Document)  # noqa: S101  _form_fault refuses the rest
    if order.max_events is not None and len(document.values) > order.max_events:
        return Refusal(target, 413, f"more than {order.max_events} events in one request", "max_events")
    for index, value in enumerate(document.values):
        if (refusal := _event_fault(index, value, target, rules, order)) is not None:
            return refusal
    return _taken(document, target)


def count(body: bytes, target: Target) -> Taken:
    """Take anything and only estimate the number of events (benchmarks): signals are counted by their `clientUser`."""
    events = max(1, body.count(b'"clientUser"')) if target.array else 1
    return Taken(target, [b""] * events, {})


def _is_encharge(document: Document, target: Target, rules: Rules) -> bool:
    clash = target.vendor == "telemetrydeck" and routes.shared(target)
    return clash and not document.array and "encharge" in rules.vendors


def _form_fault(document: Document | str, target: Target, content_type: str, rules: Rules) -> Refusal | None:
    if target.vendor == "encharge":
        if error := encharge.token_fault(target, rules.key):
            return Refusal(target, 401, error)
        if error := encharge.content_fault(content_type):
            return Refusal(target, 400, error)
    if isinstance(document, str):
        return Refusal(target, 400, document)
    if document.array is not target.array:
        expected = "an array of events" if target.array else "one object a request"
        return Refusal(target, 400, f"expected {expected} on {target.path}")
    if not document.values:
        return Refusal(target, 400, "the array is empty")
    return None


def _event_fault(index: int, value: Any, target: Target, rules: Rules, order: Faults) -> Refusal | None:
    if target.vendor == "encharge":
        error = encharge.fault_of(value)
    else:
        error = telemetrydeck.fault_of(value, target, require_received_at=rules.require_received_at)
    if error:
        return Refusal(target, 400, f"event {index}: {error}")
    if order.refuse_types or order.refuse_users or order.refuse_apps:
        tags, users, app = _words(value, target)
        if word := order.names(tags, users, app or target.app or ""):
            return Refusal(target, order.refuse_status, f"event {index}: {word} is refused by order", f"refuse {word}")
    return None


def _taken(document: Document, target: Target) -> Taken:
    types = Counter(next(iter(_words(value, target)[0]), "") for value in document.values)
    unstamped = sum(map(telemetrydeck.unstamped, document.values)) if target.vendor == "telemetrydeck" else 0
    return Taken(target, document.raw, dict(types), unstamped)


def _words(value: Any, target: Target) -> tuple[list[str], list[str], str]:
    return encharge.words(value) if target.vendor == "encharge" else telemetrydeck.words(value)
