"""What an answer means where it differs from its class (2xx delivered, 4xx isolate, the rest back_off).

401, 402, 407 and redirects say that our configuration is wrong, 403 and 404 that it is wrong for this path or app, and
408, 425, 429 that now is a bad time; every other 4xx is about the events. Both vendors share the table: neither
documents its failure codes. `answers` of a destination overrides single statuses.
"""

from collections.abc import Mapping
from types import MappingProxyType

from forwarder.config.model import Meaning

_PARK: dict[int, Meaning] = dict.fromkeys((*range(300, 400), 401, 402, 407), "park")
_PARK_KEY: dict[int, Meaning] = dict.fromkeys((403, 404), "park_key")
_BACK_OFF: dict[int, Meaning] = dict.fromkeys((408, 425, 429), "back_off")

TABLE: Mapping[int, Meaning] = MappingProxyType({**_PARK, **_PARK_KEY, **_BACK_OFF})
