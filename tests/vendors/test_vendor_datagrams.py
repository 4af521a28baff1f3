"""Datagrams checked at once are what they are one by one, or they are not checked at once."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forwarder.config.model import Destination
from forwarder.vendors.base import BadRequest, Checked
from forwarder.vendors.router import DestinationRouter
from tests.support.bodies import STAMP

TD = Destination(name="td", kind="telemetrydeck", url="http://127.0.0.1:1")
ROUTE = DestinationRouter((TD,), secret=lambda _: None, max_event=1000).datagrams()
MUST = b'"appID":"a","clientUser":"u","type":"t"'
GOOD = b"{" + MUST + b"}"


def one_by_one(bodies: list[bytes]) -> list[bytes] | None:
    """Return what is stored of each, or None when any is refused or is not one event."""
    stored: list[bytes] = []
    for body in bodies:
        checked = ROUTE.check(body, received_at=STAMP)
        if isinstance(checked, BadRequest) or checked.refused or checked.accepted != 1:
            return None
        stored += checked.groups[0].events
    return stored


def events(checked: Checked) -> list[bytes]:
    return [event for group in checked.groups for event in group.events]


def test_good_datagrams_are_checked_at_once() -> None:
    bodies = [
        GOOD,
        b'{"receivedAt":"2020-01-01T00:00:00Z",' + MUST + b"}",
        b'{"receivedAt":null,' + MUST + b"}",
        b'{"note":"\xc3\xa9",' + MUST + b',"payload":{"deep":{"er":1}}}',
        b" " + GOOD + b"\r\n",
    ]
    checked = ROUTE.check_each(bodies, received_at=STAMP)
    assert checked is not None
    assert events(checked) == one_by_one(bodies)
    assert checked.warnings == {"nested_payload": 1}


@pytest.mark.parametrize(
    "bodies",
    [
        [GOOD, GOOD + b"," + GOOD],
        [GOOD + b"," + GOOD, b'{"x":"', b'",' + MUST + b"}"],
        [b"{" + MUST + b',"x":"}', b'{"}', GOOD + b"," + GOOD],
        [GOOD, b"]" + GOOD],
        [GOOD, b""],
        [GOOD, b"[" + GOOD + b"]"],
        [GOOD, b'{"appID":"a"}'],
        [GOOD, b'{"x":"\xc3",' + MUST + b"}"],
        [GOOD, b'{"x":NaN,' + MUST + b"}"],
        [GOOD, b'{"x":"' + b"x" * 1000 + b'",' + MUST + b"}"],
        [GOOD, b'{"x":' + b"[" * 600 + b"]" * 600 + b"," + MUST + b"}"],
    ],
    ids=[
        "two in one", "one in two, two in one", "an end in the next", "a closing bracket", "empty",
        "an array", "refused", "not UTF-8", "NaN", "too large", "too deep",
    ],
)  # fmt: skip
def test_whatever_is_not_one_good_event_a_datagram_is_checked_one_by_one(bodies: list[bytes]) -> None:
    assert ROUTE.check_each(bodies, received_at=STAMP) is None


PIECES = (GOOD, MUST, b"{", b"}", b"[", b"]", b",", b'"', b'"x":"', b" ", b"\\", b"\xc3", b"null", b"1")


def test_arrays_of_one_event_are_checked_at_once_and_one_of_two_is_not() -> None:
    bodies = [b"[" + GOOD + b"]", b"[ " + GOOD + b"\n]"]
    checked = ROUTE.check_each(bodies, received_at=STAMP)
    assert checked is not None
    assert events(checked) == one_by_one(bodies)
    for other in (b"[" + GOOD + b"," + GOOD + b"]", b"[]", GOOD):
        assert ROUTE.check_each([*bodies, other], received_at=STAMP) is None


@given(st.lists(st.lists(st.sampled_from(PIECES), max_size=6).map(b"".join), min_size=1, max_size=5))
def test_no_bytes_of_one_datagram_change_what_another_one_is(bodies: list[bytes]) -> None:
    checked = ROUTE.check_each(bodies, received_at=STAMP)
    assert checked is None or events(checked) == one_by_one(bodies)
