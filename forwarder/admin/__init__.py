"""The admin listener: /livez /readyz /metrics /status and a page for people. Read-only, always."""

from forwarder.admin.gauges import Gauges
from forwarder.admin.history import History
from forwarder.admin.server import AdminServer

__all__ = ["AdminServer", "Gauges", "History"]
