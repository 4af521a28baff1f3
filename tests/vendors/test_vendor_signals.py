"""TelemetryDeck at the door: musts, shoulds, the stamp, partial acceptance."""

import pytest

from forwarder.config.model import Destination
from forwarder.vendors.base import BadRequest, Checked, Route
from forwarder.vendors.router import DestinationRouter
from tests.support import bodies
from tests.support.bodies import STAMP, STAMPED, array, signal

TD = Destination(name="td", kind="telemetrydeck", url="http://127.0.0.1:1")


def route(path: str = "/v2/", destinations: tuple[Destination, ...] = (TD,), max_event: int = 1 << 20) -> Route:
    found = DestinationRouter(destinations, secret=lambda _: None, max_event=max_event).resolve(
        path, {}, encharge_token=False
    )
    assert not isinstance(found, BadRequest)
    return found


def check(body: bytes, path: str = "/v2/") -> Checked:
    checked = route(path).check(body, received_at=STAMP)
    assert isinstance(checked, Checked)
    return checked


def stored(body: bytes, path: str = "/v2/") -> list[bytes]:
    checked = check(body, path)
    assert not checked.refused
    return [event for group in checked.groups for event in group.events]


ALL = b'"appID":"a","clientUser":"u","type":"t"'

STAMPS = [
    ("missing", b"{" + ALL + b"}", STAMPED + ALL + b"}"),
    ("space behind the brace", b"{ \n" + ALL + b"}", STAMPED + b" \n" + ALL + b"}"),
    ("present", b'{"receivedAt":"2020-01-01T00:00:00Z",' + ALL + b"}", None),
    ("present under an escaped name", b'{"\\u0072eceivedAt":"2020-01-01T00:00:00Z",' + ALL + b"}", None),
    ("empty string is the sender's", b'{"receivedAt":"",' + ALL + b"}", None),
    ("a number is the sender's", b'{"receivedAt":5,' + ALL + b"}", None),
    ("an object is the sender's", b'{"receivedAt":{"receivedAt":null},' + ALL + b"}", None),
    ("null", b'{"receivedAt":null,' + ALL + b"}", b'{"receivedAt":"' + STAMP + b'",' + ALL + b"}"),
    (
        "null at the end, with spaces",
        b"{" + ALL + b' , "receivedAt" : null }',
        b"{" + ALL + b' , "receivedAt" : "' + STAMP + b'" }',
    ),
    (
        "null under an escaped name",
        b"{" + ALL + b',"received\\u0041t":null}',
        b"{" + ALL + b',"received\\u0041t":"' + STAMP + b'"}',
    ),
    (
        "nested does not count",
        b"{" + ALL + b',"payload":{"receivedAt":"2020"}}',
        STAMPED + ALL + b',"payload":{"receivedAt":"2020"}}',
    ),
    (
        "nested null does not count",
        b'{"payload":{"receivedAt":null},"receivedAt":null,' + ALL + b"}",
        b'{"payload":{"receivedAt":null},"receivedAt":"' + STAMP + b'",' + ALL + b"}",
    ),
    (
        "a string that contains it does not count",
        b"{" + ALL + b',"note":"\\"receivedAt\\":null"}',
        STAMPED + ALL + b',"note":"\\"receivedAt\\":null"}',
    ),
    (
        "other nulls stay null",
        b'{"sessionID":null,"receivedAt":null,"floatValue":null,' + ALL + b"}",
        b'{"sessionID":null,"receivedAt":"' + STAMP + b'","floatValue":null,' + ALL + b"}",
    ),
    ("of duplicates the last decides", b'{"receivedAt":null,"receivedAt":"2020",' + ALL + b"}", None),
    (
        "duplicate nulls are all replaced",
        b'{"receivedAt":null,"receivedAt":null,' + ALL + b"}",
        b'{"receivedAt":"' + STAMP + b'","receivedAt":"' + STAMP + b'",' + ALL + b"}",
    ),
]


