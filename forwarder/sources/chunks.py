"""Where the chunks of a body are, beside llhttp: its end in the bytes, and a bound on all that is not body.

llhttp says neither where a body ended nor how much it skipped. It refuses what is no chunk; here nothing is refused but
too much. Bytes are counted one by one, so it makes no difference how they were cut.
"""

import enum

MAX_QUIET = 32 * 1024
"""Bytes of chunk headers, extensions or trailers in a row without any body."""
MAX_OVERHEAD = 16
"""Times as many bytes of chunking and body together as of body, beside MAX_QUIET."""
_SIZE_BYTES = 17
"""Bytes of a size that matter: llhttp takes no number of more than 16 digits."""
_SHORT_LINE = 128
_DIGITS = frozenset(b"0123456789abcdefABCDEF")
_EMPTY = 2
"""Bytes of an empty line."""


class _Line(enum.Enum):
    """What the line means that is being read."""

    SIZE = enum.auto()
    GAP = enum.auto()
    """The end of line behind a chunk."""
    TRAILER = enum.auto()


class Chunks:
    """Follows the chunks of one body."""

    __slots__ = ("_kind", "_left", "_line", "_quiet", "_size", "_taken", "ended", "wire")

    def __init__(self) -> None:
        self.wire = 0
        """Bytes since the head."""
        self.ended = False
        self._kind = _Line.SIZE
        self._left = 0
        """Bytes of the chunk that are still to come."""
        self._line = 0
        """Bytes of the line so far."""
        self._size = b""
        """The start of a SIZE line, without zeros before it."""
        self._quiet = 0
        """Bytes since the last byte of body."""
        self._taken = 0
        """Bytes of body."""

    def follow(self, data: bytes, at: int, stop: int) -> int:
        """Go on over `data[at:stop]`; return up to where the body goes, or `at` if its next byte is too much."""
        while at < stop and not self.ended:
            if self._left:
                at += self._take(min(self._left, stop - at))
                continue
            if self._kind is _Line.SIZE and not self._line:
                at = self._follow_plain(data, at, stop)
            end = data.find(b"\n", at, stop) + 1
            upto = min(end or stop, at + self._room())
            if upto == at:
                break
            self._skip(data[at:upto])
            at = upto
            if at == end:
                self._end_line()
        return at

    def _follow_plain(self, data: bytes, at: int, stop: int) -> int:
        """Go on over chunks that are here whole, with a short line before each; what is otherwise is left to `follow`.

        What hostile bodies of one byte a chunk cost most, so it is short. It takes more for a size than llhttp does,
        which refuses that.
        """
        wire, taken, start = self.wire - at, self._taken, at
        while line := data.find(b"\n", at, at + _SHORT_LINE) + 1:
            try:
                size = int(data[at:line].partition(b";")[0], 16)
            except ValueError:
                break
            after = line + size + _EMPTY
            if size <= 0 or after > stop or wire + line > MAX_QUIET + MAX_OVERHEAD * taken:
                break
            taken += size
            at = after
        if at > start:
            self.wire, self._taken, self._quiet = wire + at, taken, _EMPTY
        return at

    def _take(self, size: int) -> int:
        self._left -= size
        self._taken += size
        self.wire += size
        self._quiet = 0
        return size

    def _room(self) -> int:
        """Return the bytes that may come before the next one of body."""
        return min(MAX_QUIET - self._quiet, MAX_QUIET + MAX_OVERHEAD * self._taken - self.wire)

    def _skip(self, piece: bytes) -> None:
        self._line += len(piece)
        self._quiet += len(piece)
        self.wire += len(piece)
        if self._kind is _Line.SIZE and len(self._size) < _SIZE_BYTES:
            self._size = (self._size + piece).lstrip(b"0")[:_SIZE_BYTES]

    def _end_line(self) -> None:
        if self._kind is _Line.GAP:
            self._kind = _Line.SIZE
        elif self._kind is _Line.TRAILER:
            self.ended = self._line == _EMPTY
        else:
            self._left = _number(self._size)
            self._kind = _Line.GAP if self._left else _Line.TRAILER
        self._line, self._size = 0, b""


def _number(text: bytes) -> int:
    """Return the hexadecimal number that this begins with; 0 for none."""
    digits = next((at for at, byte in enumerate(text) if byte not in _DIGITS), len(text))
    return int(text[:digits] or b"0", 16)
