"""Delivery to Encharge: one stored event a call, with the destination's write key in a header."""

from collections.abc import Mapping, Sequence

from forwarder.config.model import Destination
from forwarder.core.json.text import Malformed
from forwarder.core.seams import Trait
from forwarder.core.spool.frame import Span
from forwarder.vendors import answers, encoding
from forwarder.vendors import members as event_members
from forwarder.vendors.encharge import person


class Encharge:
    """The Vendor protocol for Encharge."""

    kind = "encharge"
    batched = False
    answers = answers.TABLE

    def url(self, destination: Destination, batch_key: bytes) -> str:
        """Return the destination's URL, which is the endpoint itself."""
        del batch_key
        return destination.url

    def headers(self, write_key: str | None) -> Mapping[str, str]:
        """Return content type and token; the key appears nowhere else."""
        token = {} if write_key is None else {"X-Encharge-Token": write_key}
        return {"Content-Type": "application/json", **token}

    def single(self, batch_key: bytes) -> bool:
        """Return True: no batch form exists."""
        del batch_key
        return True

    def body(self, spans: Sequence[Span], batch_key: bytes) -> bytes:
        """Return the event as it was sent."""
        del batch_key
        return encoding.one(spans)

    def trait(self, event: bytes) -> Trait | None:
        """Return age class and order of an event; of one that an editor has broken, none."""
        try:
            return person.read(event_members.members(event)).trait
        except Malformed:
            return Trait()
