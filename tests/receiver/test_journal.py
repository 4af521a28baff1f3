"""What was received can be read back: in memory, over HTTP, and from files, byte for byte."""

import json
import resource
import signal
import stat
from pathlib import Path

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from forwarder.receiver import Journal, Received, Receiver, Seen, journal, read_store

EVENT = b'{"appID":"a","clientUser":"u","type":"t"}'
PRETTY = b'{\r\n\t"appID": "a",\n "clientUser": "\\u00e9\xc3\xa9", "type": "t" }'


async def fill(http: aiohttp.ClientSession, receiver: Receiver, *events: bytes) -> bytes:
    body = b"[" + b",".join(events) + b"]"
    async with http.post(f"{receiver.url}/v2/", data=body) as answer:
        assert answer.status == 200
    return body


async def test_the_store_gives_back_every_event_byte_for_byte_over_restarts(
    tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    store = tmp_path / "got.ndjson"
    for events in ((EVENT, PRETTY), (PRETTY,)):
        async with Receiver(journal=Journal(store=store)) as receiver:
            await fill(http, receiver, *events)
    assert [row.event for row in read_store(store)] == [EVENT, PRETTY, PRETTY]
    lines = [json.loads(line) for line in store.read_bytes().splitlines()]
    assert [line["event"]["appID"] for line in lines] == ["a"] * 3
    assert {(line["vendor"], line["path"]) for line in lines} == {("telemetrydeck", "/v2/")}
    assert stat.S_IMODE(store.stat().st_mode) == 0o600


async def test_an_event_is_in_the_store_before_its_sender_is_answered(
    tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    store = tmp_path / "got.ndjson"
    async with Receiver(journal=Journal(store=store)) as receiver:
        await fill(http, receiver, EVENT)
        assert [row.event for row in read_store(store)] == [EVENT]


async def test_a_store_that_cannot_be_written_is_a_500_and_counts_nothing(http: aiohttp.ClientSession) -> None:
    async with Receiver(journal=Journal(store=Path("/dev/full"))) as receiver:
        async with http.post(f"{receiver.url}/v2/", data=b"[" + EVENT + b"]") as answer:
            assert answer.status == 500
            assert "cannot store" in await answer.text()
        assert receiver.journal.counts()["events"] == 0


async def test_bodies_are_kept_one_file_a_request(tmp_path: Path, http: aiohttp.ClientSession) -> None:
    async with Receiver(journal=Journal(bodies=tmp_path / "bodies")) as receiver:
        first = await fill(http, receiver, EVENT, PRETTY)
        async with http.post(f"{receiver.url}/v2/", data=b"not json") as answer:
            assert answer.status == 400
    kept = sorted((tmp_path / "bodies").iterdir())
    assert [file.read_bytes() for file in kept] == [first, b"not json"]


def test_a_write_that_fails_half_way_leaves_only_whole_events_behind(tmp_path: Path) -> None:
    store = Journal(store=tmp_path / "s")
    store.open()
    seen = Seen(number=1, at=0.0, method="POST", path="/v2/")
    store.add(seen, "telemetrydeck", [EVENT])
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, ((tmp_path / "s").stat().st_size + 10, hard))
    try:
        with pytest.raises(OSError, match="File too large"):
            store.add(seen, "telemetrydeck", [EVENT])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, ignored)
    store.add(seen, "telemetrydeck", [PRETTY])
    store.close()
    assert [row.event for row in read_store(tmp_path / "s")] == [EVENT, PRETTY]
    assert len(store.events()) == 2


def test_a_line_that_was_never_finished_is_left_out(tmp_path: Path) -> None:
    whole = journal.line(Received(1.5, "encharge", "/v1", EVENT))
    for cut in range(len(whole)):
        (tmp_path / "torn").write_bytes(whole + whole[:cut])
        assert list(read_store(tmp_path / "torn")) == [Received(1.5, "encharge", "/v1", EVENT)]


@given(
    st.dictionaries(
        st.text(), st.none() | st.booleans() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
    ),
    st.sampled_from([None, 1, "\r\n"]),
)
def test_any_object_survives_the_store(
    tmp_path_factory: pytest.TempPathFactory, value: object, indent: int | str | None
) -> None:
    event = json.dumps(value, indent=indent).encode()
    file = tmp_path_factory.mktemp("store") / "s"
    file.write_bytes(journal.line(Received(0.0, "encharge", "/v1", event)))
    assert file.read_bytes().count(b"\n") == 1
    assert [row.event for row in read_store(file)] == [event]


def test_memory_holds_the_newest_events_up_to_both_limits() -> None:
    by_count = Journal(keep_events=3)
    by_size = Journal(keep_bytes=len(EVENT) * 2)
    for kept, left in ((by_count, 3), (by_size, 2)):
        for number in range(5):
            kept.add(Seen(number=number, at=0.0, method="POST", path="/v2/"), "telemetrydeck", [EVENT])
        assert [row.request for row in kept.events()] == list(range(5 - left, 5))


def test_bodies_in_memory_stay_under_the_limit() -> None:
    kept = Journal(keep_bytes=20, keep_bodies=True)
    rows = [Seen(number=n, at=0.0, method="POST", path="/v2/", size=8) for n in range(4)]
    for seen in rows:
        kept.keep_body(seen, b"x" * seen.size)
    assert [seen.body is None for seen in rows] == [True, True, False, False]


async def test_counts_and_events_are_read_and_forgotten_over_http(http: aiohttp.ClientSession) -> None:
    async with Receiver() as receiver:
        await fill(http, receiver, EVENT, PRETTY)
        url = f"{receiver.url}/_receiver/received"
        async with http.get(url) as answer:
            counts = await answer.json()
        assert (counts["requests"], counts["events"], counts["telemetrydeck"], counts["statuses"]) == (
            1,
            2,
            2,
            {"200": 1},
        )
        async with http.get(url, params={"events": "telemetrydeck"}) as answer:
            lines = (await answer.read()).splitlines()
        assert json.loads(lines[1])["raw"] == PRETTY.decode()
        async with http.get(url, params={"events": "encharge"}) as answer:
            assert await answer.read() == b""
        async with http.get(url, params={"events": "some"}) as answer:
            assert answer.status == 400
        async with http.get(f"{receiver.url}/_receiver/requests") as answer:
            assert json.loads(await answer.read())["types"] == {"t": 2}
        async with http.delete(url) as answer:
            assert (await answer.json())["events"] == 0


async def test_unknown_control_paths_and_methods_say_what_there_is(http: aiohttp.ClientSession) -> None:
    async with Receiver() as receiver:
        async with http.get(f"{receiver.url}/_receiver/fault") as answer:
            assert answer.status == 404
            assert "/_receiver/faults" in await answer.text()
        async with http.post(f"{receiver.url}/_receiver/faults") as answer:
            assert (answer.status, answer.headers["Allow"]) == (405, "GET, PUT, DELETE")
        async with http.get(f"{receiver.url}/_receiver") as answer:
            assert "PUT /_receiver/faults" in await answer.json()


async def test_fast_mode_only_counts(http: aiohttp.ClientSession) -> None:
    async with Receiver(fast=True, key="k") as receiver:
        await fill(http, receiver, EVENT, EVENT, EVENT)
        async with http.post(f"{receiver.url}/v1", data=b"{}", headers={"X-Encharge-Token": "k"}) as answer:
            assert answer.status == 200
        counts = receiver.journal.counts()
        assert (counts["telemetrydeck"], counts["encharge"], counts["kept_events"]) == (3, 1, 0)
