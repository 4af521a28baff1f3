"""What differs between the kinds of destination: defaults, and keys that mean nothing to them."""

from collections.abc import Mapping
from typing import Any

import msgspec

from forwarder.config.model import DAY, SpoolConfig


class Kind(msgspec.Struct, frozen=True, kw_only=True):
    """One kind of destination, as far as configuration goes."""

    defaults: Mapping[str, Any]
    """Defaults that differ from the model's."""
    foreign: Mapping[str, str]
    """Keys of other kinds that are refused, and why."""
    idle: Mapping[str, str] = {}
    """Keys that have no effect and cost nothing: a note."""
    required: Mapping[str, str] = {}
    """Keys without a default, and what to write."""


_ONE_CALL = "an event is one call"

KINDS: Mapping[str, Kind] = {
    "telemetrydeck": Kind(
        defaults={
            "url": "https://nom.telemetrydeck.com",
            "when_full": "evict_oldest",
            "expired": "drop",
            "concurrency": 4,
        },
        foreign={
            "write_key": "its API takes no key, the app id in each event names the account",
            "profile_max_age": "its events are all of one sort, max_age is the limit",
            "on_ambiguous": "a batch without an answer is always sent again",
            "max_ambiguous": "a batch without an answer is always sent again",
            "order": "its events carry their own time and are not kept in order per person",
        },
    ),
    "encharge": Kind(
        defaults={
            "url": "https://ingest.encharge.io/v1",
            "when_full": "refuse",
            "expired": "dead_letter",
            "concurrency": 8,
            "max_age": 1 * DAY,
            "profile_max_age": 7 * DAY,
        },
        foreign={
            "namespace": "its API has no namespaces",
            "apps": "its events carry no app id",
        },
        idle={"flush": f"{_ONE_CALL} that goes out at once"},
        required={"write_key": '{ file = "/etc/forwarder/encharge-write-key" }'},
    ),
}


def defaults(kind: str, spool: SpoolConfig) -> dict[str, Any]:
    """Return what a destination of `kind` has where its table says nothing.

    Ages stay within `spool.max_age`, so that shortening it there holds everywhere.
    """
    values = {"proxy": "env", "max_size": spool.max_size, "max_age": spool.max_age, **KINDS[kind].defaults}
    for key in ("max_age", "profile_max_age"):
        values[key] = min(values.get(key, spool.max_age), spool.max_age)
    return values
