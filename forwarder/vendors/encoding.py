"""Request bodies from stored bytes: joined, never parsed again."""

from collections.abc import Sequence

from forwarder.core.spool.frame import Span


def array(spans: Sequence[Span]) -> bytes:
    """Return a JSON array of all records; one span is one concatenation."""
    parts: list[bytes | memoryview] = [b"["]
    for span in spans:
        parts += (span.data, b",")
    parts[-1] = b"]"
    return b"".join(parts)


def one(spans: Sequence[Span]) -> bytes:
    """Return the only record of the only span."""
    (span,) = spans
    if span.count != 1:
        raise ValueError(f"this batch key takes one event a request, not {span.count}")
    return bytes(span.data)