@pytest.mark.parametrize(("body", "expected"), [each[1:] for each in STAMPS], ids=[each[0] for each in STAMPS])
@pytest.mark.parametrize("form", ["object", "one", "two", "careful"])
def test_the_stamp_touches_nothing_but_its_own_place(body: bytes, expected: bytes | None, form: str) -> None:
    other = signal()
    text = {"object": body, "one": array(body), "two": array(body, other), "careful": array(body, b"0")}[form]
    checked = check(text)
    assert checked.groups[0].events[0] == (expected or body)


@pytest.mark.parametrize("path", ["/v2/", "/v3/com.example", "/api/v1/apps/A/signals/multiple/"])
def test_an_empty_array_is_no_group_of_no_events(path: str) -> None:
    assert check(b"[]", path).groups == []


MUSTS = [
    (b'{"clientUser":"u","type":"t"}', "appID", "missing_field"),
    (b'{"appID":"a","type":"t"}', "clientUser", "missing_field"),
    (b'{"appID":"a","clientUser":"u"}', "type", "missing_field"),
    (b'{"appID":1,"clientUser":"u","type":"t"}', "appID", "wrong_type"),
    (b'{"appID":"a","clientUser":null,"type":"t"}', "clientUser", "wrong_type"),
    (b'{"appID":"a","clientUser":"u","type":[]}', "type", "wrong_type"),
    (b"5", "object", "not_object"),
    (b"[]", "object", "not_object"),
    (b"null", "object", "not_object"),
    (b'{"name":"x","user":{"email":"a@b.c"}}', "Encharge", "wrong_vendor"),
    (b'{"appID":"a","clientUser":"u","type":"t","x":' + b"[" * 512 + b"]" * 512 + b"}", "deeper", "too_deep"),
    (b'{"appID":"a","clientUser":"u","type":"t","x":' + b"[" * 5000 + b"]" * 5000 + b"}", "deeper", "too_deep"),
]


@pytest.mark.parametrize(("event", "word", "reason"), MUSTS, ids=lambda value: str(value)[:40])
@pytest.mark.parametrize("path", ["/v2/", "/v3/com.example"])
def test_a_broken_must_is_refused_by_index_and_the_others_are_kept(
    event: bytes, word: str, reason: str, path: str
) -> None:
    checked = check(array(signal("1"), event, signal("2")), path)
    (refusal,) = checked.refused
    assert (refusal.index, refusal.reason) == (1, reason)
    assert word in refusal.error
    assert refusal.sample == event[:2048]
    assert checked.accepted == 2
    assert sum(len(group.events) for group in checked.groups) == 2


TOLERATED = [
    b',"isTestMode":true',
    b',"isTestMode":"false"',
    b',"floatValue":null,"sessionID":null',
    b',"floatValue":1e400',
    b',"n":' + b"9" * 5000,
    b',"x":"\\ud800"',
    b',"\\udc00":1',
    b',"unknown":{"deep":[{}]}',
    b',"clientUser":""',
    b',"appID":5,"appID":"a"',
    b',"x":' + b"[" * 511 + b"]" * 511,
    ',"city":"Zürich"'.encode(),
    b',"s":"' + b"x" * 100_000 + b'"',
]


@pytest.mark.parametrize("extra", TOLERATED, ids=lambda extra: repr(extra[:30]))
@pytest.mark.parametrize("path", ["/v2/", "/v3/com.example/"])
def test_everything_that_no_must_forbids_passes_untouched(extra: bytes, path: str) -> None:
    event = b"{" + ALL + extra + b"}"
    kept = STAMPED + event[1:]
    assert stored(event, path) == [kept]
    assert stored(array(event), path) == [kept]
    assert stored(b"[ " + event + b" ,\r\n\t" + event + b" ] ", path) == [kept, kept]


def test_a_lone_surrogate_in_the_app_id_is_an_app_of_its_own() -> None:
    checked = check(b'[{"appID":"\\ud800","clientUser":"u","type":"t"}]')
    assert checked.groups[0].batch_key == b"/v2/\0\xed\xa0\x80"


def test_numbers_that_json_has_not_cost_only_themselves() -> None:
    body = bodies.data("kotlin-not-finite.json")
    events = stored(body)
    assert len(events) == 6
    joined = b"[" + b",".join(events) + b"]"
    assert joined == body.replace(b'"floatValue":NaN', b'"floatValue":null').replace(
        b'"floatValue":Infinity', b'"floatValue":null'
    ).replace(b'"floatValue":-Infinity', b'"floatValue":null')


