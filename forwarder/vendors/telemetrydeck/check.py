"""The door's check of signals: a whole body in a few calls when all is well, else one event at a time.

Hot path: about 1.0 µs an event of 330 bytes in arrays of 100, cuts and stamps included. Hence one cut and one decoding
of everything (pieces.py), and no loop but comprehensions over the interpreter's own methods.
"""

from collections.abc import Sequence
from itertools import repeat
from operator import contains

import msgspec
from msgspec import UNSET

from forwarder.core.json import text as json_text
from forwarder.core.seams import Group
from forwarder.vendors import documents, pieces
from forwarder.vendors.base import Checked
from forwarder.vendors.checking import Taken
from forwarder.vendors.documents import Fault
from forwarder.vendors.pieces import Pieces
from forwarder.vendors.telemetrydeck import advice, signal, stamp
from forwarder.vendors.telemetrydeck.paths import IngestPath
from forwarder.vendors.telemetrydeck.signal import AnySignal, Reader, ReceivedAt
from forwarder.vendors.telemetrydeck.targets import Target, Targets

_OBJECT, _ARRAY = b"{["
_SHORT = 4096
"""Bytes of an array that holds so few events that the cheapest way to them does not matter."""

_UNSET: set[ReceivedAt] = {UNSET}


class _NotPlain(Exception):
    """Something in the body wants a closer look."""


