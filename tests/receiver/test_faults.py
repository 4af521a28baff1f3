"""Every fault can be ordered, does what it says, and ends when it should."""

import asyncio

import aiohttp
import pytest

from forwarder.receiver import BadFault, Faults, Receiver
from forwarder.receiver import faults as faults_module
from tests.receiver.bodies import ENCHARGE
from tests.receiver.conftest import KEY

TOKEN = {"Content-Type": "application/json", "X-Encharge-Token": KEY}


def signal(type_: str = "t", user: str = "u", app: str = "a") -> bytes:
    return f'{{"appID":"{app}","clientUser":"{user}","type":"{type_}"}}'.encode()


BODY = b"[" + signal() + b"]"


def head(length: int) -> bytes:
    return b"POST /v2/ HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % length


async def talk(receiver: Receiver, request: bytes) -> bytes:
    """Return the beginning of the answer on a bare connection, where a reset is told from an orderly end."""
    reader, writer = await asyncio.open_connection("127.0.0.1", receiver.port)
    try:
        writer.write(request)
        return await asyncio.wait_for(reader.read(65536), 10)
    finally:
        writer.close()


async def post(http: aiohttp.ClientSession, receiver: Receiver, *events: bytes, path: str = "/v2/") -> int:
    body = b"[" + b",".join(events or (signal(),)) + b"]"
    async with http.post(receiver.url + path, data=body) as answer:
        await answer.read()
        return answer.status


async def test_an_ordered_status_stores_nothing_and_carries_retry_after_and_the_answer(
    receiver: Receiver, http: aiohttp.ClientSession
) -> None:
    receiver.faults = Faults(status=429, retry_after="5", answer="<h1>slow down</h1>")
    async with http.post(f"{receiver.url}/v2/", data=b"[" + signal() + b"]") as answer:
        assert (answer.status, answer.headers["Retry-After"]) == (429, "5")
        assert await answer.text() == "<h1>slow down</h1>"
    assert receiver.events() == []
    assert receiver.requests()[0].fault == "status 429"


@pytest.mark.parametrize("status", [201, 202, 204])
async def test_an_ordered_success_stores_the_events(
    receiver: Receiver, http: aiohttp.ClientSession, status: int
) -> None:
    receiver.faults = Faults(status=status)
    assert await post(http, receiver) == status
    assert len(receiver.events()) == 1


async def test_the_fail_rate_draws_a_lot_for_every_request(http: aiohttp.ClientSession) -> None:
    lots = iter([0.1, 0.9, 0.2, 0.19])
    async with Receiver(faults=Faults(fail_rate=0.2, fail_status=500), chance=lambda: next(lots)) as receiver:
        assert [await post(http, receiver) for _ in range(4)] == [500, 200, 200, 500]
        assert len(receiver.events()) == 2


async def test_an_event_of_a_refused_type_user_or_app_sinks_its_whole_request(
    receiver: Receiver, http: aiohttp.ClientSession
) -> None:
    receiver.faults = Faults(refuse_types=("Bad",), refuse_users=("eve",), refuse_apps=("old",))
    for bad in (signal("Bad"), signal(user="eve"), signal(app="old")):
        assert await post(http, receiver, signal(), bad) == 400
    assert await post(http, receiver, signal("Bad2"), signal("Good")) == 200
    assert len(receiver.events()) == 2


async def test_refused_words_reach_encharge_names_and_identities_with_any_status(
    receiver: Receiver, http: aiohttp.ClientSession
) -> None:
    for order in (
        Faults(refuse_types=("Signed up",)),
        Faults(refuse_users=("7",)),
        Faults(refuse_users=("a@example.com",)),
    ):
        receiver.faults = Faults(refuse_types=order.refuse_types, refuse_users=order.refuse_users, refuse_status=422)
        async with http.post(f"{receiver.url}/v1", data=ENCHARGE["event"], headers=TOKEN) as answer:
            assert answer.status == 422
    assert receiver.events() == []


@pytest.mark.parametrize(("when", "stored"), [("before-body", 0), ("after-body", 0), ("after-storing", 1)])
async def test_a_reset_comes_at_the_moment_ordered(
    receiver: Receiver, http: aiohttp.ClientSession, when: faults_module.When, stored: int
) -> None:
    receiver.faults = Faults(reset=when, requests=1)
    with pytest.raises(ConnectionResetError):
        await talk(receiver, head(len(BODY)) + BODY)
    await receiver.wait_for(lambda r: len(r.requests()) == 1)
    assert len(receiver.events()) == stored
    seen = receiver.requests()[0]
    assert (seen.status, seen.fault) == (0, f"reset {when}")
    assert await post(http, receiver) == 200


