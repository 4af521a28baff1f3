"""Faults to order: what the stand-in does wrong on purpose, for which requests, and for how many of them."""

from collections.abc import Callable, Sequence
from typing import Any, Literal, get_args

import msgspec

from forwarder.config import quantity
from forwarder.errors import ForwarderError
from forwarder.receiver.routes import Vendor

When = Literal["before-body", "after-body", "after-storing"]
"""Where a connection is cut or held: before the body is read, after it, or after the events were stored."""

MOMENTS: tuple[When, ...] = get_args(When)
BAD_REQUEST = 400


class BadFault(ForwarderError):
    """An order that cannot be carried out; the message names the field."""


class Faults(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One order. Without any field it is no fault at all; fields combine. Times in seconds, sizes in bytes."""

    status: int | None = None
    """Answer every request with this; below 300 the events are stored all the same."""
    fail_rate: float = 0.0
    """Share of the requests, 0 to 1, that are answered with `fail_status`."""
    fail_status: int = 503
    retry_after: str | None = None
    """Sent as Retry-After with every failure that was ordered: seconds or an HTTP date."""
    answer: str | None = None
    """Text that replaces the body of every answer that an order brought about."""
    latency: float = 0.0
    """Wait so long with the answer; the events are stored before the wait."""
    refuse_types: tuple[str, ...] = ()
    """Refuse any request that holds an event with this `type` (TelemetryDeck) or `name` (Encharge)."""
    refuse_users: tuple[str, ...] = ()
    """The same for `clientUser`, or `email` and `userId`."""
    refuse_apps: tuple[str, ...] = ()
    """The same for `appID`."""
    refuse_status: int = BAD_REQUEST
    reset: When | None = None
    """Reset the connection at this moment."""
    hang: When | None = None
    """Never answer from this moment on, until the client goes or the order is lifted (then the connection is reset)."""
    max_body: int | None = None
    """A larger body is answered 413."""
    max_events: int | None = None
    """A longer array is answered 413."""
    vendor: Vendor | None = None
    """Only requests to this vendor."""
    path: str | None = None
    """Only requests whose path begins so."""
    requests: int | None = None
    """Only so many requests; then the order is done."""

    def __post_init__(self) -> None:
        """Check what types cannot say."""
        for name in ("status", "fail_status", "refuse_status"):
            status = getattr(self, name)
            if status is not None and not 200 <= status <= 599:  # noqa: PLR2004  HTTP's range of final answers
                raise ValueError(f"{name}: expected an HTTP status from 200 to 599, got {status}")
        if not 0.0 <= self.fail_rate <= 1.0:
            raise ValueError(f"fail_rate: expected a share from 0 to 1, got {self.fail_rate}")
        for name in ("latency", "max_body", "max_events", "requests"):
            if (getattr(self, name) or 0) < 0:
                raise ValueError(f"{name}: expected 0 or more, got {getattr(self, name)}")

    @property
    def looks_inside(self) -> bool:
        """Return whether events must be parsed to carry this out."""
        return bool(self.refuse_types or self.refuse_users or self.refuse_apps or self.max_events)

    def concerns(self, vendor: str, path: str) -> bool:
        """Return whether this order is for requests of `vendor` to `path`."""
        return self.vendor in (None, vendor) and path.startswith(self.path or "")

    def names(self, tags: Sequence[str], users: Sequence[str], app: str) -> str | None:
        """Return which of an event's own words is to be refused, if any."""
        if self.refuse_types and (found := _first(tags, self.refuse_types)):
            return f"type {found}"
        if self.refuse_users and _first(users, self.refuse_users):
            return "user"
        return "appID" if app in self.refuse_apps else None


NONE = Faults()


class Orders:
    """The orders in force. The first one that concerns a request and is not done yet applies to it."""

    def __init__(self, orders: Sequence[Faults], chance: Callable[[], float]) -> None:
        self._orders = tuple(orders)
        self._left = [order.requests for order in self._orders]
        self._chance = chance

    @property
    def all(self) -> tuple[Faults, ...]:
        """Return every order as it was given."""
        return self._orders

    @property
    def standing(self) -> tuple[Faults, ...]:
        """Return the orders that are not done, `requests` telling how many are left."""
        pairs = zip(self._orders, self._left, strict=True)
        return tuple(msgspec.structs.replace(order, requests=left) for order, left in pairs if left != 0)

    def take(self, vendor: str, path: str) -> Faults:
        """Return the order for one request and count it."""
        for index, order in enumerate(self._orders):
            left = self._left[index]
            if left == 0 or not order.concerns(vendor, path):
                continue
            if left is not None:
                self._left[index] = left - 1
            return order
        return NONE

    def unlucky(self, order: Faults) -> bool:
        """Draw the lot for `fail_rate`."""
        return order.fail_rate > 0 and self._chance() < order.fail_rate


def parse(body: bytes) -> tuple[Faults, ...]:
    """Read orders from JSON: one object or an array; `latency` may be "200ms", `max_body` "64KiB", `retry_after` 5."""
    try:
        document = msgspec.json.decode(body) if body.strip() else []
        rows = document if isinstance(document, list) else [document]
        return tuple(msgspec.convert(_plain(row), Faults) for row in rows)
    except (msgspec.MsgspecError, ValueError) as error:
        raise BadFault(f"not an order: {error}. Fields: {', '.join(Faults.__struct_fields__)}") from error


def duration(text: str) -> float:
    """Return seconds for `250ms`, `10s`, `5m`."""
    seconds = quantity.seconds(text)
    if seconds is None:
        raise ValueError(f"expected a duration such as 250ms, 10s or 5m, got {text!r}")
    return seconds


def size(text: str) -> int:
    """Return bytes for `512KiB`, `64MiB`."""
    count = quantity.size(text)
    if count is None:
        raise ValueError(f"expected a size such as 512KiB or 64MiB, got {text!r}")
    return count


def _plain(row: Any) -> Any:
    if not isinstance(row, dict):
        return row
    plain = dict(row)
    if isinstance(plain.get("latency"), str):
        plain["latency"] = duration(plain["latency"])
    if isinstance(plain.get("max_body"), str):
        plain["max_body"] = size(plain["max_body"])
    if isinstance(plain.get("retry_after"), int):
        plain["retry_after"] = str(plain["retry_after"])
    return plain


def _first(words: Sequence[str], wanted: tuple[str, ...]) -> str | None:
    return next((word for word in words if word in wanted), None)
