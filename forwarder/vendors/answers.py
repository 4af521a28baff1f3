"""What an answer means where it differs from its class (2xx delivered, 3xx park, 4xx isolate, the rest back_off).

401, 402 and 407 say that our configuration is wrong, 403 and 404 that it is wrong for this path or app, and 408, 425,
429 that now is a bad time; every other 4xx is about the events. Both vendors share the table: neither documents its
failure codes. `answers` of a destination overrides single statuses. docs/DELIVERY.md shows it whole.
"""

from collections.abc import Mapping
from types import MappingProxyType

from forwarder.config.model import Meaning
from forwarder.core.lane.outcome import MEANINGS

_REDIRECTS: dict[int, Meaning] = dict.fromkeys(range(300, 400), "park")

TABLE: Mapping[int, Meaning] = MappingProxyType({**_REDIRECTS, **MEANINGS})
