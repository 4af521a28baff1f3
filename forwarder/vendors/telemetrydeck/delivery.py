"""Delivery to TelemetryDeck: stored signals joined into an array, posted to the path that they arrived on."""

from collections.abc import Mapping, Sequence

from forwarder.config.model import Destination
from forwarder.core.seams import Trait
from forwarder.core.spool.frame import Span
from forwarder.vendors import answers, encoding

_HEADERS: Mapping[str, str] = {"Content-Type": "application/json"}


class TelemetryDeck:
    """The Vendor protocol for TelemetryDeck."""

    kind = "telemetrydeck"
    batched = True
    answers = answers.TABLE

    def url(self, destination: Destination, batch_key: bytes) -> str:
        """Return the destination's base followed by the path of the batch key."""
        return destination.url.rstrip("/") + _path(batch_key).decode()

    def headers(self, write_key: str | None) -> Mapping[str, str]:
        """Return the content type; the vendor knows no authentication."""
        del write_key
        return _HEADERS

    def single(self, batch_key: bytes) -> bool:
        """Return whether this is the old path that takes one bare object."""
        path = _path(batch_key)
        return path.startswith(b"/api/") and path.endswith(b"/signals/")

    def body(self, spans: Sequence[Span], batch_key: bytes) -> bytes:
        """Return an array of the stored bytes, or the one object of the old path."""
        return encoding.one(spans) if self.single(batch_key) else encoding.array(spans)

    def trait(self, event: bytes) -> Trait | None:
        """Return None: signals have no order and one age."""
        del event
        return None


def _path(batch_key: bytes) -> bytes:
    return batch_key.partition(b"\0")[0]
