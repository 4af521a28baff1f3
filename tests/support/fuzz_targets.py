"""What must hold whatever bytes come: at a connection of the door, and at the vendor checks. Used by every fuzzer."""

import asyncio
import json
import re
from collections.abc import Callable, Mapping
from typing import NoReturn

from forwarder.config.model import Destination
from forwarder.vendors.base import BadRequest, Checked, Route
from forwarder.vendors.router import DestinationRouter
from tests.sources.memory_door import hear_out, memory_door
from tests.support.bodies import STAMP, STAMPED

ROUTER = DestinationRouter(
    [
        Destination(name="td", kind="telemetrydeck", url="http://127.0.0.1:1"),
        Destination(name="en", kind="encharge", url="http://127.0.0.1:1/v1"),
    ],
    secret=lambda _: "key",
    max_event=1 << 20,
)
PATHS = ("/events", "/v2/", "/v1", "/v3/ns/", "/v1/key", "/api/v1/apps/a/signals", "/api/v1/apps/a/signals/multiple")
LOOP = asyncio.new_event_loop()
_NULL_STAMP = re.compile(rb'"receivedAt"\s*:\s*"' + re.escape(STAMP) + rb'"')


def _route(path: str) -> Route:
    found = ROUTER.resolve(path, {}, encharge_token=False)
    assert not isinstance(found, BadRequest)
    return found


ROUTES = [*map(_route, PATHS), ROUTER.datagrams()]


def door(data: bytes) -> None:
    """Feed a connection whole, and cut where the first byte says: only answers come out, and the same ones.

    No exception, no 5xx (but 505), no memory kept.
    """
    whole = _answers(data)
    assert not [status for status in whole[0] if status[:1] == b"5" and status != b"505"], whole[0]
    cut = data[0] % len(data) if data else 0
    assert _answers(data[:cut], data[cut:]) == whole


def body(data: bytes) -> None:
    """Check a body on the path that its first byte names, and compare with what Python's own parser says of it.

    What is stored is an object by RFC 8259 in valid UTF-8, and nothing but the sender's bytes beside stamp and repair.
    What is JSON is not called none.
    """
    if not data:
        return
    route, text = ROUTES[data[0] % len(ROUTES)], data[1:]
    checked = route.check(text, received_at=STAMP)
    if isinstance(checked, BadRequest):
        assert 400 <= checked.status < 500, checked
        assert checked.reason != "not_json" or not _is_json(text), checked
        return
    _sums(checked)
    for group in checked.groups:
        for event in group.events:
            assert isinstance(_parsed(event), dict), event
            assert _origin(event, text), event


TARGETS: Mapping[str, Callable[[bytes], None]] = {"door": door, "body": body}


def _answers(*pieces: bytes) -> tuple[list[bytes], list[bytes]]:
    """Return the statuses answered and the events stored."""

    async def converse() -> tuple[list[bytes], list[bytes]]:
        _, listener, intake = memory_door(router=ROUTER, max_body=64 * 1024)
        return re.findall(rb"HTTP/1\.1 (\d{3}) ", await hear_out(listener, pieces)), intake.events

    return LOOP.run_until_complete(converse())


def _sums(checked: Checked) -> None:
    assert checked.accepted == sum(len(group.events) for group in checked.groups)
    for group in checked.groups:
        assert group.size == sum(map(len, group.events))
        assert group.traits is None or len(group.traits) == len(group.events)


def _origin(event: bytes, text: bytes) -> bool:
    """Return whether the event is a piece of the body, but for the stamp; repaired ones are not looked at."""
    if b"NaN" in text or b"Infinity" in text:
        return True
    if event.removeprefix(STAMPED) != event:
        event = event.removeprefix(STAMPED)
    parts = _NULL_STAMP.split(event)
    return all(part in text for part in parts)


def _is_json(text: bytes) -> bool:
    try:
        _parsed(text)
    except (ValueError, RecursionError):
        return False
    return True


def _parsed(text: bytes) -> object:
    """Parse by RFC 8259; numbers are not made, because there is no limit to them."""
    return json.loads(text.decode().removeprefix("\ufeff"), parse_constant=_refuse, parse_int=len, parse_float=len)


def _refuse(name: str) -> NoReturn:
    raise ValueError(name)