class SignalCheck:
    """Checks signals of the form that `path` asks for; `targets` says where they go."""

    together = True

    def __init__(self, path: IngestPath, targets: Targets, *, max_event: int) -> None:
        self._reader = Reader(path)
        self._version = path.version
        self._flat = path.version == "v3"
        """Whether an event should hold no container at all; on v2 it should hold one, `payload`."""
        self._app = path.app
        self._targets = targets
        self._max_event = max_event
        self._opening = (b"", b"")
        """The last stamp, and what the `{` of an event without one becomes: the same for a millisecond."""

    def fast(self, text: bytes, received_at: bytes, key: bytes | None) -> Checked | None:
        """Check a whole body; None when any event is refused or out of the ordinary."""
        del key  # Encharge's
        try:
            if text[0] != _ARRAY:
                return self._alone(self._reader.one.decode(text), text, received_at)
            found = pieces.of_array(text) if len(text) > _SHORT else None
            if found is not None:
                signals = self._proven(found)
                if signals is not None:
                    return self._many(signals, found, received_at)
            signals = self._reader.many.decode(text)
            if len(signals) == 1:
                return self._alone(signals[0], text[1:-1].strip(json_text.WHITESPACE), received_at)
            return self._many(signals, pieces.of_events(documents.split_array(text)), received_at)
        except (msgspec.DecodeError, RecursionError, _NotPlain):
            return None

    def each(self, found: Pieces, received_at: bytes) -> Checked | None:
        """Check bodies of one event each; None when any has more, is refused or out of the ordinary."""
        try:
            signals = self._proven(found)
            return None if signals is None else self._many(signals, found, received_at)
        except (msgspec.DecodeError, RecursionError, ValueError, _NotPlain):
            return None

    def event(self, event: bytes, received_at: bytes, key: bytes | None) -> Taken | Fault:
        """Check one event by RFC 8259 and the documented musts."""
        del key
        found = self._reader.read(event)
        if isinstance(found, Fault):
            return found
        target = self._target(found.app_id)
        if target is None:
            return Fault("appID: no destination serves this app; add it to `apps` of one", "unknown_app", event)
        stored = stamp.stamped(event, found.received_at, received_at)
        return Taken(target.destination, target.batch_key, stored, warning=advice.rule(event, self._version))

    def _proven(self, found: Pieces) -> list[AnySignal] | None:
        """Return the signals that the pieces are; None when they were cut wrongly, or are no signals."""
        try:
            signals = self._reader.one.decode_lines(found.lines)
        except (msgspec.DecodeError, RecursionError):
            return None
        return signals if len(signals) == len(found.pieces) else None

    def _measure(self, signals: Sequence[AnySignal], found: Pieces) -> None:
        """Leave what is too large, and v1 payloads of the wrong form, to the careful way."""
        if len(found.lines) > self._max_event and max(map(len, found.pieces)) + len(b"{}") > self._max_event:
            raise _NotPlain
        if self._reader.pairs and not all(map(signal.has_pairs, signals)):
            raise _NotPlain

    def _alone(self, found: AnySignal, event: bytes, received_at: bytes) -> Checked:
        """Take one event: what `_many` does, without what only many need."""
        target = self._targets[self._app or found.app_id]
        if target is None or len(event) > self._max_event or (self._reader.pairs and not signal.has_pairs(found)):
            raise _NotPlain
        warnings: dict[str, int] = {}
        at = event.rfind(b"{")
        if (at == 0) is not self._flat or event.find(b"{", 1, at) != -1 or event.find(b"[", 1) != -1:
            self._look_closer(event, warnings)
        present = found.received_at
        if present is UNSET:
            made, opening = self._opening  # in one: large bodies are checked on another thread
            if made is not received_at:
                opening = stamp.opening(received_at)
                self._opening = (received_at, opening)
            event = event.replace(b"{", opening, 1)
        elif present is None:
            event = stamp.replace_null(event, received_at)
        return Checked([Group(target.destination, target.batch_key, [event], len(event))], 1, (), warnings)

    def _many(self, signals: Sequence[AnySignal], found: Pieces, received_at: bytes) -> Checked:
        """Stamp and group many, in bulk as far as they are alike."""
        self._measure(signals, found)
        warnings: dict[str, int] = {}
        if not self._are_plain(found):
            for piece in found.pieces:
                self._look_closer(b"{" + piece + b"}", warnings)
        if {signal.received_at for signal in signals} == _UNSET:
            opening = stamp.opening(received_at)
            events = [*map(b"".join, zip(repeat(opening), found.pieces, repeat(b"}")))]
            size = found.size + len(events) * (len(opening) - len(b"{"))
        else:
            pairs = zip(found.pieces, signals, strict=True)
            events = [stamp.stamped(b"{" + piece + b"}", signal.received_at, received_at) for piece, signal in pairs]
            size = sum(map(len, events))
        return Checked(self._groups(signals, events, size), len(events), (), warnings)

    def _are_plain(self, found: Pieces) -> bool:
        """Return whether a glance at all tells what `advice.is_plain` tells of each event."""
        lines, events = found.lines, len(found.pieces)
        if b"[" in lines:
            return False
        opened = len(lines) - len(lines.replace(b"{", b""))  # `count` takes four times as long: it looks at each byte
        if self._flat:
            return opened == events
        return opened == 2 * events and all(map(contains, found.pieces, repeat(_OBJECT)))

    def _groups(self, signals: Sequence[AnySignal], events: list[bytes], size: int) -> list[Group]:
        """Return the events, `size` bytes in all, by destination and batch key, in order within each."""
        if not events:
            return []
        apps = {found.app_id for found in signals}
        if self._app or len(apps) == 1:
            target = self._targets[self._app or apps.pop()]
            if target is None:
                raise _NotPlain
            return [Group(target.destination, target.batch_key, events, size)]
        groups: dict[Target, Group] = {}
        for event, found in zip(events, signals, strict=True):
            self._group(groups, found.app_id).events.append(event)
        for group in groups.values():
            group.size = sum(map(len, group.events))
        return [*groups.values()]

    def _group(self, groups: dict[Target, Group], app: str) -> Group:
        target = self._targets[app]
        if target is None:
            raise _NotPlain
        group = groups.get(target)
        if group is None:
            group = groups[target] = Group(target.destination, target.batch_key, [], 0)
        return group

    def _target(self, app: str) -> Target | None:
        return self._targets[self._app or app]

    def _look_closer(self, event: bytes, warnings: dict[str, int]) -> None:
        """Count the rule that an event with unusually many containers breaks; leave deep ones to the careful way."""
        if documents.may_be_too_deep(event):
            raise _NotPlain
        rule = advice.rule(event, self._version)
        if rule:
            warnings[rule] = warnings.get(rule, 0) + 1
