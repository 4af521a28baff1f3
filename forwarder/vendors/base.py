"""What a vendor package offers: checking at the door, and encoding and reading answers at delivery."""

from collections.abc import Mapping, Sequence
from typing import Literal, Protocol

import msgspec

from forwarder.config.model import Destination, Meaning
from forwarder.core.seams import Group, Trait
from forwarder.core.spool.frame import Span


class Refusal(msgspec.Struct, gc=False):
    """One event that was not accepted: its index in the request, an error that names the field, and a sample."""

    index: int
    error: str
    reason: str
    """A short, bounded word for the metric label: `not_object`, `missing_field`, `wrong_type`, `too_large`, …"""
    sample: bytes
    """At most the first 2 KiB of the event as sent."""


class Checked(msgspec.Struct, gc=False):
    """What a body holds: groups to submit (possibly none), refusals, and counted warnings by rule."""

    groups: list[Group]
    accepted: int
    refused: Sequence[Refusal] = ()
    warnings: Mapping[str, int] = {}
    key_mismatch: bool = False
    """The presented Encharge key is not the configured one; the event was accepted with the configured key."""


class BadRequest(msgspec.Struct, frozen=True):
    """The request as a whole is not taken: HTTP status and one sentence that says what to do."""

    status: int
    error: str
    reason: str
    """Metric label: `not_json`, `unknown_path`, `wrong_vendor`, `unknown_destination`, `unknown_key`, …"""
    allow: str | None = None
    """Value for the Allow header of a 405."""


class Route(Protocol):
    """One resolved (path, query): knows its vendor, its destinations and how to check a body."""

    success_status: int
    cacheable: bool
    """False when the path held a write key: such a path and its route must not be kept."""

    together: bool
    """`check_each` is worth trying, and nobody can tell in which order events of different requests were taken."""

    def check(self, body: bytes, *, received_at: bytes, presented_key: bytes | None = None) -> Checked | BadRequest:
        """Check every event of the body once.

        `received_at` is the ready ISO 8601 stamp (`2026-06-05T10:11:12.123Z`) for events without one. `presented_key`
        is the Encharge write key of the request's header, if any; it is compared in constant time and never kept.
        """

    def check_each(self, bodies: list[bytes], *, received_at: bytes) -> Checked | None:
        """Check bodies of one event each in one go, in order; None when any of them wants `check` of its own."""


class Vendor(Protocol):
    """Delivery's side of one vendor. Stateless."""

    kind: str
    batched: bool
    """Many records a request (an array), or one."""
    answers: Mapping[int, Meaning]
    """What a status means where it differs from the class default: 2xx delivered, 4xx isolate, the rest back_off."""

    def url(self, destination: Destination, batch_key: bytes) -> str:
        """Return the full URL to post to."""

    def headers(self, write_key: str | None) -> Mapping[str, str]:
        """Return request headers (content type, token). The key appears nowhere else."""

    def single(self, batch_key: bytes) -> bool:
        """Return whether this batch key takes one bare object a request instead of an array."""

    def body(self, spans: Sequence[Span], batch_key: bytes) -> bytes:
        """Return the request body: stored bytes joined, never parsed again."""

    def trait(self, event: bytes) -> Trait | None:
        """Return what the lane must know of an event that comes back from the dead letters, None when nothing."""


Shape = Literal["telemetrydeck", "encharge"]


class Router(Protocol):
    """From a request's path and query to a Route. Built from the destinations; resolving is cached by the caller."""

    def resolve(self, path: str, query: Mapping[str, str], *, encharge_token: bool) -> Route | BadRequest:
        """Return the route of `POST path?query`; `encharge_token` says that the request has X-Encharge-Token.

        `path` is percent-decoded. An unknown path is a 404 that says which paths and destinations exist.
        """

    def datagrams(self) -> Route:
        """Return the route of datagrams: by shape, as `/events`."""
