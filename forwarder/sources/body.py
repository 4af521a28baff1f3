"""Compressed request bodies, inflated piece by piece under a limit (a bomb stops at the limit, not after it)."""

import zlib

from forwarder.sources.answers import Denial

CODINGS = {"gzip": "gzip", "x-gzip": "gzip", "deflate": "deflate", "identity": "", "": ""}
_GZIP_WINDOW = 31
_ZLIB_WINDOW = 15
_RAW_WINDOW = -15
_HEADER_BYTES = 2


class Refused(Exception):
    """The request is refused while it is being read; carries the answer. Caught by the connection."""

    def __init__(self, denial: Denial) -> None:
        super().__init__(denial.reason)
        self.denial = denial


class Inflater:
    """Inflates one body. gzip may have several members; deflate is zlib's format, or raw as some clients send it."""

    def __init__(self, coding: str, limit: int) -> None:
        self._coding = coding
        self._left = limit
        self._start = b""
        self._stream = zlib.decompressobj(_GZIP_WINDOW) if coding == "gzip" else None

    def feed(self, piece: bytes) -> bytes:
        """Return what this piece inflates to; raises Refused."""
        if self._stream is None:
            self._start += piece
            if len(self._start) < _HEADER_BYTES:
                return b""
            piece, self._stream = self._start, zlib.decompressobj(_window(self._start))
        parts: list[bytes] = []
        while piece:
            if self._stream.eof:
                self._next_member()
            try:
                part = self._stream.decompress(piece, self._left + 1)
            except zlib.error:
                raise Refused(self._broken()) from None
            self._left -= len(part)
            if self._left < 0:
                raise Refused(too_large())
            parts.append(part)
            piece = self._stream.unused_data if self._stream.eof else b""
        return b"".join(parts)

    def finish(self) -> None:
        """Raise Refused when the compressed stream is not whole."""
        if self._stream is None or not self._stream.eof:
            raise Refused(self._broken())

    def _next_member(self) -> None:
        if self._coding != "gzip":
            raise Refused(self._broken())
        self._stream = zlib.decompressobj(_GZIP_WINDOW)

    def _broken(self) -> Denial:
        return Denial(status=400, error=f"the body is not valid {self._coding}", reason="bad_encoding", close=True)


def too_large() -> Denial:
    """Return the answer to a body over the limit."""
    return Denial(
        status=413,
        error="the body is larger than listen.max_body (decompressed): send fewer events a request",
        reason="body_too_large",
        close=True,
    )


def _window(start: bytes) -> int:
    """Tell zlib's two-byte header from raw deflate."""
    method, check = start[0] & 0x0F, start[0] * 256 + start[1]
    return _ZLIB_WINDOW if method == zlib.DEFLATED and check % 31 == 0 else _RAW_WINDOW
