"""JSON as bytes: where values begin and end, exactly by RFC 8259, without building them.

The slow path of the door: typed decoders are faster but refuse some valid texts (lone surrogates, deep nesting) and
cannot say where a member stands. Nothing here recurses, so depth costs memory only.
"""

import json
import re
from collections.abc import Iterator
from itertools import accumulate

import msgspec

WHITESPACE = b" \t\n\r"
BYTE_ORDER_MARK = b"\xef\xbb\xbf"

_SPACE = re.compile(rb"[ \t\n\r]*")
_PLAIN = re.compile(rb'[^"\\\x00-\x1f]{0,65536}+')
"""Bounded, like all patterns here: a match in 60 MiB would hold up every other thread.

Only classes repeat without a way back: before Python 3.11.5 a group that does so may match what it must not.
"""
_ESCAPES = re.compile(rb'(?:\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})[^"\\\x00-\x1f]{0,1024}+){1,256}')
_NUMBER = re.compile(rb"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?")
_WORD = re.compile(rb"true|false|null")
_PLAIN_MEMBERS = re.compile(
    rb'(?:[ \t\n\r]*+"[^"\\\x00-\x1f]{0,1024}+"[ \t\n\r]*+:[ \t\n\r]*+'
    rb'(?:"[^"\\\x00-\x1f]{0,1024}+"|-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?|true|false|null)'
    rb"[ \t\n\r]*,){1,64}"
)
"""Whole members with scalar values, comma included: most of an event in one step. Bounded, so that memory is too."""

_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F][0-9a-fA-F]{2}")

_QUOTE, _COMMA, _COLON, _BACKSLASH = b'",:\\'
_OBJECT, _OBJECT_END, _ARRAY, _ARRAY_END = b"{}[]"
_OPENS = {_OBJECT: _OBJECT_END, _ARRAY: _ARRAY_END}
_DIGITS = frozenset(b"-0123456789")


class Malformed(Exception):
    """Bytes that are not JSON: where (a byte offset) and what was expected there."""

    def __init__(self, offset: int, problem: str) -> None:
        super().__init__(f"{problem} at byte {offset}")
        self.offset = offset
        self.problem = problem


_UNESCAPED_STRING = re.compile(rb'"[^"]*+"')
_NO_BRACKETS = bytes(sorted(set(range(256)) - set(b"{}[]")))
_STEPS = [(byte in b"{[") - (byte in b"}]") for byte in range(256)]

UNEXPECTED_END = "unexpected end"
"""What every problem begins with that is only a lack of further bytes."""
MAX_SCAN_DEPTH = 10_000
"""Deeper texts are given up as a whole, so that a body of brackets costs nothing."""


class Value(msgspec.Struct, frozen=True, gc=False):
    """One value: `text[start:end]`; `depth` counts the containers it nests (0 for a scalar, 1 for `{}`)."""

    start: int
    end: int
    depth: int


class Member(msgspec.Struct, frozen=True, gc=False):
    """One member of an object: its decoded name and where its value stands."""

    name: str
    value: Value


def invalid_utf8(text: bytes) -> int | None:
    """Return the offset of the first byte that is not UTF-8, or None."""
    if text.isascii():
        return None
    try:
        text.decode()
    except UnicodeDecodeError as error:
        return error.start
    return None


def skip_space(text: bytes, at: int) -> int:
    """Return the offset of the next byte that is not whitespace (possibly the end)."""
    return _SPACE.match(text, at).end()  # type: ignore[union-attr]  # the pattern matches the empty string


def value(text: bytes, at: int = 0) -> Value:
    """Return the value that begins at or after `at`; raise Malformed where it breaks RFC 8259."""
    at = start = skip_space(text, at)
    closers: list[int] = []
    depth = 0
    while True:
        closer = _OPENS.get(text[at]) if at < len(text) else None
        if closer is None:
            at = _scalar(text, at)
        else:
            closers.append(closer)
            depth = max(depth, len(closers))
            if depth > MAX_SCAN_DEPTH:
                raise Malformed(at, f"nested deeper than {MAX_SCAN_DEPTH} levels")
            at = skip_space(text, at + 1)
            if at >= len(text) or text[at] != closer:
                at = _next_value(text, at, closer)
                continue
            closers.pop()
            at += 1
        at = _close(text, at, closers)
        if not closers:
            return Value(start, at, depth)
        at = _next_value(text, at + 1, closers[-1])


def depth(text: bytes) -> int:
    """Return how many containers a valid text nests at most; counts brackets outside strings, so it is quick."""
    unescaped = text.replace(rb"\\", b"").replace(rb"\"", b"")
    brackets = _UNESCAPED_STRING.sub(b"", unescaped).translate(None, _NO_BRACKETS)
    return max(accumulate(map(_STEPS.__getitem__, brackets)), default=0)


