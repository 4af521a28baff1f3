"""The stand-in takes what the vendors take, and refuses what they would or might refuse."""

import aiohttp
import pytest

from forwarder.receiver import Receiver
from tests.receiver.bodies import ENCHARGE, TELEMETRYDECK
from tests.receiver.conftest import KEY

JSON = {"Content-Type": "application/json"}
TOKEN = {**JSON, "X-Encharge-Token": KEY}
GOOD = b'{"appID":"a","clientUser":"u","type":"t"}'


@pytest.mark.parametrize("body", TELEMETRYDECK.values(), ids=TELEMETRYDECK.keys())
@pytest.mark.parametrize(
    "path", ["/v2/", "/v2", "/v2/namespace/com.example/", "/v1/", "/api/v1/apps/a/signals/multiple/"]
)
async def test_every_sdk_body_is_taken_byte_for_byte(
    receiver: Receiver, http: aiohttp.ClientSession, path: str, body: bytes
) -> None:
    async with http.post(receiver.url + path, data=body) as answer:
        assert answer.status == 200
    assert [row.event for row in receiver.events("telemetrydeck")] == [body[1:-1]]
    assert receiver.requests()[0].body == body


@pytest.mark.parametrize("body", ENCHARGE.values(), ids=ENCHARGE.keys())
async def test_every_encharge_form_is_taken_byte_for_byte(
    receiver: Receiver, http: aiohttp.ClientSession, body: bytes
) -> None:
    for path, headers in (("/v1", TOKEN), ("/v1/", TOKEN), (f"/v1/{KEY}", JSON)):
        async with http.post(receiver.url + path, data=body, headers=headers) as answer:
            assert answer.status == 200
    assert [row.event for row in receiver.events("encharge")] == [body] * 3


async def test_an_array_is_split_into_the_exact_bytes_of_its_events(
    receiver: Receiver, http: aiohttp.ClientSession
) -> None:
    events = [
        b'{"appID" : "a","clientUser":"\\u0041","type":"t","payload":{"n":1.50}}',
        GOOD,
        b'{\n"type":"\xc3\xa9",' + GOOD[1:],
    ]
    body = b" [ " + b" ,\n".join(events) + b" ] "
    async with http.post(f"{receiver.url}/v2/", data=body) as answer:
        assert answer.status == 200
    assert [row.event for row in receiver.events()] == events
    assert receiver.requests()[0].body == body


async def test_a_flat_event_is_taken_on_v3_and_one_object_from_the_web_sdk(
    receiver: Receiver, http: aiohttp.ClientSession
) -> None:
    for path, body in (
        ("/v3/com.example/", b"[" + GOOD + b"]"),
        ("/v3/com.example", b"[" + GOOD + b"]"),
        ("/v3/w/", GOOD),
    ):
        async with http.post(receiver.url + path, data=body) as answer:
            assert answer.status == 200, path
    async with http.post(f"{receiver.url}/v3/w/", data=b"[" + GOOD + b"]") as answer:
        assert answer.status == 400


async def test_a_legacy_path_names_the_app_so_the_event_need_not(
    receiver: Receiver, http: aiohttp.ClientSession
) -> None:
    body = b'{"clientUser":"u","type":"t"}'
    async with http.post(f"{receiver.url}/api/v1/apps/a/signals/", data=body) as answer:
        assert answer.status == 200
    assert receiver.events()[0].event == body


@pytest.mark.parametrize(
    ("bad", "names"),
    [
        (b'{"clientUser":"u","type":"t"}', "event 1: appID"),
        (b'{"appID":7,"clientUser":"u","type":"t"}', "event 1: appID"),
        (b'{"appID":"a","type":"t"}', "event 1: clientUser"),
        (b'{"appID":"a","clientUser":"u"}', "event 1: type"),
        (b'{"appID":"a","clientUser":"u","type":""}', "event 1: type"),
        (b'{"appID":"a","clientUser":"u","type":"t","receivedAt":"yesterday"}', "event 1: receivedAt"),
        (b'{"appID":"a","clientUser":"u","type":"t","receivedAt":1780000000}', "event 1: receivedAt"),
        (b'"text"', "event 1: expected an object"),
        (b'{"appID":"a","clientUser":"u","type":"t","floatValue":NaN}', "not JSON"),
        (b'{"appID":"\xff","clientUser":"u","type":"t"}', "not JSON"),
    ],
)
async def test_one_bad_signal_refuses_the_whole_array_and_is_named(
    receiver: Receiver, http: aiohttp.ClientSession, bad: bytes, names: str
) -> None:
    async with http.post(f"{receiver.url}/v2/", data=b"[" + GOOD + b"," + bad + b"," + GOOD + b"]") as answer:
        assert answer.status == 400
        assert names in await answer.text()
    assert receiver.events() == []
    assert receiver.journal.counts()["events"] == 0


@pytest.mark.parametrize("moment", ["12+0000", "12.123Z", "12.1234567+02:00", "12.123456789Z", "12.250723+00:00"])
async def test_all_five_encodings_of_received_at_are_taken(
    receiver: Receiver, http: aiohttp.ClientSession, moment: str
) -> None:
    event = b'{"receivedAt":"2026-06-05T10:11:' + moment.encode() + b'",' + GOOD[1:]
    async with http.post(f"{receiver.url}/v2/", data=b"[" + event + b"]") as answer:
        assert answer.status == 200
    assert receiver.journal.counts()["unstamped"] == 0


