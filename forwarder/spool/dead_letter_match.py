"""Which dead letters are meant: the filters of `forwarder dead`."""

import re
from typing import Any

import msgspec

from forwarder.core.seams import DeadLetter

_STEP = re.compile(r'(?:^|\.)(?:"((?:[^"\\]|\\.)*)"|([^.\[\]="]+))|\[(\d+)\]')
_MISSING = object()


class Where(msgspec.Struct, frozen=True):
    """A condition on a value inside the event: that it is there, or what it is."""

    path: tuple[str | int, ...]
    value: str | None = None

    def __call__(self, event: Any) -> bool:
        """Return whether a decoded event fulfils it."""
        found = event
        for step in self.path:
            found = _inside(found, step)
        if found is _MISSING or self.value is None:
            return found is not _MISSING
        return found == self.value if isinstance(found, str) else _json(found) == self.value


class Match(msgspec.Struct, frozen=True, kw_only=True):
    """Which dead letters are meant; what is not given matches all."""

    reason: str | None = None
    status: int | None = None
    since: float | None = None
    sequences: frozenset[int] | None = None
    type: str | None = None
    """The event's `type` (TelemetryDeck) or `name` (Encharge)."""
    where: tuple[Where, ...] = ()

    def __call__(self, letter: DeadLetter) -> bool:
        """Return whether `letter` is meant."""
        if self.sequences is not None and letter.sequence not in self.sequences:
            return False
        if self.since is not None and letter.died_at < self.since:
            return False
        if self.status is not None and letter.status != self.status:
            return False
        if self.reason is not None and letter.reason != self.reason:
            return False
        return self._event_fits(letter.event) if self.type is not None or self.where else True

    def _event_fits(self, raw: bytes) -> bool:
        try:
            event = msgspec.json.decode(raw)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return False
        if self.type is not None and self.type not in (_inside(event, "type"), _inside(event, "name")):
            return False
        return all(condition(event) for condition in self.where)


def where(text: str) -> Where:
    """Read `payload.plan=pro`, `items[0].id=7`, `payload."a.b"=x` or a bare path; a ValueError says what is wrong."""
    steps: list[str | int] = []
    at = 0
    while at < len(text) and text[at] != "=":
        step = _STEP.match(text, at)
        if step is None or (step.start() == step.end()):
            raise ValueError(f'expected a path such as payload.plan=pro, items[0].id or payload."a.b", got {text!r}')
        quoted, plain, index = step.groups()
        steps.append(int(index) if index is not None else plain if quoted is None else re.sub(r"\\(.)", r"\1", quoted))
        at = step.end()
    if not steps:
        raise ValueError(f"expected a path before '=', got {text!r}")
    return Where(tuple(steps), text[at + 1 :] if at < len(text) else None)


def _inside(value: Any, step: str | int) -> Any:
    if isinstance(value, dict) and isinstance(step, str):
        return value.get(step, _MISSING)
    if isinstance(value, list) and isinstance(step, int) and step < len(value):
        return value[step]
    return _MISSING


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()
