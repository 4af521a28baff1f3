"""The door's check of Encharge events: an object with an identity in some form, or a group."""

from forwarder.vendors import members as event_members
from forwarder.vendors.base import Checked
from forwarder.vendors.checking import Taken
from forwarder.vendors.documents import Fault
from forwarder.vendors.encharge import person
from forwarder.vendors.encharge.selector import KeySelector
from forwarder.vendors.members import Members
from forwarder.vendors.pieces import Pieces

BATCH_KEY = b"/v1"
"""One for all events of a destination: one endpoint, one event a call."""

_UNKNOWN_KEY = (
    "several Encharge destinations: the write key must be one of theirs (X-Encharge-Token, or /v1/{write-key}); "
    "on /events, name one with ?destination="
)


class PersonCheck:
    """Checks Encharge events; the presented key selects the destination."""

    together = False

    def __init__(self, selector: KeySelector) -> None:
        self._selector = selector

    def fast(self, text: bytes, received_at: bytes, key: bytes | None) -> Checked | None:
        """Leave every body to the careful way: it is one event, and its identities must be read anyhow."""
        del text, received_at, key
        return None

    def each(self, found: Pieces, received_at: bytes) -> Checked | None:
        """Leave them to `event`: the order of one person's events counts."""
        del found, received_at
        return None

    def event(self, event: bytes, received_at: bytes, key: bytes | None) -> Taken | Fault:
        """Check one event."""
        del received_at  # no event time is documented; the event is not ours to change
        members = event_members.members(event)
        about = person.read(members)
        if not about.identities and not about.group:
            return _no_identity(members, event)
        selected = self._selector.select(key)
        if selected.destination is None:
            return Fault(_UNKNOWN_KEY, "unknown_key", event)
        return Taken(selected.destination, BATCH_KEY, event, trait=about.trait, key_mismatch=selected.mismatch)


def _no_identity(members: Members, event: bytes) -> Fault:
    if event_members.shape(members) == "telemetrydeck":
        error = "user is missing; this looks like a TelemetryDeck signal: post an array of them to /v2/, or to /events"
        return Fault(error, "wrong_vendor", event)
    error = (
        "user.email or user.userId is missing: an event needs a person (a string; userId may be a number) or a group"
    )
    return Fault(error, "missing_field", event)
