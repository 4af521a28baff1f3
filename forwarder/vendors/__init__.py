"""All that is known about the vendors, one package each. A third vendor is one package and one line in this table."""

from collections.abc import Mapping
from types import MappingProxyType

from forwarder.vendors.base import Vendor
from forwarder.vendors.encharge.delivery import Encharge
from forwarder.vendors.telemetrydeck.delivery import TelemetryDeck

VENDORS: Mapping[str, Vendor] = MappingProxyType({vendor.kind: vendor for vendor in (TelemetryDeck(), Encharge())})
