"""A request body as events: one object, an array of them, or one a line. The careful way, for what is not plain.

Splits without building anything, repairs `NaN` and its like, and says where a text stops being JSON.
"""

import re
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice

import msgspec

from forwarder.core.json import numbers as json_numbers
from forwarder.core.json import text as json_text
from forwarder.core.json.numbers import Repaired
from forwarder.core.json.text import Malformed
from forwarder.vendors.base import BadRequest

MAX_DEPTH = 512
"""Containers an event may nest; decoders downstream give up not far beyond."""

SAMPLE_BYTES = 2048

TRUSTING_BYTES = 1024 * 1024
"""Beyond this size the decoder's own word on where a text breaks is good enough: the exact scan is ten times slower."""

SLACK_BYTES = 64 * 1024
"""Beyond `max_event` an element is still read to its end by so much, so that it can be refused by its index."""

_FIRST_LOOK = 4 * 1024
"""Bytes in which the end of an element is looked for first: then eight times as many, and so on."""
_CUT = 16
"""Bytes before the end of a window whose meaning may hang on what follows: a number, a word, an escape."""

_OFFSET = re.compile(r"\(byte ([0-9]+)\)")
_TRAILING = re.compile(r"trailing characters \(byte ([0-9]+)\)")
_ARRAY: msgspec.json.Decoder[list[msgspec.Raw]] = msgspec.json.Decoder(list[msgspec.Raw])
_ONE: msgspec.json.Decoder[msgspec.Raw] = msgspec.json.Decoder(msgspec.Raw)


class Fault(msgspec.Struct, frozen=True, gc=False):
    """Why one event is not taken: the error, the bounded word for the metric, and the bytes it is about."""

    error: str
    reason: str
    event: bytes


class _End(msgspec.Struct, frozen=True, gc=False):
    """Where a value ends; with a problem, where it breaks. No exception: a kept one keeps every frame, and the body."""

    offset: int
    problem: str = ""


Item = bytes | Fault


class TooWide(Malformed):
    """An element that does not end where it must at the latest; perhaps valid, but not looked at any further."""


def strip(body: bytes) -> bytes | BadRequest:
    """Return the JSON text of a body: no byte order mark, no whitespace around it, valid UTF-8, not empty."""
    text = body.strip(json_text.WHITESPACE)
    if not text.isascii():
        offset = json_text.invalid_utf8(body)
        if offset is not None:
            return BadRequest(400, f"the body is not UTF-8: invalid byte at {offset}", "not_json")
        text = body.removeprefix(json_text.BYTE_ORDER_MARK).strip(json_text.WHITESPACE)
    if not text:
        return BadRequest(400, "the body is empty: send a JSON object or an array of them", "not_json")
    if text[0] not in b"{[":
        return _not_a_document(text, body.find(text))
    return text


def split(text: bytes, *, lines: bool, body: bytes) -> list[Item] | BadRequest:
    """Return the events of a text that `strip` returned for `body`; `lines` allows one object a line."""
    try:
        return _split_fast(text)
    except (msgspec.DecodeError, RecursionError):
        pass
    if lines and _is_lines(text):
        return list(_lines(text, body.find(text)))
    return _split_careful(text, body.find(text))


def split_piece(piece: bytes) -> list[Item] | None:
    """Return the elements of a piece of a large array, or None when it is not an array as it stands."""
    if len(piece) > TRUSTING_BYTES:
        return None  # a decoder would build all elements at once
    try:
        return [*split_array(piece)]
    except (msgspec.DecodeError, RecursionError):
        pass
    repaired = json_numbers.repair(piece)
    try:
        return _split_masked(piece if repaired is None else repaired.text)
    except (msgspec.DecodeError, RecursionError):
        return None


def element(text: bytes, at: int, widest: int) -> tuple[int, bytes]:
    """Return the end of the array element at `at`, and its text, repaired if need be.

    Looks at most `widest` bytes ahead, and at first only at few: most elements are short. Raises Malformed with an
    offset of `text`; TooWide when the element is longer.
    """
    ahead = min(_FIRST_LOOK, widest)
    while True:
        try:
            return _element(text, at, ahead)
        except TooWide:
            if ahead == widest:
                raise
        ahead = min(8 * ahead, widest)


def _element(text: bytes, at: int, ahead: int) -> tuple[int, bytes]:
    """Return what `element` does; TooWide when it takes more than `ahead` bytes to tell."""
    window = text[at : at + ahead]
    found = Repaired(window, [])
    end = _element_end(window)
    if end.problem:
        found = json_numbers.repair(window) or found
        end = _element_end(found.text) if found.cuts else end
    place = found.original(end.offset)
    if at + ahead < len(text) and place >= ahead - _CUT:
        raise TooWide(at, f"longer than {ahead} bytes")
    if end.problem:
        raise Malformed(at + place, end.problem)
    return at + place, found.text[: end.offset].rstrip(json_text.WHITESPACE)


