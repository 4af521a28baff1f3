"""`/events` and datagrams: each event goes to the vendor whose shape it has."""

from forwarder.vendors import members as event_members
from forwarder.vendors.base import Checked
from forwarder.vendors.checking import EventCheck, Taken
from forwarder.vendors.documents import Fault
from forwarder.vendors.pieces import Pieces

_NO_SHAPE = "no vendor has such an event: it needs appID (TelemetryDeck), or user, userId or email (Encharge)"


class ShapeCheck:
    """Hands each event to the vendor that its members name; a vendor without a destination is None."""

    def __init__(self, *, telemetrydeck: EventCheck | None, encharge: EventCheck | None) -> None:
        self._telemetrydeck = telemetrydeck
        self._encharge = encharge
        self.together = telemetrydeck is not None and encharge is None

    def fast(self, text: bytes, received_at: bytes, key: bytes | None) -> Checked | None:
        """Check a body of signals in one go; with anything else in it, look at each event."""
        return None if self._telemetrydeck is None else self._telemetrydeck.fast(text, received_at, key)

    def each(self, found: Pieces, received_at: bytes) -> Checked | None:
        """Check bodies that are signals, all of them."""
        return None if self._telemetrydeck is None else self._telemetrydeck.each(found, received_at)

    def event(self, event: bytes, received_at: bytes, key: bytes | None) -> Taken | Fault:
        """Check one event by the vendor of its shape."""
        shape = event_members.shape(event_members.members(event))
        if shape is None:
            return Fault(_NO_SHAPE, "unknown_shape", event)
        check = self._telemetrydeck if shape == "telemetrydeck" else self._encharge
        if check is None:
            return Fault(f'no destination of kind "{shape}" is configured for this event', "no_destination", event)
        return check.event(event, received_at, key)
