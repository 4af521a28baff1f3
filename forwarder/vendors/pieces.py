"""Events cut out of bodies in bulk: as pieces, which is what stands between the braces of an event.

Cutting looks at bytes only, so a cut may be wrong: a string may hold `},{`. The proof that all are right is one reading
of the pieces in braces again, with a line break between them. A decoder that finds as many objects
there as there are pieces has found exactly these:

- JSON has no line break inside a string, so each one that was put there stands outside of strings;
- outside of strings `}`, a line break and `{` follow each other only between two values that are in no other one;
- so every cut ends an object, and with as many objects as pieces no piece holds two.
"""

import re

import msgspec

from forwarder.core.json import text as json_text

BETWEEN = re.compile(rb"\}[ \t\n\r]{0,64},[ \t\n\r]{0,64}\{")
"""What looks as if it stood between two events."""
_SEEN = 64 * 1024
"""Bytes in which the end of the first event is looked for."""
_OBJECT = (b"{", b"}")
_ARRAY = (b"[{", b"}]")


class Pieces(msgspec.Struct, frozen=True):
    """What was cut, and the text that proves or disproves it."""

    pieces: list[bytes]
    lines: bytes

    @property
    def size(self) -> int:
        """Return the bytes of all events: without the line breaks."""
        return len(self.lines) - len(self.pieces) + 1


def of_events(events: list[bytes]) -> Pieces:
    """Return the pieces of objects that are known one by one."""
    return _proof([event[1:-1] for event in events])


def of_array(text: bytes) -> Pieces | None:
    """Return what are probably the events of an array; None unless it is written evenly and begins with an event.

    `rsplit` takes half as long as `split` and cuts at the same places: what is looked for does not overlap itself.
    """
    if not (text.startswith(b"[{") and text.endswith(b"}]")):
        return None
    between = BETWEEN.search(text, 2, _SEEN)
    return None if between is None else _proof(text[2:-2].rsplit(between[0]))


def of_bodies(bodies: list[bytes]) -> Pieces | None:
    """Return what is in the bodies if each holds one event: all are objects, or all are arrays.

    None when any is something else, or there is anything but space around its event.
    """
    return _of_bodies(bodies) or _of_bodies([*map(_without_space, bodies)])


def _of_bodies(bodies: list[bytes]) -> Pieces | None:
    opening, closing = _ARRAY if bodies[0][:1] == b"[" else _OBJECT
    width = len(opening)
    pieces = [body[width:-width] for body in bodies]
    whole = b"".join((opening, (closing + b"\n" + opening).join(pieces), closing))
    if whole != b"\n".join(bodies):
        return None
    return Pieces(pieces, whole) if opening == b"{" else _proof(pieces)


def _without_space(body: bytes) -> bytes:
    text = body.strip(json_text.WHITESPACE)
    if text[:1] == b"[" and text[-1:] == b"]":
        return b"[" + text[1:-1].strip(json_text.WHITESPACE) + b"]"
    return text


def _proof(pieces: list[bytes]) -> Pieces:
    return Pieces(pieces, b"{" + b"}\n{".join(pieces) + b"}")