NOT_JSON = [
    (b"", "empty"),
    (b" \n", "empty"),
    (b"nonsense", "byte 0"),
    (b"  nonsense", "byte 2"),
    (b"[{}", "byte 3"),
    (b" [{},]", "byte 5"),
    (b'[{"a":NaN},{"b":-Infinity,"c":x}]', "byte 30"),
    (b"[{}]]", "byte 4"),
    (b'{"a":"\xff"}', "byte at 6"),
    (b'[{"a":"\xed\xa0\x80"}]', "byte at 7"),
    ("[{}]".encode("utf-16"), "byte at 0"),
    (b"[{}]\n[{}]", "byte 5"),
    (signal() + b"\n" + signal(), "byte"),
]


@pytest.mark.parametrize(("body", "word"), NOT_JSON, ids=repr)
def test_a_body_that_is_not_json_is_a_400_with_the_offset(body: bytes, word: str) -> None:
    answer = route().check(body, received_at=STAMP)
    assert isinstance(answer, BadRequest)
    assert (answer.status, answer.reason) == (400, "not_json")
    assert word in answer.error


@pytest.mark.parametrize("body", [b"5", b'"x"', b"null", b" true "])
def test_a_bare_value_is_a_400_that_asks_for_an_object_or_array(body: bytes) -> None:
    answer = route().check(body, received_at=STAMP)
    assert isinstance(answer, BadRequest)
    assert answer.reason == "not_object"


def test_a_large_broken_body_is_refused_at_the_decoders_offset() -> None:
    body = array(*[signal(extra=b',"s":"' + b"x" * 1000 + b'"')] * 1100)[:-1] + b",x]"
    answer = route().check(body, received_at=STAMP)
    assert isinstance(answer, BadRequest)
    assert f"byte {len(body) - 2}" in answer.error


def test_a_byte_order_mark_before_the_body_is_skipped() -> None:
    assert stored(b"\xef\xbb\xbf [" + signal() + b"]") == [STAMPED + signal()[1:]]


def test_an_empty_array_holds_nothing_and_breaks_nothing() -> None:
    checked = check(b"[ ]")
    assert (checked.groups, checked.accepted, list(checked.refused)) == ([], 0, [])


def test_a_single_object_on_an_array_path_is_one_event() -> None:
    assert stored(b" " + signal() + b"\n") == [STAMPED + signal()[1:]]


def test_an_event_over_max_event_is_refused_and_the_limit_is_named() -> None:
    large = signal(extra=b',"s":"' + b"x" * 300 + b'"')
    small = route(max_event=len(large) - 1)
    for body, index in ((array(signal(), large), 1), (array(large), 0), (large, 0)):
        checked = small.check(body, received_at=STAMP)
        assert isinstance(checked, Checked)
        (refusal,) = checked.refused
        assert (refusal.index, refusal.reason) == (index, "too_large")
        assert "max_event" in refusal.error
    exact = route(max_event=len(large)).check(array(large, large), received_at=STAMP)
    assert isinstance(exact, Checked)
    assert exact.accepted == 2


def test_megabytes_of_garbage_are_refused_without_being_built() -> None:
    answer = route().check(b"[" + b"1," * 1_000_000 + b"1]", received_at=STAMP)
    assert isinstance(answer, BadRequest)
    assert (answer.status, answer.reason) == (400, "hopeless")


WARNINGS = [
    ("/v2/", b',"payload":{"a":"1"}', None),
    ("/v2/", b',"payload":{"a":"{\\"b\\":{\\"c\\":[1]}}"}', None),
    ("/v2/", b',"payload":["a:1"]', None),
    ("/v2/", b"", None),
    ("/v2/", b',"payload":{"a":{"b":1}}', "nested_payload"),
    ("/v2/", b',"payload":{"a":[1]}', "nested_payload"),
    ("/v2/", b',"payload":[{"a":1}]', "nested_payload"),
    ("/v2/", b',"payload":5', "payload_type"),
    ("/v3/ns/", b',"a":1,"b":"{[","c":null', None),
    ("/v3/ns/", b',"a":{"b":1}', "nested_value"),
    ("/v3/ns/", b',"a":[1]', "nested_value"),
    ("/v3/ns/", b',"payload":{"a":1}', "payload_on_v3"),
    ("/api/v1/apps/a/signals/", b',"payload":{"a":{}}', None),
]


