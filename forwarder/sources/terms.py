"""What a request asks of its own acceptance: `ack`, `timeout`, `strict`. Pure."""

import msgspec

from forwarder.core.seams import Durability
from forwarder.sources.answers import Denial
from forwarder.sources.head import Head

DEFAULT_WAIT_S = 30.0
MAX_WAIT_S = 300.0
_OWN = frozenset(("ack", "timeout", "strict"))
_SWITCH = {"": True, "1": True, "true": True, "0": False, "false": False}
_WORDS = {level.word: level for level in Durability}


class Terms(msgspec.Struct, frozen=True):
    """The level to wait for, how long at most for `delivered`, and whether one refusal refuses all."""

    level: Durability
    wait_s: float = DEFAULT_WAIT_S
    strict: bool = False


def read(head: Head, *, configured: Durability, allow_lower: bool) -> Terms | Denial:
    """Read the query and the Forwarder-Ack header (the query wins).

    A level below the configured one is granted only with `listen.allow_lower_ack`; otherwise the configured one stays,
    and the answer's Forwarder-Ack says so.
    """
    query = head.query
    word = query.get("ack") or head.text(b"forwarder-ack") or configured.word
    level = _WORDS.get(word.lower())
    if level is None:
        return _bad(f"ack must be one of {', '.join(_WORDS)}")
    strict = _SWITCH.get(query.get("strict", "0").lower())
    if strict is None:
        return _bad("strict must be 1 or 0")
    try:
        wait_s = float(query.get("timeout", DEFAULT_WAIT_S))
    except ValueError:
        wait_s = -1.0
    if not 0 <= wait_s <= MAX_WAIT_S:
        return _bad(f"timeout must be seconds from 0 to {MAX_WAIT_S:.0f}")
    return Terms(level if allow_lower else max(level, configured), wait_s, strict)


def others(head: Head) -> dict[str, str]:
    """Return the query fields that are the vendor's."""
    return {name: value for name, value in head.query.items() if name not in _OWN}


def _bad(error: str) -> Denial:
    return Denial(status=400, error=error, reason="bad_query")
