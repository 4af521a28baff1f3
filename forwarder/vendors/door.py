"""A route: which check an array and an object get on one path, and the order in which a body is looked at."""

from collections.abc import Iterator

from forwarder.core.json import text as json_text
from forwarder.vendors import checking, documents, large, pieces
from forwarder.vendors.base import BadRequest, Checked
from forwarder.vendors.checking import EventCheck, Taken
from forwarder.vendors.documents import Fault, Item
from forwarder.vendors.large import Checks

HOPELESS = 1000
"""When so many first elements of an array beyond a mebibyte are all refused, the request is refused as a whole."""

LARGE = 512 * 1024
"""Bytes from which on a body is not checked in one go."""

_OBJECT, _ARRAY = b"{["
_HOPELESS = BadRequest(400, f"none of the first {HOPELESS} events is valid: send a few alone to see why", "hopeless")


class BodyRoute:
    """Checks bodies posted to one path. `array` and `single` say who checks which form, or why it is not taken."""

    def __init__(
        self,
        *,
        array: EventCheck | BadRequest,
        single: EventCheck | BadRequest,
        max_event: int,
        success_status: int = 200,
        lines: bool = False,
        path_key: bytes | None = None,
    ) -> None:
        self.success_status = success_status
        self.cacheable = path_key is None
        self.together = all(not isinstance(each, BadRequest) and each.together for each in (array, single))
        self._array = array
        self._single = single
        self._max_event = max_event
        self._lines = lines
        self._path_key = path_key

    def check(self, body: bytes, *, received_at: bytes, presented_key: bytes | None = None) -> Checked | BadRequest:
        """Check every event of the body once: all in one go when nothing is unusual, else one by one."""
        text = documents.strip(body)
        if isinstance(text, BadRequest):
            return text
        check = self._array if text[0] == _ARRAY else self._single
        if isinstance(check, BadRequest):
            return check
        key = self._path_key if presented_key is None else presented_key
        if len(text) > LARGE:
            return self._check_large(check, text, body, received_at, key)
        checked = check.fast(text, received_at, key)
        if checked is not None:
            return checked
        items = documents.split(text, lines=self._lines, body=body)
        if isinstance(items, BadRequest):
            return items
        return _answer(checking.total(self._verdicts(check, items, received_at, key)))

    def check_each(self, bodies: list[bytes], *, received_at: bytes) -> Checked | None:
        """Check bodies of one event each in one go: in less than half the time of one by one."""
        found = pieces.of_bodies(bodies)
        if found is None or json_text.invalid_utf8(found.lines) is not None:
            return None
        check = self._array if bodies[0].lstrip(json_text.WHITESPACE)[:1] == b"[" else self._single
        return None if isinstance(check, BadRequest) else check.each(found, received_at)

    def _check_large(
        self, check: EventCheck, text: bytes, body: bytes, received_at: bytes, key: bytes | None
    ) -> Checked | BadRequest:
        """Check a body that is too large for one go: an array in pieces, lines one by one."""
        if text[0] != _ARRAY:
            if self._lines and text.count(b"\n") > large.MAX_EVENTS:
                return large.too_many()
            items = documents.split(text, lines=self._lines, body=body)
            if isinstance(items, BadRequest):
                return items
            return _answer(checking.total(self._verdicts(check, items, received_at, key)))
        if self._is_hopeless(check, text, received_at, key):
            return _HOPELESS

        def check_piece(piece: bytes) -> Checked | None:
            checked = check.fast(piece, received_at, key)
            if checked is not None:
                return checked
            items = documents.split_piece(piece)
            return None if items is None else checking.total(self._verdicts(check, items, received_at, key))

        def check_one(event: bytes) -> Checked:
            return checking.total(self._verdicts(check, [event], received_at, key))

        widest = max(self._max_event, documents.TRUSTING_BYTES) + documents.SLACK_BYTES
        checked = large.check(text, body.find(text), Checks(check_piece, check_one, widest))
        return checked if isinstance(checked, BadRequest) else _answer(checked)

    def _is_hopeless(self, check: EventCheck, text: bytes, received_at: bytes, key: bytes | None) -> bool:
        """Return whether a large array starts with nothing but garbage: millions of elements not worth building."""
        if len(text) <= documents.TRUSTING_BYTES:
            return False
        items: list[Item] = [*documents.first(text[: documents.TRUSTING_BYTES], HOPELESS)]
        verdicts = self._verdicts(check, items, received_at, key)
        return len(items) == HOPELESS and all(isinstance(verdict, Fault) for verdict in verdicts)

    def _verdicts(
        self, check: EventCheck, items: list[Item], received_at: bytes, key: bytes | None
    ) -> Iterator[Taken | Fault]:
        for item in items:
            sound = self._sound(item)
            yield sound if isinstance(sound, Fault) else check.event(sound, received_at, key)

    def _sound(self, item: Item) -> Item:
        """Return the event when it is an object of decent size and depth, whatever the vendor."""
        if isinstance(item, Fault):
            return item
        if len(item) > self._max_event:
            error = f"the event has {len(item)} bytes, more than max_event ({self._max_event})"
            return Fault(error, "too_large", item)
        if item[0] != _OBJECT:
            return Fault("an event must be a JSON object", "not_object", item)
        if documents.may_be_too_deep(item) and json_text.depth(item) > documents.MAX_DEPTH:
            return documents.too_deep(item)
        return item


def _answer(checked: Checked) -> Checked | BadRequest:
    """Turn "none of the events came with a known key" into the 401 that it is."""
    if checked.accepted == 0 and checked.refused and checked.refused[0].reason == "unknown_key":
        return BadRequest(401, checked.refused[0].error, "unknown_key")
    return checked
