"""Encharge at the door: any identity will do; the key selects; the trait says order and age."""

import pytest

from forwarder.config.model import Destination, Secret
from forwarder.core.seams import Trait
from forwarder.vendors.base import BadRequest, Checked, Route
from forwarder.vendors.encharge import person
from forwarder.vendors.members import members
from forwarder.vendors.router import DestinationRouter, find_conflicts
from tests.support import bodies
from tests.support.bodies import STAMP

KEYS = {"one": "key-1", "two": "key-2"}


def destination(name: str) -> Destination:
    return Destination(
        name=name, kind="encharge", url="http://127.0.0.1:1/v1", write_key=Secret(env=f"KEY_{name.upper()}")
    )


def route(path: str, *names: str, secrets: dict[str, str | None] | None = None, **query: str) -> Route:
    keys = KEYS if secrets is None else secrets
    router = DestinationRouter([destination(name) for name in names], secret=keys.get, max_event=1000)
    found = router.resolve(path, query, encharge_token=False)
    assert not isinstance(found, BadRequest)
    return found


def check(body: bytes) -> Checked:
    checked = route("/v1", "one").check(body, received_at=STAMP)
    assert isinstance(checked, Checked)
    return checked


def trait(event: bytes) -> Trait:
    return person.read(members(event)).trait


EVENT = b'{"name":"x","user":{"userId":"u"}}'

VALID = [
    b'{"user":{"email":"a@b.c"}}',
    b'{"user":{"userId":1e400}}',
    b'{"user":{"userId":' + b"9" * 500 + b"}}",
    b'{"userId":0}',
    b'{"email":"a@b.c"}',
    b'{"previousUserId":"a"}',
    b'{"previousEmail":"a@b.c"}',
    b'{"user":null,"userId":"a"}',
    b'{"user":"a string","userId":"a"}',
    b'{"user":{"email":5,"userId":"a"}}',
    b'{"user":{"userId":""},"user":{"userId":"a"}}',
    b'{"type":"page","anonymousId":"a"}',
    b'{"type":"group"}',
    b'{"user":{"userId":"\\ud800"}}',
    b'{"appID":"mine","user":{"userId":"a"}}',
    b'{"receivedAt":null,"userId":"a"}',
]


@pytest.mark.parametrize("event", VALID, ids=repr)
def test_an_identity_in_any_form_or_a_group_is_enough(event: bytes) -> None:
    checked = check(b"\n" + event + b" ")
    assert not checked.refused
    assert checked.groups[0].events == [event]


INVALID = [
    (b"{}", "missing_field"),
    (b'{"name":"x"}', "missing_field"),
    (b'{"name":"x","user":{}}', "missing_field"),
    (b'{"name":"x","user":{"email":"","userId":null}}', "missing_field"),
    (b'{"user":{"email":5,"userId":true}}', "missing_field"),
    (b'{"user":[],"userId":{}}', "missing_field"),
    (b'{"appID":"a","clientUser":"u","type":"t"}', "wrong_vendor"),
    (b'{"userId":"' + b"x" * 1000 + b'"}', "too_large"),
    (b'{"userId":"u","x":' + b"[" * 100 + b"]" * 100 + b"}", None),
]


@pytest.mark.parametrize(("event", "reason"), INVALID, ids=lambda value: repr(value)[:40])
def test_an_event_about_nobody_is_refused_with_what_to_do(event: bytes, reason: str | None) -> None:
    checked = check(event)
    assert [refusal.reason for refusal in checked.refused] == ([reason] if reason else [])
    assert checked.accepted == (0 if reason else 1)
    assert bool(checked.groups) is (reason is None)


def test_a_mismatch_on_events_is_told_only_for_events_that_used_the_key() -> None:
    door = route("/events", "one")
    for body, mismatch in ((EVENT, True), (b"[{}," + EVENT + b"]", True), (b'[{"name":"nobody"}]', False)):
        checked = door.check(body, received_at=STAMP, presented_key=b"other")
        assert isinstance(checked, Checked)
        assert checked.key_mismatch is mismatch


def test_a_signal_on_enchargs_path_is_told_where_signals_go() -> None:
    (refusal,) = check(bodies.signal()).refused
    assert "TelemetryDeck" in refusal.error
    assert "/v2/" in refusal.error


def test_an_array_on_a_key_path_is_told_that_encharge_takes_one_object() -> None:
    answer = route("/v1/key-1", "one").check(b"[" + EVENT + b"]", received_at=STAMP)
    assert isinstance(answer, BadRequest)
    assert (answer.status, answer.reason) == (400, "wrong_vendor")


SAME_PERSON = [
    (b'{"user":{"email":"Ada@Example.com "}}', b'{"email":"ada@example.com"}'),
    (b'{"user":{"userId":42}}', b'{"userId":"42"}'),
    (b'{"previousEmail":"A@b.c"}', b'{"user":{"email":"a@b.c"}}'),
    (b'{"previousUserId":"x"}', b'{"user":{"userId":"x"}}'),
    (b'{"type":"group","properties":{"externalId":"g"}}', b'{"type":"group","groupId":"g"}'),
    (b'{"userId":"\\u0061"}', b'{"userId":"a"}'),
]


@pytest.mark.parametrize(("one", "other"), SAME_PERSON, ids=repr)
def test_one_person_has_one_order_key_however_it_is_named(one: bytes, other: bytes) -> None:
    assert trait(one).order == trait(other).order
    assert trait(one).order


