"""Paths and queries to routes: what is served, by whom, and what a 404 says."""

import pytest

from forwarder.config.model import Destination
from forwarder.vendors.base import BadRequest, Checked, Route
from forwarder.vendors.router import DestinationRouter, find_conflicts
from tests.support.bodies import STAMP, array, signal

TD = Destination(name="td", kind="telemetrydeck", url="http://127.0.0.1:1")
IN_NAMESPACE = Destination(name="ns", kind="telemetrydeck", url="http://127.0.0.1:1", namespace="com.example")
EN = Destination(name="en", kind="encharge", url="http://127.0.0.1:1/v1")
PERSON = b'{"name":"x","user":{"email":"a@b.c"}}'


def resolve(path: str, *destinations: Destination, token: bool = False, **query: str) -> Route | BadRequest:
    router = DestinationRouter(destinations or (TD, EN), secret=lambda _: "key", max_event=1 << 20)
    return router.resolve(path, query, encharge_token=token)


def check(route: Route | BadRequest, body: bytes) -> Checked:
    assert not isinstance(route, BadRequest)
    checked = route.check(body, received_at=STAMP)
    assert isinstance(checked, Checked)
    return checked


def keys(route: Route | BadRequest, body: bytes) -> list[tuple[str, bytes]]:
    return [(group.destination, group.batch_key) for group in check(route, body).groups]


PATHS = [
    ("/v2/", b"/v2/"),
    ("/v2", b"/v2/"),
    ("//v2//", b"/v2/"),
    ("/v1/", b"/v1/"),
    ("/v1", b"/v1/"),
    ("/v2/namespace/com.example/", b"/v2/namespace/com.example/"),
    ("/v2/namespace/com.example", b"/v2/namespace/com.example/"),
    ("/v3/com.example", b"/v3/com.example/"),
    ("/v3/com.example/", b"/v3/com.example/"),
    ("/v3/a b?#\u00fc", b"/v3/a%20b%3F%23%C3%BC/"),
    ("/v2/namespace/w", b"/v2/namespace/w/"),
]


@pytest.mark.parametrize(("path", "canonical"), PATHS)
def test_signals_stay_on_their_path_in_its_canonical_form(path: str, canonical: bytes) -> None:
    route = resolve(path)
    body = array(signal().replace(b"{}", b"[]"))
    assert keys(route, body) == [("td", canonical + b"\0app")]
    assert not isinstance(route, BadRequest)
    assert route.success_status == 200


@pytest.mark.parametrize("path", ["/v2/w/", "/v3/w/", "/v2/w", "/v3/w/x"])
def test_the_web_sdks_path_is_a_404_that_says_why(path: str) -> None:
    found = resolve(path)
    assert isinstance(found, BadRequest)
    assert (found.status, found.reason) == (404, "web_path")
    assert "browser" in found.error


UNKNOWN = [
    "/",
    "/v3/",
    "/v2/other",
    "/v2/namespace/",
    "/v2/namespace/a/b",
    "/v2/namespace/..",
    "/v3/.",
    "/v4/",
    "/v1/key/more",
    "/api/v1/apps/a",
    "/api/v1/apps/a/signals/many",
    "/v3/" + "x" * 256,
    "/events/x",
    "/secret-in-path",
]


@pytest.mark.parametrize("path", UNKNOWN)
def test_an_unknown_path_is_a_404_that_says_what_exists(path: str) -> None:
    found = resolve(path)
    assert isinstance(found, BadRequest)
    assert (found.status, found.reason) == (404, "unknown_path")
    assert all(word in found.error for word in ("/v2/", "/v1/{write-key}", "/events", "td", "en"))
    assert "secret-in-path" not in found.error


def test_an_object_at_v1_is_enchargs_and_an_array_is_telemetrydecks() -> None:
    route = resolve("/v1")
    assert keys(route, PERSON) == [("en", b"/v1")]
    assert keys(route, array(signal().replace(b'"payload":{}', b'"payload":[]'))) == [("td", b"/v1/\0app")]
    (refusal,) = check(route, array(PERSON)).refused
    assert "Encharge" in refusal.error


