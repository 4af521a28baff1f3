"""A stand-in for both vendors' ingest APIs, with faults to order: `forwarder receive`, the demo, and the tests use it.

It shares no code with `forwarder.vendors`: what the daemon sends is judged here by the vendors' documentation alone, so
that a mistake made there is caught here.
"""

from forwarder.receiver.faults import BadFault, Faults, When
from forwarder.receiver.journal import Journal, Received, Seen, read_store
from forwarder.receiver.routes import Vendor
from forwarder.receiver.server import Receiver

__all__ = ["BadFault", "Faults", "Journal", "Received", "Receiver", "Seen", "Vendor", "When", "read_store"]
