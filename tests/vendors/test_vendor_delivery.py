"""What goes out: URL, headers, bodies joined from stored bytes, and what answers mean."""

import json
from array import array

import pytest

from forwarder.config.model import Destination
from forwarder.core.seams import Trait
from forwarder.core.spool.frame import Frame, Span
from forwarder.vendors import VENDORS
from forwarder.vendors.base import Vendor
from tests.support import bodies

TD, EN = VENDORS["telemetrydeck"], VENDORS["encharge"]
MULTIPLE = b"/v2/namespace/com.example/\0APP"
SINGLE = b"/api/v1/apps/A%25B/signals/\0A%B"


def span(*events: bytes, view: bool = False) -> Span:
    payload = b",".join(events)
    lengths = array("I", map(len, events))
    frame = Frame(
        sequence=7,
        accepted_at=0.0,
        batch_key=MULTIPLE,
        lengths=lengths,
        payload=memoryview(payload) if view else payload,
    )
    return Span(frame, 0, len(events))


@pytest.mark.parametrize("view", [False, True])
def test_a_batch_is_the_stored_bytes_joined_by_commas_in_brackets(view: bool) -> None:  # noqa: FBT001
    whole = span(b'{"a": 1}', b'{"b":2 }', b'{"c":3}', view=view)
    assert TD.body([whole], MULTIPLE) == b'[{"a": 1},{"b":2 },{"c":3}]'
    assert TD.body([whole.split(1)[1], span(b'{"d":4}')], MULTIPLE) == b'[{"b":2 },{"c":3},{"d":4}]'
    assert TD.body(whole.singles()[2:], MULTIPLE) == b'[{"c":3}]'


def test_a_batch_of_samples_holds_every_signal_again() -> None:
    arrays = [each.body.strip() for each in bodies.TELEMETRYDECK if each.body[:1] == b"["]
    batch = TD.body([span(each[1:-1]) for each in arrays], MULTIPLE)
    assert json.loads(batch) == [signal for each in arrays for signal in json.loads(each)]


@pytest.mark.parametrize(("vendor", "key"), [(TD, SINGLE), (EN, b"/v1")])
def test_a_single_request_is_the_stored_event_itself(vendor: Vendor, key: bytes) -> None:
    assert vendor.single(key)
    assert vendor.body([span(b'{"a": 1}')], key) == b'{"a": 1}'
    assert vendor.body([span(b'{"a":1}', b'{"b":2}', view=True).singles()[1]], key) == b'{"b":2}'
    with pytest.raises(ValueError, match="one event"):
        vendor.body([span(b"{}", b"{}")], key)
    with pytest.raises(ValueError, match="unpack"):
        vendor.body([span(b"{}"), span(b"{}")], key)


@pytest.mark.parametrize("key", [b"/v2/\0a", MULTIPLE, b"/v3/signals/\0a", b"/api/v1/apps/a/signals/multiple/\0a"])
def test_array_paths_are_not_single(key: bytes) -> None:
    assert not TD.single(key)


@pytest.mark.parametrize("base", ["https://nom.telemetrydeck.com", "https://nom.telemetrydeck.com/"])
def test_the_url_is_the_base_and_the_path_of_the_batch_key(base: str) -> None:
    destination = Destination(name="td", kind="telemetrydeck", url=base)
    assert TD.url(destination, MULTIPLE) == "https://nom.telemetrydeck.com/v2/namespace/com.example/"
    assert TD.url(destination, SINGLE) == "https://nom.telemetrydeck.com/api/v1/apps/A%25B/signals/"


def test_enchargs_url_is_the_endpoint_as_configured() -> None:
    destination = Destination(name="en", kind="encharge", url="https://ingest.encharge.io/v1")
    assert EN.url(destination, b"/v1") == "https://ingest.encharge.io/v1"


def test_only_encharge_sends_a_key_and_only_in_its_header() -> None:
    assert TD.headers("key") == {"Content-Type": "application/json"}
    assert EN.headers("key") == {"Content-Type": "application/json", "X-Encharge-Token": "key"}
    assert EN.headers(None) == {"Content-Type": "application/json"}


@pytest.mark.parametrize(
    ("status", "meaning"),
    [
        (200, None),
        (400, None),
        (413, None),
        (422, None),
        (500, None),
        (301, "park"),
        (308, "park"),
        (401, "park"),
        (402, "park"),
        (407, "park"),
        (403, "park_key"),
        (404, "park_key"),
        (408, "back_off"),
        (425, "back_off"),
        (429, "back_off"),
    ],
)
def test_answers_that_differ_from_their_class_are_in_the_table(status: int, meaning: str | None) -> None:
    assert TD.answers.get(status) == meaning
    assert EN.answers.get(status) == meaning


def test_signals_go_in_batches_and_persons_one_by_one() -> None:
    assert TD.batched
    assert not EN.batched
    assert {name: vendor.kind for name, vendor in VENDORS.items()} == {
        "telemetrydeck": "telemetrydeck",
        "encharge": "encharge",
    }


def test_an_event_back_from_the_dead_has_the_trait_that_it_had() -> None:
    assert TD.trait(bodies.signal()) is None
    found = EN.trait(bodies.sample("identify").body)
    assert found is not None
    assert (found.aged, len(found.order)) == (1, 2)


@pytest.mark.parametrize("event", [b"", b"5", b"[]", b'{"user":', b"{]"])
def test_an_event_that_an_editor_broke_has_no_order(event: bytes) -> None:
    assert EN.trait(event) in (Trait(), Trait(aged=1))