async def test_a_signal_without_received_at_is_counted_and_refused_where_it_is_required(
    receiver: Receiver, http: aiohttp.ClientSession
) -> None:
    double = b'{"receivedAt":"2026-06-05T10:11:12Z","receivedAt":null,' + GOOD[1:]
    async with http.post(f"{receiver.url}/v2/", data=b"[" + GOOD + b"," + double + b"]") as answer:
        assert answer.status == 200
    assert receiver.journal.counts()["unstamped"] == 2
    async with (
        Receiver(require_received_at=True) as strict,
        http.post(f"{strict.url}/v2/", data=b"[" + double + b"]") as answer,
    ):
        assert answer.status == 400
        assert "receivedAt" in await answer.text()


@pytest.mark.parametrize(
    ("request_", "refusal"),
    [
        (("/v1", JSON, ENCHARGE["event"]), (401, "X-Encharge-Token is missing")),
        (("/v1", {**JSON, "X-Encharge-Token": "wrong"}, ENCHARGE["event"]), (401, "not the write key")),
        (("/v1/wrong", JSON, ENCHARGE["event"]), (401, "not the write key")),
        (("/v1", TOKEN, b"[" + ENCHARGE["event"] + b"]"), (400, "one object")),
        ((f"/v1/{KEY}", JSON, b"[" + ENCHARGE["event"] + b"]"), (400, "one object")),
        (("/v1", {**TOKEN, "Content-Type": "text/plain"}, ENCHARGE["event"]), (400, "Content-Type")),
        (("/v1", TOKEN, b'{"name":"x","user":{}}'), (400, "user")),
        (("/v1", TOKEN, b'{"name":"x","user":{"email":true}}'), (400, "user")),
        (("/v1", TOKEN, b'{"user":{"email":"a@example.com"}}'), (400, "name")),
        (("/v1", TOKEN, b'{"name":"x","user":{"userId":NaN}}'), (400, "not JSON")),
        (("/v1", TOKEN, b""), (400, "not JSON")),
        (("/v1", {**TOKEN, "Content-Encoding": "identity"}, ENCHARGE["event"]), (415, "Content-Encoding")),
    ],
)
async def test_encharge_refuses_what_breaks_its_contract(
    receiver: Receiver,
    http: aiohttp.ClientSession,
    request_: tuple[str, dict[str, str], bytes],
    refusal: tuple[int, str],
) -> None:
    path, headers, body = request_
    status, says = refusal
    async with http.post(receiver.url + path, data=body, headers=headers) as answer:
        assert answer.status == status
        assert says in (await answer.json())["error"]
    assert receiver.events() == []


async def test_get_is_405_with_allow_and_an_unknown_path_404(receiver: Receiver, http: aiohttp.ClientSession) -> None:
    async with http.get(f"{receiver.url}/v1") as answer:
        assert (answer.status, answer.headers["Allow"]) == (405, "POST")
    for path in ("/", "/v2/namespace/", "/v4/", "/v3/", "/api/v1/apps//signals/"):
        async with http.post(receiver.url + path, data=b"[]") as answer:
            assert answer.status == 404, path


async def test_standing_in_for_one_vendor_knows_nothing_of_the_other(http: aiohttp.ClientSession) -> None:
    async with Receiver(vendors=("encharge",)) as encharge:
        async with http.post(f"{encharge.url}/v2/", data=TELEMETRYDECK["swift"]) as answer:
            assert answer.status == 404
        async with http.post(f"{encharge.url}/v1/", data=TELEMETRYDECK["swift"], headers=TOKEN) as answer:
            assert answer.status == 400
    async with (
        Receiver(vendors=("telemetrydeck",)) as telemetrydeck,
        http.post(f"{telemetrydeck.url}/v1/", data=ENCHARGE["event"], headers=TOKEN) as answer,
    ):
        assert answer.status == 400


async def test_a_write_key_is_shown_nowhere(receiver: Receiver, http: aiohttp.ClientSession) -> None:
    async with http.post(f"{receiver.url}/v1/{KEY}", data=ENCHARGE["event"], headers=TOKEN) as answer:
        assert answer.status == 200
    assert KEY not in repr(receiver.requests()) + repr(receiver.events())
    for path in ("requests", "received?events=all", "faults"):
        async with http.get(f"{receiver.url}/_receiver/{path}") as answer:
            assert KEY not in await answer.text()


async def test_chunked_bodies_and_expect_continue_are_understood(
    receiver: Receiver, http: aiohttp.ClientSession
) -> None:
    async def chunks() -> object:
        for index in range(0, len(TELEMETRYDECK["swift"]), 50):
            yield TELEMETRYDECK["swift"][index : index + 50]

    async with http.post(f"{receiver.url}/v2/", data=chunks(), expect100=True) as answer:
        assert answer.status == 200
    assert receiver.requests()[0].body == TELEMETRYDECK["swift"]
