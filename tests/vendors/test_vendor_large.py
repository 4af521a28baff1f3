"""Large bodies are checked in pieces; the answer is the one that a small body would get."""

import gc
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forwarder.config.model import Destination
from forwarder.core.json.text import Malformed
from forwarder.vendors import documents, large
from forwarder.vendors.base import BadRequest, Checked, Route
from forwarder.vendors.door import LARGE
from forwarder.vendors.router import DestinationRouter
from tests.support.bodies import STAMP, STAMPED

SIGNAL = b'{"appID":"A","clientUser":"u","type":"t","payload":{"x":"},{ \\" ]","y":"%s"}}' % (b"z" * 250)
PERSON = b'{"name":"n","user":{"email":"a@b.example"},"properties":{"x":[1,{"a":2},{"b":3}]}}'
NEST = b'{"appID":"A","clientUser":"u","type":"t","x":' + b"[" * 2000 + b"]" * 2000 + b"}"
MEMBERS = b'{"appID":"A","clientUser":"u","type":"t","x":[' + b",".join([b'{"a":1}'] * 50_000) + b"]}"


def route(path: str = "/events") -> Route:
    destinations = [
        Destination(name="td", kind="telemetrydeck", url="http://127.0.0.1:1"),
        Destination(name="en", kind="encharge", url="http://127.0.0.1:1/v1"),
    ]
    found = DestinationRouter(destinations, secret=lambda _: None, max_event=1 << 20).resolve(
        path, {}, encharge_token=False
    )
    assert not isinstance(found, BadRequest)
    return found


def stored(checked: Checked) -> list[bytes]:
    return sorted(event for group in checked.groups for event in group.events)


@settings(max_examples=5, deadline=None)
@given(
    st.lists(
        st.sampled_from(
            [SIGNAL, PERSON, NEST, MEMBERS, b'{"no":1}', b"1", b'"},{"', b"[1,2]", b'{"user":{"email":NaN}}']
        ),
        max_size=8,
    ),
    st.sampled_from([b",", b" , ", b"\n,\n"]),
    st.integers(0, 2000),
)
def test_a_large_array_gets_the_verdicts_that_its_events_get_alone(odd: list[bytes], comma: bytes, at: int) -> None:
    events = [SIGNAL] * 3000
    for index, event in enumerate(odd):
        events.insert(at + 37 * index, event)
    body = b" [" + comma.join(events) + b" ] "
    assert len(body) > LARGE
    alone = {event: route().check(event, received_at=STAMP) for event in odd}
    checked = route().check(body, received_at=STAMP)
    assert isinstance(checked, Checked)
    assert checked.accepted + len(checked.refused) == len(events)
    bad = [index for index, event in enumerate(events) if event in alone and not _accepted(alone[event])]
    assert [refusal.index for refusal in checked.refused] == bad
    assert stored(checked).count(STAMPED + SIGNAL[1:]) == events.count(SIGNAL)
    assert all(group.size == sum(map(len, group.events)) for group in checked.groups)
    assert all(group.traits is None or len(group.traits) == len(group.events) for group in checked.groups)


def _accepted(answer: Checked | BadRequest) -> bool:
    return isinstance(answer, Checked) and answer.accepted == 1


SHAPES = {
    "payload in the middle": b'{"appID":"A","payload":{"x":"%s"},"clientUser":"u","type":"t"}' % (b"y" * 250),
    "payload first": b'{"payload":{"x":"%s"}, "appID":"A","clientUser":"u","type":"t"}' % (b"y" * 250),
    "an array of objects": b'{"appID":"A","items":[{"a":1},{"a":2},{"a":3}],"clientUser":"u","type":"t","f":1}',
    "an array of arrays": b'{"appID":"A","items":[[{"a":1}],[{"a":2}]],"clientUser":"u","type":"t","f":[1,2]}',
    "NaN": b'{"appID":"A","payload":{"x":"y"},"clientUser":"u","type":"t","f":NaN}',
    "a lone surrogate": b'{"appID":"A","payload":{"x":"\\ud800"},"clientUser":"u","type":"t"}',
    "brackets in a string": b'{"appID":"A","payload":{"x":"},{"},"clientUser":"u","type":"t"}',
}


@pytest.mark.parametrize("comma", [b",", b" ,\r\n  "])
@pytest.mark.parametrize("shape", SHAPES)
def test_events_of_any_shape_are_checked_by_the_thousand_and_not_one_by_one(shape: str, comma: bytes) -> None:
    looks: list[int] = []

    def check_piece(piece: bytes) -> Checked | None:
        looks.append(len(piece))
        items = documents.split_piece(piece)
        return None if items is None else Checked([], len(items))

    def check_one(event: bytes) -> Checked:
        looks.append(len(event))
        return Checked([], 1)

    event = SHAPES[shape]
    body = b"[" + comma.join([event] * 20_000) + b"]"
    checked = large.check(body, 0, large.Checks(check_piece, check_one, 1 << 20))
    assert isinstance(checked, Checked)
    assert checked.accepted == 20_000
    assert sum(looks) < 3 * len(body)
    assert len(looks) < 200


CUTS = [
    b"1234567890123456",
    b"-1.5e+10",
    b"true",
    b'"\\ud83d\\ude00"',
    b'"\\ud83d"',
    b"NaN",
    b"-Infinity",
    '"é€"'.encode(),
    b"[[]]",
]


