"""Every SDK body is accepted as it stands, and delivered byte for byte but for the stamp."""

import json

import pytest

from forwarder.config.model import Destination
from forwarder.vendors import VENDORS
from forwarder.vendors.base import BadRequest, Checked
from forwarder.vendors.router import DestinationRouter
from forwarder.vendors.samples import Sample, samples
from tests.support import bodies

ROUTER = DestinationRouter(
    [
        Destination(name="td", kind="telemetrydeck", url="http://127.0.0.1:1"),
        Destination(name="en", kind="encharge", url="http://127.0.0.1:1/v1"),
    ],
    secret=lambda _: "key",
    max_event=1 << 20,
)


def check(path: str, body: bytes, *, key: bytes | None = None) -> Checked:
    route = ROUTER.resolve(path, {}, encharge_token=key is not None)
    assert not isinstance(route, BadRequest)
    checked = route.check(body, received_at=bodies.STAMP, presented_key=key)
    assert isinstance(checked, Checked)
    return checked


def elements(body: bytes) -> list[bytes]:
    """Return the events of a sample by a decoder that builds everything, found again in its bytes."""
    if body[:1] == b"{":
        return [body.strip()]
    decoder = json.JSONDecoder()
    text, at, found = body.decode(), 1, []
    for _ in json.loads(text):
        _, end = decoder.raw_decode(text, at)
        found.append(text[at:end].encode())
        at = end + 1
    return found


@pytest.mark.parametrize("sample", bodies.TELEMETRYDECK, ids=lambda sample: sample.name)
@pytest.mark.parametrize("slash", [True, False])
def test_every_signal_of_every_sdk_is_kept_byte_for_byte_but_for_the_stamp(sample: Sample, slash: bool) -> None:  # noqa: FBT001
    checked = check(sample.path if slash else sample.path.rstrip("/"), sample.body)
    assert checked.refused in ((), [])
    (group,) = checked.groups
    expected = [each if b'"receivedAt"' in each else bodies.STAMPED + each[1:] for each in elements(sample.body)]
    assert group.events == expected
    assert group.size == sum(map(len, expected))
    assert checked.accepted == len(expected)
    assert group.batch_key.startswith(sample.path.encode() + b"\0")
    assert group.traits is None


@pytest.mark.parametrize("sample", bodies.ENCHARGE, ids=lambda sample: sample.name)
@pytest.mark.parametrize("key", [None, b"key"])
def test_every_body_form_of_encharge_is_kept_byte_for_byte(sample: Sample, key: bytes | None) -> None:
    checked = check(sample.path, sample.body, key=key)
    (group,) = checked.groups
    assert group.destination == "en"
    assert group.events == [sample.body.strip()]
    assert group.traits is not None
    assert group.traits[0].order


@pytest.mark.parametrize("sample", samples(), ids=lambda sample: sample.name)
def test_events_takes_every_sample_that_names_its_app_by_shape(sample: Sample) -> None:
    checked = check("/events", sample.body)
    if sample.name == "old-client":
        assert [each.reason for each in checked.refused] == ["missing_field"]
    else:
        assert {group.destination for group in checked.groups} == {"td" if sample.vendor == "telemetrydeck" else "en"}
        assert checked.refused in ((), [])


def test_a_careful_check_of_a_sample_stores_the_same_bytes_as_the_fast_one() -> None:
    for sample in bodies.TELEMETRYDECK:
        if sample.body[:1] == b"[":
            fast = check(sample.path, sample.body)
            careful = check(sample.path, sample.body[:-1].rstrip(b"]\n") + b",0]")
            assert [group.events for group in careful.groups] == [group.events for group in fast.groups]
            assert [group.batch_key for group in careful.groups] == [group.batch_key for group in fast.groups]
            assert len(careful.refused) == 1


def test_the_samples_carry_the_keys_that_are_reserved_for_sdks() -> None:
    assert bodies.sample("swift").body.count(b'"TelemetryDeck.') >= 50
    assert bodies.sample("kotlin").body.count(b'"TelemetryDeck.') >= 50


def test_every_vendor_of_the_samples_is_in_the_table() -> None:
    assert {sample.vendor for sample in samples()} == set(VENDORS)


@pytest.mark.parametrize("vendor", VENDORS)
def test_every_body_file_under_tests_data_is_a_sample(vendor: str) -> None:
    """The files stand once, beside the vendor's code, because the demo sends them too; tests/data links there."""
    files = {path.stem: path.read_bytes() for path in (bodies.DATA / vendor).glob("*.json")}
    assert files == {sample.name: sample.body for sample in samples() if sample.vendor == vendor}
