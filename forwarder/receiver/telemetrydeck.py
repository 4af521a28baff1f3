"""What TelemetryDeck demands of a signal, and what it would silently change."""

import re
from typing import Any

from forwarder.receiver.routes import Target

_MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:?\d\d)")


def fault_of(event: Any, target: Target, *, require_received_at: bool) -> str | None:
    """Return what is wrong with one signal, naming the field; None when it would be taken."""
    if not isinstance(event, dict):
        return "expected an object"
    required = ("appID", "clientUser", "type") if target.names_app else ("clientUser", "type")
    for field in required:
        if not isinstance(event.get(field), str):
            return f"{field}: expected a string, {_got(event, field)}"
    for field in ("appID", "type"):
        if event.get(field) == "":
            return f"{field}: must not be empty"
    return _moment_fault(event, require_received_at=require_received_at)


def unstamped(event: Any) -> bool:
    """Return whether the server would stamp the time of ITS arrival: a queued signal counted at the wrong time."""
    return event.get("receivedAt") is None


def words(event: Any) -> tuple[list[str], list[str], str]:
    """Return the event's type, user and app, for faults and for show."""
    return [_text(event.get("type"))], [_text(event.get("clientUser"))], _text(event.get("appID"))


def _moment_fault(event: dict[str, Any], *, require_received_at: bool) -> str | None:
    moment = event.get("receivedAt")
    if moment is None:
        return "receivedAt: required here (--require-received-at)" if require_received_at else None
    if not isinstance(moment, str) or not _MOMENT.fullmatch(moment):
        return f"receivedAt: expected ISO 8601 with a zone, {_got(event, 'receivedAt')}"
    return None


def _got(event: dict[str, Any], field: str) -> str:
    return f"got {type(event[field]).__name__}" if field in event else "it is missing"


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
