"""The envelope of a request: its URL and headers, the write key among them."""

from collections.abc import Callable, Mapping

from forwarder.config.model import Destination
from forwarder.vendors.base import Vendor

URLS_LIMIT = 1000
"""A cache only: forgotten whole when apps are many."""


class Envelope:
    """Addresses the batches of one destination. The write key is read when told, and is nowhere but in the headers."""

    def __init__(self, destination: Destination, *, vendor: Vendor, secret: Callable[[], str | None]) -> None:
        self._destination = destination
        self._vendor = vendor
        self._secret = secret
        self._urls: dict[bytes, str] = {}
        self.headers: Mapping[str, str] | None = None
        """None: there is no write key, and nothing can be sent."""

    @property
    def destination(self) -> Destination:
        """Return the settings in force."""
        return self._destination

    def move(self, destination: Destination) -> None:
        """Use new settings."""
        self._destination = destination
        self._urls.clear()

    def url(self, key: bytes) -> str:
        """Return the URL of a batch key."""
        url = self._urls.get(key)
        if url is None:
            if len(self._urls) > URLS_LIMIT:
                self._urls.clear()
            url = self._urls[key] = self._vendor.url(self._destination, key)
        return url

    def read_key(self) -> str | None:
        """Read the write key again; return what is wrong with it."""
        destination = self._destination
        key = self._secret()
        needed = destination.kind == "encharge" or destination.write_key is not None
        if key is None and needed:
            self.headers = None
            name = f"destinations.{destination.name}.write_key"
            return f"no write key: {name} cannot be read; events are kept until it can"
        self.headers = self._vendor.headers(key)
        return None
