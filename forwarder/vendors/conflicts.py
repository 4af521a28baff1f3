"""Destinations that could take the same request: a configuration error, because nothing is ever sent twice."""

from collections.abc import Sequence
from itertools import combinations

from forwarder.config.model import Destination


def find_conflicts(destinations: Sequence[Destination]) -> list[str]:
    """Return one sentence for every pair that could take the same event, naming the keys to change."""
    found = (_conflict(one, other) for one, other in combinations(destinations, 2) if one.kind == other.kind)
    return [sentence for sentence in found if sentence]


def _conflict(one: Destination, other: Destination) -> str | None:
    names = f"destinations.{one.name} and destinations.{other.name}"
    if one.kind == "encharge":
        same = one.write_key is not None and one.write_key == other.write_key
        return f"{names} have the same write_key, which selects between them: give each its own" if same else None
    shared = sorted(set(one.apps) & set(other.apps))
    if shared:
        return f"{names} both serve the app {shared[0]!r}: name each app in `apps` of one of them"
    if one.apps and other.apps:
        return None
    return f"{names} could both take a request to /v2/: give both `apps`, without an app in common"