def whole(text: bytes) -> Value:
    """Return the only value of `text`; raise Malformed when there is none or something follows it."""
    found = value(text)
    _end(text, found.end)
    return found


def elements(text: bytes) -> Iterator[Value]:
    """Yield the elements of `text`, which opens an array, and check it to its end; raise Malformed."""
    at = skip_space(text, skip_space(text, 0) + 1)
    closers = [_ARRAY_END]
    if text[at : at + 1] == b"]":
        closers.clear()
    while closers:
        element = value(text, at)
        yield element
        at = _close(text, element.end, closers)
        at = skip_space(text, at + 1) if closers else at - 1
    _end(text, at + 1)


def members(text: bytes) -> Iterator[Member]:
    """Yield the members of `text`, which opens an object, duplicate names included; raise Malformed."""
    at = skip_space(text, skip_space(text, 0) + 1)
    closers = [_OBJECT_END]
    if text[at : at + 1] == b"}":
        closers.clear()
    while closers:
        colon = _colon(text, at)
        found = value(text, colon + 1)
        yield Member(string(text[at:colon].rstrip(WHITESPACE)), found)
        at = _close(text, found.end, closers)
        at = skip_space(text, at + 1) if closers else at - 1
    _end(text, at + 1)


def harmless(text: bytes) -> bytes:
    """Return the text with every surrogate escape made a space: as long, as valid, and no decoder minds it."""
    return _SURROGATE.sub(rb"\\u0020", text) if b"\\u" in text else text


def string(literal: bytes) -> str:
    """Return the text of a valid string literal; lone surrogates stay as they are."""
    if _BACKSLASH in literal:
        return str(json.loads(literal))
    return literal[1:-1].decode()


def _scalar(text: bytes, at: int) -> int:
    """Return the end of the string, number or word at `at`."""
    if at >= len(text):
        raise Malformed(at, UNEXPECTED_END)
    if text[at] == _QUOTE:
        return _string(text, at)
    found = (_NUMBER if text[at] in _DIGITS else _WORD).match(text, at)
    if found is None:
        raise Malformed(at, "expected a value")
    return found.end()


def _string(text: bytes, at: int) -> int:
    """Return the end of the string literal whose opening quote is at `at`."""
    at = _PLAIN.match(text, at + 1).end()  # type: ignore[union-attr]  # the pattern matches the empty string
    while at < len(text) and text[at] != _QUOTE:
        found = (_ESCAPES if text[at] == _BACKSLASH else _PLAIN).match(text, at)
        if found is None:
            raise Malformed(at, "invalid escape in a string")
        if found.end() == at:
            break
        at = found.end()
    if at >= len(text):
        raise Malformed(at, "unexpected end inside a string")
    if text[at] != _QUOTE:
        raise Malformed(at, "unescaped control character in a string")
    return at + 1


def _next_value(text: bytes, at: int, closer: int) -> int:
    """Return where the next value of the open container begins: behind its key in an object."""
    if closer == _ARRAY_END:
        return skip_space(text, at)
    run = _PLAIN_MEMBERS.match(text, at)
    while run is not None:
        at = run.end()
        run = _PLAIN_MEMBERS.match(text, at)
    return skip_space(text, _colon(text, skip_space(text, at)) + 1)


def _colon(text: bytes, at: int) -> int:
    """Return where the colon behind the key at `at` stands."""
    if at >= len(text):
        raise Malformed(at, UNEXPECTED_END)
    if text[at] != _QUOTE:
        raise Malformed(at, "expected a key in double quotes")
    at = skip_space(text, _string(text, at))
    if at >= len(text) or text[at] != _COLON:
        raise Malformed(at, "expected ':'" if at < len(text) else UNEXPECTED_END)
    return at


def _end(text: bytes, at: int) -> None:
    """Raise Malformed unless only whitespace follows."""
    rest = skip_space(text, at)
    if rest < len(text):
        raise Malformed(rest, "expected the end of the text")


def _close(text: bytes, at: int, closers: list[int]) -> int:
    """Pop every container that ends here; return the offset of the next comma, or the end of the outermost value."""
    while closers:
        at = skip_space(text, at)
        if at >= len(text):
            raise Malformed(at, UNEXPECTED_END)
        if text[at] == _COMMA:
            return at
        if text[at] != closers[-1]:
            raise Malformed(at, f"expected ',' or '{chr(closers[-1])}'")
        closers.pop()
        at += 1
    return at
