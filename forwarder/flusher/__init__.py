"""Delivery's shell: lease → lane → send → ack. What to do is decided in core; here it is done."""

from forwarder.flusher.client import Client
from forwarder.flusher.flusher import Flusher

__all__ = ["Client", "Flusher"]
