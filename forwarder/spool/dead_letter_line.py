r"""One dead letter as one line of NDJSON, made to be read by people, `jq` and `forwarder dead`.

    {"sequence":812,"reason":"refused","status":400,"attempts":1,
     "accepted_at":"2026-06-05T10:11:12.123Z","died_at":"2026-06-05T10:11:13.500Z",
     "batch_key":"…","answer":"{\"error\":\"…\"}","event":{…as sent…}}

`event` holds the very bytes that were sent. When those cannot stand in one line (they contain line breaks, or
are not JSON), `exact` holds them in base64 beside a readable form in `event`. Whoever edits `event` is believed.
"""

import base64
import binascii
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from forwarder.core.seams import DeadLetter
from forwarder.spool.dead_letter_match import Match

ANSWER_LIMIT = 2048
"""Bytes of the vendor's answer that are kept."""
_BINARY = "base64:"
_BOM = b"\xef\xbb\xbf"
"""Some editors leave one at the start of a file."""
BREAKS = bytes.maketrans(b"\r\n", b"  ")
"""Makes any JSON text fit in one line: line breaks are never inside its strings."""


class _Line(msgspec.Struct, kw_only=True, omit_defaults=True):
    sequence: int
    reason: str
    status: int | None
    attempts: int
    accepted_at: str
    died_at: str
    batch_key: str
    answer: str
    event: msgspec.Raw
    exact: str | None = None


class Head(msgspec.Struct, frozen=True):
    """What the index must know of a line; the rest is skipped unread."""

    sequence: int
    died_at: str


def stamp(seconds: float) -> str:
    """Return seconds since the epoch as ISO 8601 with milliseconds, in UTC."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def seconds(iso: str) -> float:
    """Return an ISO 8601 time as seconds since the epoch; a ValueError when it is none."""
    return datetime.fromisoformat(iso).timestamp()


def encode(letter: DeadLetter) -> bytes:
    """Return the line, newline included, from which `decode` gives back the very same event."""
    line = _Line(
        sequence=letter.sequence,
        reason=letter.reason,
        status=letter.status,
        attempts=letter.attempts,
        accepted_at=stamp(letter.accepted_at),
        died_at=stamp(letter.died_at),
        batch_key=_text(letter.batch_key),
        answer=letter.answer.encode("utf-8", "replace")[:ANSWER_LIMIT].decode("utf-8", "ignore"),
        event=msgspec.Raw(letter.event.translate(BREAKS)),
    )
    encoded = msgspec.json.encode(line)
    if (back := decode(encoded)) is None or back.event != letter.event:
        line.exact = base64.b64encode(letter.event).decode()
        line.event = _readable(letter.event)
        encoded = msgspec.json.encode(line)
    return encoded + b"\n"


def decode(line: bytes) -> DeadLetter | None:
    """Return the letter, or None when the line is torn or altered."""
    try:
        found = msgspec.json.decode(line.removeprefix(_BOM), type=_Line)
        return DeadLetter(
            sequence=found.sequence,
            event=_event(found),
            batch_key=_bytes(found.batch_key),
            reason=found.reason,
            status=found.status,
            answer=found.answer,
            attempts=found.attempts,
            accepted_at=seconds(found.accepted_at),
            died_at=seconds(found.died_at),
        )
    except (msgspec.DecodeError, UnicodeDecodeError, binascii.Error, ValueError):
        return None


def head(line: bytes) -> Head | None:
    """Return what the index needs of a whole line, or None when `decode` would not read it."""
    if decode(line) is None:
        return None
    return msgspec.json.decode(line.removeprefix(_BOM), type=Head)


def paths(directory: Path) -> list[Path]:
    """Return the dead-letter files, oldest first; none when the directory does not exist."""
    try:
        return sorted(path for path in directory.iterdir() if path.suffix == ".ndjson" and path.stem.isdecimal())
    except FileNotFoundError:
        return []


def read(directory: Path, match: Match) -> Iterator[DeadLetter]:
    """Yield the letters that match, oldest first, each sequence once; safe while a daemon writes, purges and rolls."""
    seen: set[int] = set()
    for path in paths(directory):
        try:
            file = path.open("rb")
        except FileNotFoundError:
            continue  # purged since the directory was listed
        with file:
            for line in file:
                letter = decode(line)
                if letter is not None and letter.sequence not in seen and match(letter):
                    seen.add(letter.sequence)
                    yield letter


def _text(batch_key: bytes) -> str:
    try:
        text = batch_key.decode()
    except UnicodeDecodeError:
        text = _BINARY
    return _BINARY + base64.b64encode(batch_key).decode() if text.startswith(_BINARY) else text


def _bytes(text: str) -> bytes:
    return base64.b64decode(text.removeprefix(_BINARY)) if text.startswith(_BINARY) else text.encode()


def _event(found: _Line) -> bytes:
    """Return the very bytes that were sent, unless somebody has edited the readable form beside them."""
    if found.exact is None:
        return bytes(found.event)
    exact = base64.b64decode(found.exact, validate=True)
    return exact if bytes(found.event) == bytes(_readable(exact)) else bytes(found.event)


def _readable(event: bytes) -> msgspec.Raw:
    """Return an event that cannot stand in one line as it is in a form that can."""
    one_line = event.translate(BREAKS)
    try:
        msgspec.json.decode(one_line)
        return msgspec.Raw(one_line.strip(b" \t"))
    except (msgspec.DecodeError, UnicodeDecodeError):
        return msgspec.Raw(msgspec.json.encode(event.decode("utf-8", "replace")))