@pytest.mark.parametrize("path", ["/v2/", "/anything", "/v1", "/v1/", "/"])
def test_a_token_makes_any_path_enchargs(path: str) -> None:
    assert keys(resolve(path, token=True), PERSON) == [("en", b"/v1")]


def test_a_token_on_events_leaves_the_shape_to_decide() -> None:
    assert keys(resolve("/events", token=True), array(signal(), PERSON)) == [("td", b"/v2/\0app"), ("en", b"/v1")]


@pytest.mark.parametrize(
    ("path", "only", "kind"),
    [("/v2/", EN, "telemetrydeck"), ("/v3/ns", EN, "telemetrydeck"), ("/v1/key", TD, "encharge")],
)
def test_a_path_without_a_destination_names_the_kind_that_is_missing(path: str, only: Destination, kind: str) -> None:
    found = resolve(path, only)
    assert isinstance(found, BadRequest)
    assert (found.status, found.reason) == (404, "no_destination")
    assert kind in found.error


def test_v1_with_only_one_vendor_refuses_the_others_form() -> None:
    for only, body in ((TD, PERSON), (EN, array(signal()))):
        route = resolve("/v1", only)
        assert not isinstance(route, BadRequest)
        answer = route.check(body, received_at=STAMP)
        assert isinstance(answer, BadRequest)
        assert answer.reason == "no_destination"


def test_a_configured_namespace_serves_itself_and_the_bare_paths() -> None:
    body = array(signal().replace(b"{}", b"[]"))
    for path in ("/v2/", "/v1/", "/v2/namespace/com.example", "/v3/com.example"):
        assert keys(resolve(path, IN_NAMESPACE), body)[0][0] == "ns"
    found = resolve("/v2/namespace/com.other", IN_NAMESPACE)
    assert isinstance(found, BadRequest)
    assert (found.status, found.reason) == (404, "unknown_namespace")
    assert "com.example" in found.error


def test_an_array_on_the_single_path_is_told_of_multiple() -> None:
    route = resolve("/api/v1/apps/a/signals/")
    assert not isinstance(route, BadRequest)
    answer = route.check(array(signal()), received_at=STAMP)
    assert isinstance(answer, BadRequest)
    assert "multiple/" in answer.error


def test_events_take_v2_by_default_and_v3_on_demand_on_the_configured_namespace() -> None:
    assert keys(resolve("/events", IN_NAMESPACE), signal()) == [("ns", b"/v2/namespace/com.example/\0app")]
    assert keys(resolve("/events", IN_NAMESPACE, api="v3"), signal()) == [("ns", b"/v3/com.example/\0app")]
    assert keys(resolve("/events", TD, api="v2"), signal()) == [("td", b"/v2/\0app")]
    for wrong in (resolve("/events", TD, api="v3"), resolve("/events", TD, api="v4")):
        assert isinstance(wrong, BadRequest)
        assert (wrong.status, wrong.reason) == (400, "unknown_api")


def test_events_are_answered_202() -> None:
    route = resolve("/events")
    assert not isinstance(route, BadRequest)
    assert route.success_status == 202


MIXED = [
    array(signal(), PERSON, b"{}"),
    b" \n".join((signal(), PERSON, b"{}")),
    b"\r\n\r\n".join((signal(), b" " + PERSON, b"{}\n")),
]


@pytest.mark.parametrize("body", MIXED, ids=["array", "lines", "lines with blanks"])
def test_mixed_vendors_are_told_apart_by_shape(body: bytes) -> None:
    checked = check(resolve("/events"), body)
    assert [(group.destination, len(group.events)) for group in checked.groups] == [("td", 1), ("en", 1)]
    assert [(refusal.index, refusal.reason) for refusal in checked.refused] == [(2, "unknown_shape")]
    assert checked.groups[1].events == [PERSON]


