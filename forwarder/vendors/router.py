"""From a request's path and query to the route that checks its body."""

from collections.abc import Callable, Mapping, Sequence

from forwarder.config.model import Destination
from forwarder.vendors import not_found
from forwarder.vendors.base import BadRequest, Route
from forwarder.vendors.checking import EventCheck
from forwarder.vendors.conflicts import find_conflicts
from forwarder.vendors.door import BodyRoute
from forwarder.vendors.encharge.check import PersonCheck
from forwarder.vendors.encharge.selector import KeySelector, Secrets
from forwarder.vendors.not_found import NotFound
from forwarder.vendors.shapes import ShapeCheck
from forwarder.vendors.telemetrydeck import paths
from forwarder.vendors.telemetrydeck.check import SignalCheck
from forwarder.vendors.telemetrydeck.paths import IngestPath
from forwarder.vendors.telemetrydeck.targets import Targets

__all__ = ["DestinationRouter", "find_conflicts"]

_NO_ARRAY = BadRequest(
    400, "Encharge takes one object a request, this is an array: post it to /events, or one by one", "wrong_vendor"
)
_NO_MANY = BadRequest(400, "this path takes one object: post an array to the same path with multiple/", "not_object")
_NO_API = BadRequest(400, "api must be v2 or v3", "unknown_api")
_NO_NAMESPACE = BadRequest(400, "api=v3 needs a namespace: set `namespace` of the destination", "unknown_api")


class DestinationRouter:
    """Resolves paths for the configured destinations; `secret` returns a destination's write key of the moment."""

    def __init__(self, destinations: Sequence[Destination], *, secret: Secrets, max_event: int) -> None:
        self._by_name = {each.name: each for each in destinations}
        self._signals = [each for each in destinations if each.kind == "telemetrydeck"]
        self._persons = [each for each in destinations if each.kind == "encharge"]
        self._not_found = NotFound(destinations)
        self._secret = secret
        self._max_event = max_event

    def resolve(self, path: str, query: Mapping[str, str], *, encharge_token: bool) -> Route | BadRequest:
        """Return the route of `POST path?query`, or a 404 that says what exists."""
        segments = [segment for segment in path.split("/") if segment]
        match segments:
            case ["events"]:
                return self._events(query.get("destination"), query.get("api", "v2"))
            case ["v1", write_key]:
                return self._person_route(write_key.encode(errors="surrogatepass"))
            case _ if encharge_token:
                return self._person_route()
            case ["v1"] if self._by_name:
                return self._first_route()
        if paths.is_web(segments):
            return not_found.WEB
        ingest = paths.parse(segments)
        return self._not_found.path() if ingest is None else self._signal_route(ingest)

    def datagrams(self) -> Route:
        """Return the route of datagrams: by shape, as `/events`."""
        return self._by_shape(self._signals, "v2")

    def _signal_route(self, ingest: IngestPath) -> Route | BadRequest:
        """One of TelemetryDeck's own paths: signals stay on it."""
        if not self._signals:
            return self._not_found.kind("telemetrydeck")
        serving = [each for each in self._signals if ingest.namespace in (None, each.namespace or ingest.namespace)]
        if not serving:
            return self._not_found.namespace()
        check = self._signal_check(serving, lambda _: ingest)
        return BodyRoute(array=_NO_MANY if ingest.single else check, single=check, max_event=self._max_event)

    def _person_route(self, path_key: bytes | None = None) -> Route | BadRequest:
        """One of Encharge's own paths, or any path with its token."""
        if not self._persons:
            return self._not_found.kind("encharge")
        check = self._person_check(self._persons)
        return BodyRoute(array=_NO_ARRAY, single=check, max_event=self._max_event, path_key=path_key)

    def _first_route(self) -> Route:
        """`/v1`, which both vendors have: an array is TelemetryDeck's, an object Encharge's."""
        signals, persons = self._signals, self._persons
        return BodyRoute(
            array=self._signal_check(signals, lambda _: paths.V1) if signals else self._not_found.kind("telemetrydeck"),
            single=self._person_check(persons) if persons else self._not_found.kind("encharge"),
            max_event=self._max_event,
        )

    def _events(self, name: str | None, api: str) -> Route | BadRequest:
        """`/events`: by shape, or all to one destination."""
        if api not in ("v2", "v3"):
            return _NO_API
        if name is not None and name not in self._by_name:
            return self._not_found.destination()
        if name is not None and self._by_name[name].kind == "encharge":
            return self._events_route(self._person_check([self._by_name[name]]))
        signals = self._signals if name is None else [self._by_name[name]]
        if api == "v3":
            signals = [each for each in signals if each.namespace]
            if not signals:
                return _NO_NAMESPACE
        if name is None:
            return self._by_shape(signals, api)
        return self._events_route(self._own_path_check(signals, api))

    def _by_shape(self, signals: Sequence[Destination], api: str) -> Route:
        check = ShapeCheck(
            telemetrydeck=self._own_path_check(signals, api) if signals else None,
            encharge=self._person_check(self._persons) if self._persons else None,
        )
        return self._events_route(check)

    def _events_route(self, check: EventCheck) -> Route:
        return BodyRoute(array=check, single=check, max_event=self._max_event, success_status=202, lines=True)

    def _person_check(self, persons: Sequence[Destination]) -> EventCheck:
        return PersonCheck(KeySelector([each.name for each in persons], self._secret))

    def _own_path_check(self, signals: Sequence[Destination], api: str) -> EventCheck:
        """Check signals that came on no path of the vendor's: they take that of their destination."""
        return self._signal_check(signals, lambda each: _own_path(each, api))

    def _signal_check(self, signals: Sequence[Destination], path_of: Callable[[Destination], IngestPath]) -> EventCheck:
        return SignalCheck(path_of(signals[0]), Targets(signals, path_of), max_event=self._max_event)


def _own_path(destination: Destination, api: str) -> IngestPath:
    """Return the path of signals that arrived on none: the configured namespace, or /v2/."""
    if destination.namespace is None:
        return paths.V2
    return paths.in_namespace("v3" if api == "v3" else "v2", destination.namespace)
