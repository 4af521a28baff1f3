"""Which TelemetryDeck destination takes an app's events on one path, and under which batch key."""

from collections.abc import Callable, Iterable
from hashlib import blake2b

import msgspec

from forwarder.config.model import Destination
from forwarder.vendors.telemetrydeck.paths import IngestPath

MAX_CACHED = 1024
"""Apps remembered; beyond it the memory starts over, so that invented appIDs fill nothing."""

MAX_APP_BYTES = 128
"""A longer appID stands as its hash in the batch key, which only has to tell apps apart."""


class Target(msgspec.Struct, frozen=True):
    """Where the events of one app go."""

    destination: str
    batch_key: bytes


class Targets(dict[str, Target | None]):
    """The target of an appID (`targets[app]`) among the destinations that serve one path; None when none serves it.

    `path_of` gives each destination its path. A dict that fills itself: what was found once costs one look-up.
    """

    def __init__(self, destinations: Iterable[Destination], path_of: Callable[[Destination], IngestPath]) -> None:
        super().__init__()
        served = [(destination, path_of(destination)) for destination in destinations]
        self._by_app = {app: entry for entry in served for app in entry[0].apps}
        self._any = next((entry for entry in served if not entry[0].apps), None)

    def __missing__(self, app: str) -> Target | None:
        """Find an app's target and remember it."""
        if len(self) >= MAX_CACHED:
            self.clear()
        target = self[app] = self._find(app)
        return target

    def _find(self, app: str) -> Target | None:
        entry = self._by_app.get(app, self._any)
        if entry is None:
            return None
        destination, path = entry
        return Target(destination.name, batch_key(path, app))


def batch_key(path: IngestPath, app: str) -> bytes:
    """Return the batch key: path and appID, told apart by the first zero byte."""
    name = app.encode(errors="surrogatepass")
    if len(name) > MAX_APP_BYTES:
        name = b"blake2b:" + blake2b(name, digest_size=16).hexdigest().encode()
    return path.text + b"\0" + name
