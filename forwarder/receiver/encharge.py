"""What Encharge demands of a request: the token, the content type, and an identity in one of the forms in use."""

import hmac
from typing import Any

from forwarder.receiver.routes import Target


def token_fault(target: Target, key: str | None) -> str | None:
    """Return why the request is not authorised. Without a configured `key` any token passes, but one there must be."""
    if not target.key:
        return "X-Encharge-Token is missing"
    if key is not None and not hmac.compare_digest(target.key.encode(), key.encode()):
        return "X-Encharge-Token is not the write key of an account"
    return None


def content_fault(content_type: str) -> str | None:
    """Return what is wrong with the Content-Type; an empty body is all the server sees under another one."""
    essence = content_type.partition(";")[0].strip().lower()
    return (
        None if essence == "application/json" else f"Content-Type: expected application/json, got {essence or 'none'}"
    )


def fault_of(event: Any) -> str | None:
    """Return what is wrong with one event, naming the field; None when it would be taken."""
    if not isinstance(event, dict):
        return "expected one object a request"
    if not identities(event) and event.get("type") != "group":
        return "user: expected an email or a userId"
    if not any(_text(event.get(field)) for field in ("name", "type", "previousUserId", "previousEmail")):
        return "name: expected a string"
    return None


def identities(event: dict[str, Any]) -> list[str]:
    """Return every identity that the event names, in any of the body forms."""
    user = event.get("user")
    found = [user.get(field) for field in ("email", "userId")] if isinstance(user, dict) else []
    found += [event.get(field) for field in ("email", "userId", "anonymousId", "previousEmail", "previousUserId")]
    return [text for value in found if (text := _text(value))]


def words(event: Any) -> tuple[list[str], list[str], str]:
    """Return the event's names (`name`, Segment's `event` and `type`) and identities, for faults and for show."""
    tags = [text for field in ("name", "event", "type") if (text := _text(event.get(field)))]
    return tags, identities(event), ""


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return ""
    return str(value) if isinstance(value, str | int | float) else ""
