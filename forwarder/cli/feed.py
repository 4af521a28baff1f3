"""Where `forwarder send` gets its events from: arguments, a JSON document or NDJSON, as the bytes they are."""

import itertools
from collections.abc import Iterable, Iterator
from typing import BinaryIO

import msgspec

from forwarder.errors import ForwarderError

_ELEMENTS = msgspec.json.Decoder(list[msgspec.Raw])


class Unreadable(ForwarderError):
    """The input is neither a JSON document nor NDJSON (exit code 2)."""


class Event(msgspec.Struct, frozen=True):
    """One event to send, on one line. `place` says where it stood: `argument 1`, `line 7`, `element 3`."""

    text: bytes
    place: str


def from_arguments(arguments: Iterable[str]) -> Iterator[Event]:
    """Yield the events of the command line; an argument may be an object or an array of them."""
    for number, argument in enumerate(arguments, start=1):
        for event in _document(argument.encode(), f"argument {number}"):
            yield (
                event if event.place.startswith("argument") else Event(event.text, f"argument {number}, {event.place}")
            )


def from_file(file: BinaryIO, name: str) -> Iterator[Event]:
    """Yield the events of a JSON array, a JSON object, or NDJSON, which is never read as a whole.

    It is NDJSON when its first line begins with `{` and ends with `}`. Lines are not checked here: the daemon names
    what it refuses, and repairs what it can.
    """
    lines = enumerate(file, start=1)
    number, first = next(((number, line) for number, line in lines if line.strip()), (0, b""))
    text = first.strip().removeprefix(b"\xef\xbb\xbf")
    if not text:
        return
    if not (text.startswith(b"{") and text.endswith(b"}")):
        yield from _document(text + b"\n" + b"".join(line for _, line in lines), name)
        return
    for line_number, line in itertools.chain([(number, text)], lines):
        if line.strip():
            yield Event(line.strip(), f"line {line_number}")


def _document(text: bytes, name: str) -> Iterator[Event]:
    text = text.strip()
    try:
        if text.startswith(b"["):
            raws = _ELEMENTS.decode(text)
            yield from (Event(_one_line(bytes(raw)), f"element {n}") for n, raw in enumerate(raws, start=1))
            return
        msgspec.json.decode(text, type=msgspec.Raw)
    except msgspec.DecodeError as error:
        raise Unreadable(f"{name} is neither a JSON document nor NDJSON: {error}") from error
    yield Event(_one_line(text), name)


def _one_line(text: bytes) -> bytes:
    """Return the event without line breaks; valid JSON has them between its tokens only."""
    return text.replace(b"\r", b" ").replace(b"\n", b" ")
