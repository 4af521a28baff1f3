"""The stand-in as other tests use it: as a fixture and on a thread."""

import http.client
from urllib.parse import urlsplit

import aiohttp
import pytest

from forwarder.receiver import Faults, Receiver
from tests.support.clients import Numbered, Poster
from tests.support.standin import WRITE_KEY, StandinThread


async def test_the_fixture_is_strict_about_the_key_and_received_at(
    standin: Receiver, http: aiohttp.ClientSession
) -> None:
    signal, person = Numbered.telemetrydeck(1), Numbered.encharge(2)
    for body, status in ((b"[" + signal + b"]", 200), (b'[{"appID":"a","clientUser":"u","type":"t"}]', 400)):
        async with http.post(f"{standin.url}/v2/", data=body) as answer:
            assert answer.status == status
    for key, status in ((WRITE_KEY, 200), ("wrong", 401)):
        headers = {"X-Encharge-Token": key, "Content-Type": "application/json"}
        async with http.post(f"{standin.url}/v1", data=person, headers=headers) as answer:
            assert answer.status == status
    assert [row.event for row in standin.events()] == [signal, person]


async def test_waiting_for_what_never_comes_ends_with_a_time_out(standin: Receiver) -> None:
    with pytest.raises(TimeoutError):
        await standin.wait_for(lambda receiver: bool(receiver.events()), timeout_s=0.02)


def test_on_a_thread_it_serves_synchronous_tests() -> None:
    with StandinThread() as standin:
        with Poster(standin.url) as poster:
            assert poster.post("/v2/", [1]) == 200
            standin.order(Faults(status=503, requests=1))
            assert [poster.post("/v2/", [2]), poster.post("/v2/", [3])] == [503, 200]
        standin.wait_for(lambda receiver: len(receiver.requests()) == 3)
        assert [Numbered.of(row.event) for row in standin.events("telemetrydeck")] == [1, 3]
        assert [seen.status for seen in standin.requests()] == [200, 503, 200]
        url = urlsplit(standin.url)
    connection = http.client.HTTPConnection(url.hostname or "", url.port, timeout=1)
    with pytest.raises(ConnectionRefusedError):
        connection.connect()
