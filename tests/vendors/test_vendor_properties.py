"""Whatever is valid passes unchanged; whatever comes, the check answers."""

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from forwarder.config.model import Destination
from forwarder.vendors.base import BadRequest, Checked, Route
from forwarder.vendors.router import DestinationRouter
from tests.support.bodies import STAMP, STAMPED

ROUTER = DestinationRouter(
    [
        Destination(name="td", kind="telemetrydeck", url="http://127.0.0.1:1"),
        Destination(name="en", kind="encharge", url="http://127.0.0.1:1/v1"),
    ],
    secret=lambda _: "key",
    max_event=1 << 20,
)
PATHS = ("/v2/", "/v3/ns/", "/v1/", "/v1/key", "/api/v1/apps/a/signals", "/api/v1/apps/a/signals/multiple", "/events")

texts = st.text(st.characters(codec=None, exclude_categories=()), max_size=20)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=15,
)


def route(path: str) -> Route:
    found = ROUTER.resolve(path, {}, encharge_token=False)
    assert not isinstance(found, BadRequest)
    return found


ROUTES = [route(path) for path in PATHS] + [ROUTER.datagrams()]


def written(event: dict[str, Any], *, ascii_only: bool, indent: int | None) -> bytes:
    """Serialize an event; lone surrogates can only be written as escapes."""
    try:
        return json.dumps(event, ensure_ascii=ascii_only, indent=indent).encode()
    except UnicodeEncodeError:
        return json.dumps(event, indent=indent).encode()


@st.composite
def signals(draw: st.DrawFn) -> bytes:
    event = draw(st.dictionaries(texts.filter(lambda name: name != "receivedAt"), values, max_size=4))
    event |= {"appID": draw(texts), "clientUser": draw(texts), "type": draw(texts)}
    event |= draw(st.fixed_dictionaries({}, optional={"payload": values, "floatValue": values}))
    shuffled = dict(draw(st.permutations(list(event.items()))))
    return written(shuffled, ascii_only=draw(st.booleans()), indent=draw(st.sampled_from([None, 2])))


@given(st.lists(signals(), max_size=4), st.sampled_from([b",", b" ,\r\n\t"]))
def test_any_valid_signal_passes_unchanged_behind_its_stamp(events: list[bytes], comma: bytes) -> None:
    checked = ROUTES[0].check(b"[" + comma.join(events) + b"]", received_at=STAMP)
    assert isinstance(checked, Checked)
    assert not checked.refused
    assert checked.accepted == len(events)
    stored = [event for group in checked.groups for event in group.events]
    assert sorted(stored) == sorted(STAMPED + event[1:] for event in events)
    assert all(group.size == sum(map(len, group.events)) for group in checked.groups)


@given(st.dictionaries(texts, values, max_size=4), st.emails() | st.integers() | texts.filter(str.strip), st.booleans())
def test_any_valid_person_event_passes_unchanged(event: dict[str, Any], user_id: Any, ascii_only: bool) -> None:  # noqa: FBT001
    body = written({**event, "user": {"userId": user_id}}, ascii_only=ascii_only, indent=None)
    checked = ROUTES[2].check(body, received_at=STAMP)
    assert isinstance(checked, Checked)
    assert checked.groups[0].events == [body]


@settings(max_examples=200)
@given(
    st.binary(max_size=80)
    | st.text(alphabet='{}[]",:\\ud80 NaIfinty-1"appIDuser\n', max_size=80).map(str.encode)
    | st.lists(values, max_size=3).map(lambda value: json.dumps(value).encode()),
    st.none() | st.binary(max_size=8),
)
def test_the_check_answers_whatever_comes(body: bytes, key: bytes | None) -> None:
    for each in ROUTES:
        answer = each.check(body, received_at=STAMP, presented_key=key)
        assert isinstance(answer, Checked | BadRequest)


@given(signals(), st.data())
def test_a_signal_with_any_byte_changed_is_stored_as_it_came_or_not_at_all(event: bytes, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(event) - 1))
    broken = event[:at] + bytes([data.draw(st.integers(0, 255))]) + event[at + 1 :]
    answer = ROUTES[0].check(b"[" + broken + b"]", received_at=STAMP)
    if isinstance(answer, Checked) and answer.accepted:
        stored = [each for group in answer.groups for each in group.events]
        assert json.loads(stored[-1]) is not None


@given(st.text(max_size=40), st.dictionaries(st.sampled_from(["api", "destination", "x"]), st.text(max_size=5)))
def test_any_path_resolves_to_a_route_or_a_refusal(path: str, query: dict[str, str]) -> None:
    for token in (False, True):
        found = ROUTER.resolve("/" + path, query, encharge_token=token)
        assert isinstance(found, BadRequest) or found.success_status in (200, 202)
