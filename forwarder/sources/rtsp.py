"""A request line that ends in `RTSP/1.0`: llhttp takes it for `HTTP/1.0` and does not say so. We look at the bytes.

Where the name stands, llhttp is fed up to the space before it and asked, with no bytes at all, whether it is reading a
target: it then hands over an empty piece of it, and never otherwise. So the same text in a body, a header, a target or
a chunk extension is none of our business. (`ICE/1.0` needs no look: llhttp takes it from the method SOURCE alone.)
"""

import enum
import re
from collections.abc import Callable

from forwarder.sources.answers import Denial
from forwarder.sources.body import Refused

_NAME = b"RTSP/1."
_SPACED = b" " + _NAME
_LETTERS = _SPACED[:-1]
"""What is read ends in one of these if the name may go on in what is read next."""
_LINE = re.compile(rb"\n\r*[A-Z_-]+ +[^ \r\n]+( +)(?:HTTP|RTSP)/1\.(?:[01]\r|[01]?\Z)")
"""The request line behind a chunked body, which an empty line ends. Hostile bytes get few of so long a pattern."""
_SPACES = re.compile(rb" *")
LINES = 64
"""Request lines behind line breaks in a chunked body; no JSON has any. Each costs a step, so more are refused."""


class Reading(enum.Enum):
    """What is being read where a slice begins."""

    LINE = enum.auto()
    """A request line or what is before it; a head whose line is not known to be over."""
    HEADERS = enum.auto()
    CHUNKS = enum.auto()


class Watch:
    """Looks at all that is fed but bodies of known length; `in_target` asks the parser."""

    __slots__ = ("_behind", "_in_target", "lines")

    def __init__(self, in_target: Callable[[], bool]) -> None:
        self._in_target = in_target
        self._behind = b""
        """A space and the start of the name, which were fed behind a target."""
        self.lines = 0
        """What looked like a request line in the chunks of this request."""

    def stop(self, reading: Reading, data: bytes, at: int, stop: int) -> int:
        """Return up to where, at most `stop`, to feed `data[at:]` before this is asked again; raises Refused."""
        if self._behind:
            self._follow(self._behind + data[at:stop])
        if data[stop - 1] not in _LETTERS and data.find(_SPACED, at, stop) < 0:
            return stop
        if reading is Reading.HEADERS and data[at] not in b"\r\n":
            end = data.find(b"\r\n\r\n", at, stop)
            return stop if end < 0 else end + 4
        if reading is Reading.CHUNKS:
            place = self._in_chunks(data, at, stop)
            return place if place > at else stop
        place = _place(data, at, stop)
        if place > at:
            return place
        if self._in_target():
            self._follow(data[at:stop])
        spaces = _SPACES.match(data, at, stop)
        return _place(data, spaces.end() if spaces else at, stop)

    def _in_chunks(self, data: bytes, at: int, stop: int) -> int:
        line = _LINE.search(data, at, stop)
        if line is None:
            return _open(data, at, stop)
        self.lines += 1
        if self.lines > LINES:
            error = "the body holds request lines, which no JSON does"
            raise Refused(Denial(status=400, error=error, reason="bad_http", close=True))
        return line.start(1)

    def _follow(self, behind: bytes) -> None:
        """Take what follows a target, from the first space on."""
        behind = behind.lstrip(b" ")
        if behind.startswith(_NAME):
            error = "the request is not sound HTTP: its first line says RTSP"
            raise Refused(Denial(status=400, error=error, reason="bad_http", close=True))
        self._behind = b" " + behind if _NAME.startswith(behind) else b""


def _place(data: bytes, at: int, stop: int) -> int:
    """Return where the first spaces begin that the name follows, or may follow at the end; `stop` if there are none."""
    found = data.find(_SPACED, at, stop)
    return _open(data, at, stop) if found < 0 else _first(data, at, found)


def _open(data: bytes, at: int, stop: int) -> int:
    """Return where the spaces begin that the name may follow, when it goes on in what is read next; `stop` if none."""
    found = data.rfind(b" ", at, stop)
    return _first(data, at, found) if found >= 0 and _SPACED.startswith(data[found:stop]) else stop


def _first(data: bytes, at: int, space: int) -> int:
    """Return where the spaces up to this one begin."""
    return at + len(data[at:space].rstrip(b" "))