def _element_end(window: bytes) -> _End:
    """Return where the value that `window` begins with ends, or breaks. Fast for what a decoder takes."""
    try:
        _ONE.decode(json_text.harmless(window))
    except msgspec.DecodeError as error:
        said = _TRAILING.search(str(error))
        if said is not None:
            return _End(int(said[1]) - 1)  # the decoder names the byte behind the first one too many
        if "truncated" in str(error):
            return _End(len(window), json_text.UNEXPECTED_END)
    except RecursionError:
        pass
    else:
        return _End(len(window))
    try:
        return _End(json_text.value(window).end)
    except Malformed as error:
        return _End(error.offset, error.problem)


def split_array(text: bytes) -> list[bytes]:
    """Return the elements of an array that a typed decoder has accepted: each from its first byte to its last."""
    return list(map(bytes, _ARRAY.decode(text)))


def first(text: bytes, count: int) -> list[bytes]:
    """Return at most the first `count` elements of an array, as far as it is JSON."""
    found: list[bytes] = []
    with suppress(Malformed):
        found.extend(text[each.start : each.end] for each in islice(json_text.elements(text), count))
    return found


def _split_fast(text: bytes) -> list[Item]:
    if text[0] == ord("["):
        return [*split_array(text)]
    _ONE.decode(text)
    return [text]


def _split_careful(text: bytes, lead: int) -> list[Item] | BadRequest:
    """Split what the decoder does not take: valid but unusual, repairable, or not JSON (then say where)."""
    repaired = json_numbers.repair(text) or Repaired(text, [])
    try:
        return _split_masked(repaired.text)
    except msgspec.DecodeError as error:
        said = _OFFSET.search(str(error))
        if said is not None and len(text) > TRUSTING_BYTES:
            return not_json("malformed", lead + repaired.original(int(said[1])))
    except RecursionError:
        pass
    try:
        return _scan(repaired.text)
    except Malformed as error:
        return not_json(error.problem, lead + repaired.original(error.offset))


def _split_masked(text: bytes) -> list[Item]:
    """Split with lone surrogates hidden from the decoder: it refuses them, RFC 8259 does not."""
    masked = json_text.harmless(text)
    if text[0] != ord("["):
        _ONE.decode(masked)
        return [text]
    events: list[Item] = []
    end = 0
    for element in _ARRAY.decode(masked):
        start = json_text.skip_space(text, json_text.skip_space(text, end) + 1)
        end = start + memoryview(element).nbytes
        events.append(text[start:end])
    return events


def _scan(text: bytes) -> list[Item]:
    """Return the events of a JSON text by RFC 8259 alone; raise Malformed."""
    if text[0] == ord("["):
        return [text[element.start : element.end] for element in json_text.elements(text)]
    json_text.whole(text)
    return [text]


def may_be_too_deep(event: bytes) -> bool:
    """Return whether the event opens more containers than may nest: a cheap bound on its depth."""
    return len(event) > 2 * MAX_DEPTH and event.count(b"{") + event.count(b"[") > MAX_DEPTH


def too_deep(event: bytes) -> Fault:
    """Return the fault of an event that nests too many containers."""
    return Fault(f"the event nests deeper than {MAX_DEPTH} levels: flatten it", "too_deep", event)


def _is_lines(text: bytes) -> bool:
    """Return whether this is one object a line: the first stands alone on its line, or each line opens one."""
    if text[0] != ord("{") or b"\n" not in text:
        return False
    if all(line.lstrip(json_text.WHITESPACE)[:1] in (b"{", b"") for line in text.split(b"\n")):
        return True
    try:
        end = json_text.value(text).end
    except Malformed:
        return False
    return text[end:].lstrip(b" \t\r")[:1] == b"\n"


def _lines(text: bytes, lead: int) -> Iterator[Item]:
    """Yield one event, or what is wrong with it, for every line that is not blank."""
    at = lead
    for line in text.split(b"\n"):
        event = line.strip(json_text.WHITESPACE)
        if event:
            yield _line(event, at + len(line) - len(line.lstrip(json_text.WHITESPACE)))
        at += len(line) + 1


def _line(event: bytes, lead: int) -> Item:
    if event[0] != ord("{"):
        return Fault("a line must be one JSON object", "not_object", event)
    try:
        found = _split_fast(event)
    except (msgspec.DecodeError, RecursionError):
        careful = _split_careful(event, lead)
        if isinstance(careful, BadRequest):
            return Fault(careful.error, careful.reason, event)
        found = careful
    return found[0]


def _not_a_document(text: bytes, lead: int) -> BadRequest:
    """Answer a body that is neither an object nor an array: a bare value, or no JSON at all."""
    try:
        json_text.whole(text)
    except Malformed as error:
        return not_json(error.problem, lead + error.offset)
    return BadRequest(400, "the body is a bare value: send a JSON object or an array of them", "not_object")


def not_json(problem: str, offset: int) -> BadRequest:
    """Return the answer to a text that stops being JSON at `offset` of the body."""
    return BadRequest(400, f"the body is not JSON: {problem} at byte {offset}", "not_json")
