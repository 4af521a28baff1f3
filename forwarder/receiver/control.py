"""The stand-in's own paths, under /_receiver: order faults and read what was received while it runs."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import msgspec

from forwarder.receiver import faults, journal
from forwarder.receiver.faults import BadFault, Faults, Orders
from forwarder.receiver.journal import Journal, Seen
from forwarder.receiver.routes import VENDORS, Vendor

PREFIX = "/_receiver"
JSON = "application/json"
NDJSON = "application/x-ndjson"
HELP = {
    "GET /_receiver/faults": "the orders in force",
    "PUT /_receiver/faults": "replace them: one JSON object or an array; the first that concerns a request applies",
    "DELETE /_receiver/faults": "no faults any more",
    "GET /_receiver/received": "counts; with ?events=all|telemetrydeck|encharge the events themselves as NDJSON",
    "DELETE /_receiver/received": "forget what was received",
    "GET /_receiver/requests": "the last requests as NDJSON",
    "fields of an order": ", ".join(Faults.__struct_fields__),
}


class Reply(msgspec.Struct, frozen=True):
    """An answer of the control paths."""

    status: int
    body: bytes
    content_type: str = JSON
    allow: str = ""


class Controlled(Protocol):
    """What the control paths may touch."""

    journal: Journal

    @property
    def orders(self) -> Orders:
        """Return the orders in force."""

    def order(self, orders: tuple[Faults, ...]) -> None:
        """Replace the orders."""


def answer(method: str, path: str, query: Mapping[str, str], body: bytes, receiver: Controlled) -> Reply:
    """Carry out one request to a control path."""
    name = path.removeprefix(PREFIX).strip("/")
    table = _TABLE.get(name)
    if table is None:
        return _reply({"error": f"no such control path; there are: {', '.join(HELP)}"}, 404)
    act = table.get(method)
    if act is None:
        allow = ", ".join(table)
        return Reply(405, msgspec.json.encode({"error": f"{path} takes {allow}"}), allow=allow)
    try:
        return act(receiver, query, body)
    except BadFault as error:
        return _reply({"error": str(error)}, 400)


def _help(_receiver: Controlled, _query: Mapping[str, str], _body: bytes) -> Reply:
    return _reply(HELP)


def _show_faults(receiver: Controlled, _query: Mapping[str, str], _body: bytes) -> Reply:
    given = [{name: value for name, value in row.items() if value} for row in _rows(receiver.orders.standing)]
    return _reply({"faults": given})


def _put_faults(receiver: Controlled, query: Mapping[str, str], body: bytes) -> Reply:
    receiver.order(faults.parse(body))
    return _show_faults(receiver, query, body)


def _lift_faults(receiver: Controlled, query: Mapping[str, str], body: bytes) -> Reply:
    receiver.order(())
    return _show_faults(receiver, query, body)


def _show_received(receiver: Controlled, query: Mapping[str, str], _body: bytes) -> Reply:
    which = query.get("events")
    if which is None:
        return _reply(receiver.journal.counts())
    if which not in ("all", *VENDORS):
        return _reply({"error": f"events: expected all, {' or '.join(VENDORS)}, got {which!r}"}, 400)
    rows = receiver.journal.events(_vendor(which))
    return Reply(200, b"".join(map(journal.line, rows)), NDJSON)


def _forget(receiver: Controlled, _query: Mapping[str, str], _body: bytes) -> Reply:
    receiver.journal.clear()
    return _reply(receiver.journal.counts())


def _show_requests(receiver: Controlled, query: Mapping[str, str], _body: bytes) -> Reply:
    seen = receiver.journal.requests(_vendor(query.get("vendor", "all")))
    return Reply(200, b"".join(request_line(row) for row in seen), NDJSON)


_Act = Callable[[Controlled, Mapping[str, str], bytes], Reply]
_TABLE: Mapping[str, Mapping[str, _Act]] = {
    "": {"GET": _help},
    "faults": {"GET": _show_faults, "PUT": _put_faults, "DELETE": _lift_faults},
    "received": {"GET": _show_received, "DELETE": _forget},
    "requests": {"GET": _show_requests},
}


def request_line(seen: Seen) -> bytes:
    """Return one request as a line of JSON, without its body."""
    row = msgspec.structs.asdict(seen)
    del row["body"]
    return msgspec.json.encode(row) + b"\n"


def _rows(orders: tuple[Faults, ...]) -> list[dict[str, Any]]:
    return [msgspec.structs.asdict(order) for order in orders]


def _vendor(word: str) -> Vendor | None:
    return next((vendor for vendor in VENDORS if vendor == word), None)


def _reply(document: Any, status: int = 200) -> Reply:
    return Reply(status, msgspec.json.encode(document) + b"\n")