DIFFERENT = [
    (b'{"userId":"a@b.c"}', b'{"email":"a@b.c"}'),
    (b'{"userId":"A"}', b'{"userId":"a"}'),
    (b'{"userId":"1"}', b'{"anonymousId":"1"}'),
    (b'{"userId":"1"}', b'{"type":"group","groupId":"1"}'),
]


@pytest.mark.parametrize(("one", "other"), DIFFERENT, ids=repr)
def test_different_persons_have_different_order_keys(one: bytes, other: bytes) -> None:
    assert not set(trait(one).order) & set(trait(other).order)


def test_order_keys_are_stable_because_they_are_stored() -> None:
    assert trait(b'{"email":"ada@example.com"}').order == (0x34C085C4B9E78235,)
    assert trait(b'{"userId":4711}').order == (0xD27E00E55B8ED397,)


def test_an_alias_carries_all_four_identities() -> None:
    event = bodies.sample("alias").body
    keys = trait(event).order
    assert len(set(keys)) == 4
    assert all(0 < key < 1 << 64 for key in keys)


def test_no_more_than_four_keys_are_kept_the_users_own_first() -> None:
    event = (
        b'{"email":"x@y.z","userId":"t","user":{"email":"a@b.c","userId":1,"previousUserId":2,"previousEmail":"d@e.f"}}'
    )
    keys = trait(event).order
    assert keys[0] == trait(b'{"email":"a@b.c"}').order[0]
    assert len(keys) == person.MAX_KEYS


def test_a_group_event_with_a_person_follows_the_person() -> None:
    assert trait(bodies.sample("group").body).order == trait(b'{"email":"ada@example.com"}').order


AGES = [
    (b'{"name":"identify","userId":1}', 1),
    (b'{"name":"alias","userId":1}', 1),
    (b'{"type":"identify","userId":1}', 1),
    (b'{"type":"alias","userId":1}', 1),
    (b'{"type":"group","userId":1}', 1),
    (b'{"user":{"userId":1}}', 1),
    (b'{"type":"track","event":"identify","userId":1}', 0),
    (b'{"type":"page","userId":1}', 0),
    (b'{"name":"Signed up","userId":1}', 0),
]


@pytest.mark.parametrize(("event", "aged"), AGES, ids=repr)
def test_profile_events_age_apart_from_named_events(event: bytes, aged: int) -> None:
    assert trait(event).aged == aged


def test_the_key_of_the_header_selects_the_destination() -> None:
    door = route("/v1", "one", "two")
    for key, name in ((b"key-1", "one"), (b"key-2", "two")):
        checked = door.check(EVENT, received_at=STAMP, presented_key=key)
        assert isinstance(checked, Checked)
        assert [group.destination for group in checked.groups] == [name]
        assert not checked.key_mismatch


def test_the_key_of_the_path_selects_the_destination_and_is_not_to_be_kept() -> None:
    door = route("/v1/key-2", "one", "two")
    checked = door.check(EVENT, received_at=STAMP)
    assert isinstance(checked, Checked)
    assert checked.groups[0].destination == "two"
    assert door.cacheable is False
    assert route("/v1", "one").cacheable is True


@pytest.mark.parametrize("key", [None, b"", b"key-3", "ключ".encode(), b"\xff"])
@pytest.mark.parametrize("path", ["/v1", "/events"])
def test_an_unknown_key_among_several_destinations_is_a_401(path: str, key: bytes | None) -> None:
    answer = route(path, "one", "two").check(EVENT, received_at=STAMP, presented_key=key)
    assert isinstance(answer, BadRequest)
    assert (answer.status, answer.reason) == (401, "unknown_key")
    assert "key-1" not in answer.error


def test_a_destination_without_a_key_is_never_selected_among_several() -> None:
    door = route("/v1", "one", "two", secrets={"one": None, "two": "key-2"})
    answer = door.check(EVENT, received_at=STAMP, presented_key=b"")
    assert isinstance(answer, BadRequest)


@pytest.mark.parametrize(
    ("secret", "key", "mismatch"),
    [("key-1", b"key-1", False), ("key-1", b"other", True), ("key-1", None, False), (None, b"other", False)],
)
def test_the_only_destination_takes_any_key_and_a_mismatch_is_told(
    secret: str | None,
    key: bytes | None,
    mismatch: bool,  # noqa: FBT001
) -> None:
    checked = route("/v1", "one", secrets={"one": secret}).check(EVENT, received_at=STAMP, presented_key=key)
    assert isinstance(checked, Checked)
    assert checked.accepted == 1
    assert checked.key_mismatch is mismatch


def test_a_key_may_change_while_the_route_lives() -> None:
    secrets: dict[str, str | None] = {"one": "old"}
    door = route("/v1", "one", secrets=secrets)
    secrets["one"] = "new"
    checked = door.check(EVENT, received_at=STAMP, presented_key=b"new")
    assert isinstance(checked, Checked)
    assert not checked.key_mismatch


def test_a_named_destination_needs_no_key() -> None:
    checked = route("/events", "one", "two", destination="two").check(EVENT, received_at=STAMP)
    assert isinstance(checked, Checked)
    assert checked.groups[0].destination == "two"


def test_several_destinations_are_no_conflict_unless_they_share_a_key() -> None:
    one, two = destination("one"), destination("two")
    assert find_conflicts([one, two]) == []
    (problem,) = find_conflicts([one, Destination(name="three", kind="encharge", url="x", write_key=one.write_key)])
    assert "write_key" in problem
