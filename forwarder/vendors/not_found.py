"""The 404s of the door: each says what does exist."""

from collections.abc import Iterable, Sequence

from forwarder.config.model import Destination
from forwarder.vendors.base import BadRequest, Shape

WEB = BadRequest(
    404,
    "the web SDK's path is not served: its country and browser come from the browser's own connection, which a relay "
    "would falsify; let the web SDK talk to the vendor",
    "web_path",
)

_PATHS: dict[Shape, str] = {
    "telemetrydeck": "/v2/, /v2/namespace/{namespace}/, /v3/{namespace}/, /v1/ (an array), "
    "/api/v1/apps/{appID}/signals/multiple/, /api/v1/apps/{appID}/signals/",
    "encharge": "/v1 and /v1/{write-key} (one object)",
}


class NotFound:
    """Words the answer to a request that no destination takes."""

    def __init__(self, destinations: Sequence[Destination]) -> None:
        self._destinations = destinations
        self._served = self._all_paths()

    def path(self) -> BadRequest:
        """Answer a path that nobody serves."""
        return BadRequest(404, f"no such path; {self._served}", "unknown_path")

    def kind(self, kind: Shape) -> BadRequest:
        """Answer a request of a vendor that has no destination."""
        error = f'this is a request to {kind}, and no destination of kind "{kind}" is configured; {self._served}'
        return BadRequest(404, error, "no_destination")

    def namespace(self) -> BadRequest:
        """Answer a namespace that no destination serves."""
        served = _names(each.namespace for each in self._destinations if each.namespace)
        error = f"no destination serves this namespace; `namespace` is set to: {served}"
        return BadRequest(404, error, "unknown_namespace")

    def destination(self) -> BadRequest:
        """Answer a `?destination=` that does not exist."""
        error = f"no such destination; there are: {_names(each.name for each in self._destinations)}"
        return BadRequest(404, error, "unknown_destination")

    def _all_paths(self) -> str:
        """Return the paths that exist, by destination."""
        kinds = {
            each.kind: _names(other.name for other in self._destinations if other.kind == each.kind)
            for each in self._destinations
        }
        served = [f"{_PATHS[kind]} for {names}" for kind, names in kinds.items()]
        return "; ".join(["POST /events for any event", *served])


def _names(names: Iterable[str | None]) -> str:
    return ", ".join(sorted({name for name in names if name})) or "none"