@pytest.mark.parametrize(("path", "extra", "rule"), WARNINGS, ids=repr)
@pytest.mark.parametrize("form", ["object", "one", "two", "careful"])
def test_a_should_is_counted_by_its_rule_and_never_refused(
    path: str, extra: bytes, rule: str | None, form: str
) -> None:
    event = b"{" + ALL + extra + b"}"
    bodies_by_form = {"object": event, "one": array(event), "two": array(event, event), "careful": array(event, b"0")}
    text = event if path.endswith("/signals/") else bodies_by_form[form]
    checked = check(text, path)
    times = 2 if form == "two" and text is not event else 1
    assert checked.accepted == times
    assert checked.warnings == ({rule: times} if rule else {})


PAIRS = [
    (b"", True),
    (b',"payload":null', True),
    (b',"payload":[]', True),
    (b',"payload":["a:b","c:"]', True),
    (b',"payload":["a:b\\ud800"]', True),
    (b',"payload":["a"]', False),
    (b',"payload":["a\\ud800"]', False),
    (b',"payload":[1]', False),
    (b',"payload":{"a":"b"}', False),
    (b',"payload":"a:b"', False),
]


@pytest.mark.parametrize(("extra", "valid"), PAIRS, ids=repr)
@pytest.mark.parametrize("path", ["/v1/", "/api/v1/apps/app/signals/multiple/"])
@pytest.mark.parametrize("times", [1, 2])
def test_a_v1_payload_is_an_array_of_pairs(extra: bytes, valid: bool, path: str, times: int) -> None:  # noqa: FBT001
    checked = check(array(*[b"{" + ALL + extra + b"}"] * times), path)
    assert checked.accepted == (times if valid else 0)
    assert all("payload" in refusal.error for refusal in checked.refused)


def test_events_are_grouped_by_app_in_the_senders_order() -> None:
    checked = check(array(*[signal(app, b',"n":%d' % n) for n, app in enumerate("abacb")]))
    assert [group.batch_key for group in checked.groups] == [b"/v2/\0a", b"/v2/\0b", b"/v2/\0c"]
    assert [[event[-2:-1] for event in group.events] for group in checked.groups] == [
        [b"0", b"2"],
        [b"1", b"4"],
        [b"3"],
    ]


def test_apps_select_the_destination_of_each_event() -> None:
    one = Destination(name="one", kind="telemetrydeck", url="http://127.0.0.1:1", apps=("a",))
    two = Destination(name="two", kind="telemetrydeck", url="http://127.0.0.1:1", apps=("b", "c"))
    body = array(signal("a"), signal("x"), signal("c"), signal("b"))
    checked = route(destinations=(one, two)).check(body, received_at=STAMP)
    assert isinstance(checked, Checked)
    found = [(group.destination, group.batch_key) for group in checked.groups]
    assert found == [("one", b"/v2/\0a"), ("two", b"/v2/\0c"), ("two", b"/v2/\0b")]
    assert [(refusal.index, refusal.reason) for refusal in checked.refused] == [(1, "unknown_app")]


def test_a_thousand_invented_apps_are_grouped_and_not_remembered_for_ever() -> None:
    door = route()
    body = array(*[signal(f"app{n}") for n in range(3000)])
    checked = door.check(body, received_at=STAMP)
    assert isinstance(checked, Checked)
    assert len(checked.groups) == 3000


def test_an_endless_app_id_stands_as_a_hash_in_the_batch_key() -> None:
    first, second = (check(array(signal("x" * 5000 + end))).groups[0] for end in "ab")
    assert len(first.batch_key) < 100
    assert first.batch_key != second.batch_key


def test_the_app_of_the_path_stands_in_for_the_one_in_the_body() -> None:
    checked = check(b'{"clientUser":"u","type":"t"}', "/api/v1/apps/A%B/signals")
    assert checked.groups[0].batch_key == b"/api/v1/apps/A%25B/signals/\0A%B"