@pytest.mark.parametrize(("when", "stored"), [("before-body", 0), ("after-body", 0), ("after-storing", 1)])
async def test_a_hang_lasts_until_the_order_is_lifted(
    receiver: Receiver, http: aiohttp.ClientSession, when: faults_module.When, stored: int
) -> None:
    receiver.faults = Faults(hang=when)
    posting = asyncio.create_task(post(http, receiver))
    await asyncio.wait([posting], timeout=0.05)
    assert not posting.done()
    receiver.faults = ()
    with pytest.raises(aiohttp.ClientConnectionError):
        await posting
    assert len(receiver.events()) == stored
    assert await post(http, receiver) == 200


@pytest.mark.parametrize("order", [Faults(hang="after-storing"), Faults(latency=60)], ids=["hang", "latency"])
async def test_events_are_stored_before_a_wait_so_that_giving_up_is_ambiguous_and_noticed(
    receiver: Receiver, http: aiohttp.ClientSession, order: Faults
) -> None:
    receiver.faults = order
    posting = asyncio.create_task(post(http, receiver))
    await receiver.wait_for(lambda r: len(r.events()) == 1)
    assert receiver.requests() == []
    posting.cancel()
    await receiver.wait_for(lambda r: len(r.requests()) == 1)
    assert receiver.requests()[0].status == 0


async def test_a_larger_body_and_a_longer_array_are_413(receiver: Receiver, http: aiohttp.ClientSession) -> None:
    receiver.faults = Faults(max_body=100)
    assert await post(http, receiver, signal()) == 200
    assert await post(http, receiver, signal(user="u" * 100)) == 413
    receiver.faults = Faults(max_events=2)
    assert await post(http, receiver, signal(), signal()) == 200
    assert await post(http, receiver, signal(), signal(), signal()) == 413
    assert len(receiver.events()) == 3


async def test_a_chunked_body_larger_than_max_body_is_413_too(receiver: Receiver, http: aiohttp.ClientSession) -> None:
    async def chunks() -> object:
        for _ in range(20):
            yield b" " * 10

    receiver.faults = Faults(max_body=100)
    async with http.post(f"{receiver.url}/v2/", data=chunks()) as answer:
        assert answer.status == 413


async def test_a_body_announced_too_large_is_413_before_it_is_sent(receiver: Receiver) -> None:
    receiver.faults = Faults(max_body=100)
    answer = await talk(receiver, head(101))
    assert answer.startswith(b"HTTP/1.1 413")


async def test_an_order_ends_after_its_requests_and_the_next_one_takes_over(
    receiver: Receiver, http: aiohttp.ClientSession
) -> None:
    receiver.faults = (Faults(status=503, requests=2), Faults(status=500, requests=1))
    assert [await post(http, receiver) for _ in range(4)] == [503, 503, 500, 200]


async def test_an_order_concerns_only_its_vendor_and_path(receiver: Receiver, http: aiohttp.ClientSession) -> None:
    receiver.faults = (Faults(vendor="encharge", status=503), Faults(path="/v2/namespace/com.example", status=403))
    assert await post(http, receiver) == 200
    assert await post(http, receiver, path="/v2/namespace/com.example/") == 403
    async with http.post(f"{receiver.url}/v1", data=ENCHARGE["event"], headers=TOKEN) as answer:
        assert answer.status == 503


async def test_faults_are_ordered_shown_and_lifted_at_run_time(receiver: Receiver, http: aiohttp.ClientSession) -> None:
    control = f"{receiver.url}/_receiver/faults"
    order = b'{"status":503,"retry_after":5,"requests":2,"latency":"1ms","max_body":"64KiB"}'
    async with http.put(control, data=order) as answer:
        assert answer.status == 200
    assert await post(http, receiver) == 503
    async with http.get(control) as answer:
        assert (await answer.json())["faults"][0]["requests"] == 1
    async with http.delete(control) as answer:
        assert (await answer.json())["faults"] == []
    assert await post(http, receiver) == 200


@pytest.mark.parametrize(
    ("order", "names"),
    [
        (b'{"statsu":503}', "statsu"),
        (b'{"status":99}', "status"),
        (b'{"status":"503"}', "status"),
        (b'{"fail_rate":2}', "fail_rate"),
        (b'{"latency":"soon"}', "duration"),
        (b'{"max_body":"64KB"}', "size"),
        (b'{"reset":"now"}', "reset"),
        (b'{"requests":-1}', "requests"),
        (b"5", "object"),
        (b"{", "not an order"),
    ],
)
async def test_a_bad_order_names_its_field_and_leaves_the_old_ones_in_force(
    receiver: Receiver, http: aiohttp.ClientSession, order: bytes, names: str
) -> None:
    receiver.faults = Faults(status=503)
    with pytest.raises(BadFault, match=names):
        faults_module.parse(order)
    async with http.put(f"{receiver.url}/_receiver/faults", data=order) as answer:
        assert answer.status == 400
        assert names in (await answer.json())["error"]
    assert receiver.faults == (Faults(status=503),)