def test_a_bad_line_is_refused_by_index_with_its_offset_and_the_others_are_kept() -> None:
    lines = [signal(), b'{"a":', b"garbage", signal()[:-1] + b',"n":NaN}', b'{"a":1}}', b"\xc3\xbc", PERSON]
    checked = check(resolve("/events"), b"\n".join(lines))
    assert checked.accepted == 3
    assert [refusal.index for refusal in checked.refused] == [1, 2, 4, 5]
    assert [refusal.reason for refusal in checked.refused] == ["not_json", "not_object", "not_json", "not_object"]
    assert f"byte {len(lines[0]) + 1 + len(lines[1])}" in checked.refused[0].error


def test_a_broken_first_line_does_not_hide_the_others() -> None:
    checked = check(resolve("/events"), b'{"a":\n' + PERSON)
    assert (checked.accepted, [refusal.index for refusal in checked.refused]) == (1, [0])


def test_an_object_over_several_lines_is_one_event() -> None:
    pretty = b'{\n "name": "x",\n "user": {\n  "email": "a@b.c"\n }\n}'
    assert check(resolve("/events"), pretty).groups[0].events == [pretty]


def test_a_broken_object_over_several_lines_is_not_taken_for_lines() -> None:
    route = resolve("/events")
    assert not isinstance(route, BadRequest)
    answer = route.check(b'{\n "name": "x",\n "user": {},\n}', received_at=STAMP)
    assert isinstance(answer, BadRequest)
    assert answer.reason == "not_json"


def test_lines_are_for_events_only() -> None:
    route = resolve("/v2/")
    assert not isinstance(route, BadRequest)
    assert isinstance(route.check(signal() + b"\n" + signal(), received_at=STAMP), BadRequest)


def test_a_named_destination_takes_all_and_refuses_the_other_vendors_shape() -> None:
    checked = check(resolve("/events", destination="td"), array(signal(), PERSON))
    assert [(refusal.index, refusal.reason) for refusal in checked.refused] == [(1, "wrong_vendor")]
    checked = check(resolve("/events", destination="en"), array(signal(), PERSON))
    assert [(refusal.index, refusal.reason) for refusal in checked.refused] == [(0, "wrong_vendor")]
    found = resolve("/events", destination="nobody")
    assert isinstance(found, BadRequest)
    assert (found.status, found.reason) == (404, "unknown_destination")
    assert "en, td" in found.error


@pytest.mark.parametrize(("only", "body"), [(TD, PERSON), (EN, signal())])
def test_an_event_whose_vendor_has_no_destination_is_refused_by_name(only: Destination, body: bytes) -> None:
    (refusal,) = check(resolve("/events", only), body).refused
    assert refusal.reason == "no_destination"


def test_datagrams_go_by_shape_as_events_do() -> None:
    route = DestinationRouter((TD, EN), secret=lambda _: None, max_event=1000).datagrams()
    assert keys(route, PERSON) == [("en", b"/v1")]
    assert keys(route, signal() + b"\n" + PERSON) == [("td", b"/v2/\0app"), ("en", b"/v1")]


def _apps(name: str, *apps: str, namespace: str | None = None) -> Destination:
    return Destination(name=name, kind="telemetrydeck", url="x", apps=apps, namespace=namespace)


CONFLICTS = [
    ((TD, EN), None),
    ((_apps("a", "1"), _apps("b", "2")), None),
    ((_apps("a", "1"), _apps("b", "2"), EN), None),
    ((_apps("a"), _apps("b")), "apps"),
    ((_apps("a", "1"), _apps("b")), "apps"),
    ((_apps("a", "1", "2"), _apps("b", "2")), "'2'"),
    ((_apps("a", namespace="n"), _apps("b", namespace="m")), "/v2/"),
]


@pytest.mark.parametrize(("destinations", "word"), CONFLICTS, ids=repr)
def test_destinations_that_could_take_the_same_request_are_a_conflict(
    destinations: tuple[Destination, ...], word: str | None
) -> None:
    problems = find_conflicts(destinations)
    assert len(problems) == (word is not None)
    assert all(word and word in problem and "destinations.a" in problem for problem in problems)