@pytest.mark.parametrize("token", CUTS, ids=repr)
def test_where_the_first_look_at_an_element_ends_changes_nothing(token: bytes) -> None:
    behind = b"," + b"7," * 10_000
    for shift in range(-30, 10):
        member = b'{"x":"%s","y":' % (b"y" * (documents._FIRST_LOOK + shift - 15)) + token
        for event in (member + b"}", member + b',"z":0}'):
            wanted = event.replace(b"NaN", b"null").replace(b"-Infinity", b"null")
            assert documents.element(event + behind, 0, 1 << 20) == (len(event), wanted)
    for number in (b"1" * 5_000, b"0." + b"1" * 5_000, b"1e" + b"1" * 5_000, b'"%s"' % (b"x" * 5_000)):
        assert documents.element(number + behind, 0, 1 << 20) == (len(number), number)


def test_an_element_that_breaks_behind_the_first_look_breaks_where_it_does() -> None:
    for event in (
        b'{"x":"%s",y' % (b"y" * 5_000),
        b'["%s" 1' % (b"y" * 5_000),
        b'{"x":NaN,"x":"%s",]' % (b"y" * 5_000),
    ):
        with pytest.raises(Malformed) as broken:
            documents.element(event + b"]" * 10_000, 0, 1 << 20)
        assert broken.value.offset == len(event) - 1


BREAKS = [
    ("a trailing comma", b",]"),
    ("two commas", b",,%s]" % SIGNAL),
    ("an array closed in the middle", b"],[%s]" % SIGNAL),
    ("something behind the end", b"]," + SIGNAL),
    ("no end", b"," + SIGNAL),
    ("a string without an end", b',{"a":"x]'),
    ("a bare word", b",{x}]"),
]


@pytest.mark.parametrize(("name", "end"), BREAKS, ids=[name for name, _ in BREAKS])
@pytest.mark.parametrize("count", [2000, 6000])
def test_a_large_array_that_breaks_is_refused_where_a_small_one_is(name: str, end: bytes, count: int) -> None:
    small = route().check(b"[" + SIGNAL + end, received_at=STAMP)
    assert isinstance(small, BadRequest), name
    body = b"[" + b",".join([SIGNAL] * count) + end
    answer = route().check(body, received_at=STAMP)
    assert isinstance(answer, BadRequest)
    offset = int(small.error.rpartition(" ")[2]) + (count - 1) * (len(SIGNAL) + 1)
    assert answer.error.rpartition(" ")[2] == str(offset)


@pytest.mark.parametrize("body", [
    b"[" + b",".join([b'{"email":"a"}'] * (large.MAX_EVENTS + 1)) + b"]",
    b"[%s,%s]" % (SIGNAL, b"1," * 600_000 + b"1"),
    b"[%s,%s]" % (SIGNAL, b"[[]]," * 600_000 + b"1"),
    b"\n".join([b'{"email":"a"}'] * (large.MAX_EVENTS + 2)),
], ids=["events", "numbers", "arrays", "lines"])  # fmt: skip
def test_a_request_with_too_many_events_is_413(body: bytes) -> None:
    answer = route().check(body, received_at=STAMP)
    assert isinstance(answer, BadRequest)
    assert (answer.status, answer.reason) == (413, "too_many_events")


def test_a_comma_before_the_end_is_refused_even_where_a_piece_ends() -> None:
    body = b'[{"appID":"A","clientUser":"u","type":"t","x":"%s"}, ]' % (b"y" * 600_000)
    answer = route().check(body, received_at=STAMP)
    assert isinstance(answer, BadRequest)
    assert answer.error.endswith(f"expected a value at byte {len(body) - 1}")


def test_an_event_that_is_far_too_wide_ends_the_look_at_its_request() -> None:
    wide = b'{"appID":"A","clientUser":"u","type":"t","x":[' + b",".join([b'{"a":1}'] * 700_000) + b"]}"
    answer = route().check(b"[%s,%s,%s]" % (SIGNAL, wide, SIGNAL), received_at=STAMP)
    assert isinstance(answer, BadRequest)
    assert (answer.status, answer.reason) == (413, "too_large")
    assert f"byte {len(SIGNAL) + 2}" in answer.error
    assert "listen.max_event" in answer.error


@pytest.mark.parametrize("filler", [b"1", b"NaN", rb'"\\ud800"'], ids=["plain", "NaN", "surrogate"])
def test_an_event_that_is_only_a_little_too_wide_is_refused_by_its_index(filler: bytes) -> None:
    wide = b'{"appID":"A","clientUser":"u","type":"t","x":%s,"y":"%s"}' % (filler, b"y" * (1 << 20))
    checked = route().check(b"[%s,%s,%s]" % (SIGNAL, wide, SIGNAL), received_at=STAMP)
    assert isinstance(checked, Checked)
    assert checked.accepted == 2
    assert [(refusal.index, refusal.reason) for refusal in checked.refused] == [(1, "too_large")]


HELD = {
    "brackets": b"[" * 2_000_000,
    "no end": b"[" + b",".join([SIGNAL] * 3000),
    "not JSON": b"[" + b",".join([SIGNAL] * 3000) + b",x]",
    "too wide": b"[%s,%s]" % (SIGNAL, MEMBERS * 3),
    "one value": b'{"x":"' + b"y" * 2_000_000,
    "deep": b"[%s,%s]" % (SIGNAL, b"[" * 20_000 + b"]" * 20_000 + b"," + b"1," * 300_000 + b"1"),
    "lines": b"\n".join([b"{x"] * 200_000),
    "not UTF-8": b"[" + b",".join([SIGNAL] * 3000) + b',"\xff"]',
    "NaN": b'{"x":[' + b"NaN," * 200_000 + b"x]}",
}


@pytest.mark.parametrize("body", HELD.values(), ids=list(HELD))
def test_a_body_that_is_refused_is_let_go_at_once(body: bytes) -> None:
    gc.disable()
    try:
        before = sys.getrefcount(body)
        route().check(body, received_at=STAMP)
        assert sys.getrefcount(body) == before
    finally:
        gc.enable()
