"""Plans kept by what of a head has a meaning here: a `traceparent` that differs each time costs little.

llhttp has parsed and checked the head. What `head.read` reads is in the key, the length apart, so an equal key has an
equal plan. `make bench` shows the gain (heads that vary: half the time).
"""

from collections.abc import Sequence

import msgspec

from forwarder.sources import head
from forwarder.sources.answers import Denial
from forwarder.sources.gate import Gate
from forwarder.sources.plan import Accept, Plan, Rules

MAX_PLANS = 512
"""Plans kept for one listener; at the limit all are forgotten. None holds a write key."""
_MAX_DIGITS = 10

_Headers = Sequence[tuple[bytes, bytes]]


class _Meaning(msgspec.Struct, frozen=True, gc=False):
    """What of a head has a meaning; `length` is the Content-Length, None when there is none."""

    key: tuple[object, ...]
    length: int | None


class Plans:
    """Decides by the rules and the gate of one listener, or remembers what was decided."""

    __slots__ = ("_gate", "_kept", "_rules")

    def __init__(self, rules: Rules, gate: Gate) -> None:
        self._rules = rules
        self._gate = gate
        self._kept: dict[tuple[object, ...], Plan] = {}

    def plan(self, method: str, target: bytes, version: str, headers: _Headers, *, keep: bool) -> Plan | Denial:
        """Decide what to do with a request; see `Rules.plan`."""
        meaning = _meaning(method, target, version, headers, keep=keep)
        if meaning is None:
            return self._rules.plan(self._gate, method, target, version, headers, keep=keep)
        kept, length = self._kept.get(meaning.key), meaning.length
        if kept is not None and (length is None or length <= self._rules.settings.max_body):
            if length is None or length == kept.length:
                return kept
            return Plan(kept.action, kept.shape, length, kept.coding, kept.expect)
        plan = self._rules.plan(self._gate, method, target, version, headers, keep=keep)
        if isinstance(plan, Plan) and isinstance(plan.action, Accept) and plan.action.route.cacheable:
            if len(self._kept) >= MAX_PLANS:
                self._kept.clear()
            self._kept[meaning.key] = plan
        return plan


def _meaning(method: str, target: bytes, version: str, headers: _Headers, *, keep: bool) -> _Meaning | None:
    """Return what of a head has a meaning, or None for one to be looked at again each time."""
    length = None
    key: list[object] = [method, target, version, keep]
    for name, value in headers:
        lower = name.lower()
        if lower not in head.ONCE:
            continue
        if lower == b"content-length":
            digits = value.strip(b" \t")
            if length is not None or not digits.isdigit() or len(digits) > _MAX_DIGITS:
                return None
            length = int(digits)
        elif lower == b"x-encharge-token":
            return None
        else:
            key += (lower, value)
    key.append(length is None)
    return _Meaning(tuple(key), length)
