"""The flusher against a vendor on loopback."""

import asyncio
from collections.abc import Mapping

import msgspec
import pytest
from aiohttp import web
from structlog.testing import capture_logs

from forwarder.config.model import Flush, Retry, Secret
from forwarder.core import report
from forwarder.core.lane.holds import HoldNothing
from forwarder.core.lane.outcome import Answer, Result
from forwarder.core.lane.waves import LEAST_S
from forwarder.core.seams import Outcome, Trait
from forwarder.errors import DiskTrouble
from forwarder.flusher.turns import GATHER_S
from tests.flusher.harness import (
    KEY,
    Scene,
    ScriptedClient,
    encharge,
    serve,
    telemetrydeck,
    until,
)
from tests.support.proxy import HostileProxy, Mode
from tests.support.standin import strict

SLOW = Retry(initial=3600.0, max=3600.0)
CLOCK_S = 0.001
"""What the loop's clock and its timers may be apart (uvloop counts milliseconds)."""


async def test_a_batch_is_the_stored_bytes_joined_by_commas_and_acked_once() -> None:
    async with serve() as vendor, Scene(telemetrydeck(vendor.url)).running() as scene:
        scene.spool.put([b'{"a": 1}', b'{"b":2}'], key=KEY)
        scene.spool.put([b'{"c":3}'], key=KEY)
        await until(lambda: scene.spool.queued == 0)
    assert b"".join(vendor.bodies) in (b'[{"a": 1},{"b":2},{"c":3}]', b'[{"a": 1},{"b":2}][{"c":3}]')
    assert vendor.seen[0].path == "/v2/"
    assert scene.spool.acked_twice == []
    assert scene.spool.leased == set()


async def test_encharge_gets_one_event_a_request_with_the_key_in_its_header_only() -> None:
    async with serve() as vendor, Scene(encharge(vendor.url)).running() as scene:
        scene.spool.put([b'{"n":1}', b'{"n":2}'], traits=[Trait(0, (1,)), Trait(0, (1,))])
        await until(lambda: scene.spool.queued == 0)
    assert vendor.bodies == [b'{"n":1}', b'{"n":2}']
    assert {request.headers["X-Encharge-Token"] for request in vendor.seen} == {"the-write-key"}
    assert {request.path for request in vendor.seen} == {"/v1"}


async def test_whatever_fails_for_a_while_is_delivered_in_the_end_and_logged_twice_not_per_request() -> None:
    async with serve() as vendor:
        with capture_logs() as logs:
            async with Scene(telemetrydeck(vendor.url)).running() as scene:
                vendor.status = 503
                for _ in range(5):
                    scene.spool.put([b"{}"] * 100, key=KEY)
                await until(lambda: len(vendor.bodies) >= 8)
                vendor.status = 200
                await until(lambda: scene.spool.queued == 0)
    told = [entry["event"] for entry in logs if entry["log_level"] != "debug"]
    assert told == ["delivery_failing", "delivery_recovered"]
    assert scene.metrics.delivered.at("td").value == 500
    assert scene.metrics.requests.at("td", "503").value >= 8
    assert scene.metrics.requests.at("td", "200").value >= 5


async def test_a_dead_vendor_causes_no_busy_loop() -> None:
    destination = telemetrydeck("http://127.0.0.1:9", retry=SLOW)
    async with Scene(destination).running() as scene:
        scene.spool.put([b"{}"] * 100, key=KEY)
        await until(lambda: scene.state == "backing_off")
        leases = scene.spool.leases
        for _ in range(500):
            await asyncio.sleep(0)
        assert scene.spool.leases == leases
        status = scene.flusher.status()
    assert status.last_error is not None
    assert status.last_error.startswith("failed connection: ")
    assert status.next_try_at is not None
    assert status.reason.startswith("after failed connection: ")
    assert scene.metrics.requests.at("td", "connect").value == 1


async def test_retry_after_is_obeyed() -> None:
    async with serve() as vendor:
        vendor.status, vendor.headers = 429, {"Retry-After": "3000"}
        async with Scene(telemetrydeck(vendor.url)).running() as scene:
            scene.spool.put([b"{}"], key=KEY)
            await until(lambda: scene.state == "backing_off")
            status = scene.flusher.status()
    assert status.next_try_at is not None
    assert 2990 < status.next_try_at - scene.clock.wall() <= 3000
    assert len(vendor.bodies) == 1


async def test_401_parks_once_at_error_with_what_to_do_and_a_new_secret_resumes() -> None:
    async with serve() as vendor:
        vendor.status = 401
        with capture_logs() as logs:
            async with Scene(encharge(vendor.url)).running() as scene:
                scene.spool.put([b"{}"], traits=[Trait(0, (1,))])
                await until(lambda: scene.state == "parked")
                vendor.status = 200
                scene.key = "new"
                scene.flusher.secret_changed()
                await until(lambda: scene.spool.queued == 0)
                assert scene.state == "flowing"
    errors = [entry for entry in logs if entry["log_level"] == "error"]
    assert [entry["event"] for entry in errors] == ["delivery_parked"]
    assert "check write key (destinations.en.write_key)" in errors[0]["reason"]
    assert [request.headers["X-Encharge-Token"] for request in vendor.seen] == ["the-write-key", "new"]
    assert "the-write-key" not in str(logs)


async def test_a_missing_write_key_parks_names_the_setting_and_sends_nothing() -> None:
    async with serve() as vendor:
        scene = Scene(encharge(vendor.url, write_key=Secret(file="/nowhere")))
        scene.key = None
        async with scene.running():
            scene.spool.put([b"{}"], traits=[Trait(0, (1,))])
            await until(lambda: scene.state == "parked")
            assert "destinations.en.write_key" in scene.flusher.status().reason
            scene.flusher.resume()
            for _ in range(50):
                await asyncio.sleep(0)
            assert scene.state == "parked"
            assert vendor.bodies == []
            scene.key = "found"
            scene.flusher.secret_changed()
            await until(lambda: scene.spool.queued == 0)


async def test_a_refused_event_is_a_readable_dead_letter_before_it_is_acked() -> None:
    async with serve() as vendor:

        async def pick(_request: web.Request, body: bytes) -> web.Response:
            return web.Response(status=400 if b"bad" in body else 200, text="bad is not allowed")

        vendor.handler = pick
        async with Scene(telemetrydeck(vendor.url)).running() as scene:
            scene.dead.trouble = DiskTrouble(operation="write", path="dead", reason="no space")
            scene.spool.put([b'{"n":1}', b'{"bad":2}', b'{"n":3}'], key=KEY)
            await until(lambda: len(scene.spool.ended(Outcome.DELIVERED)) == 2)
            assert scene.spool.ended(Outcome.DIED) == []
            scene.dead.trouble = None
            scene.flusher._effects.undertaker._retry_s = 0.0
            await scene.flusher._effects.undertaker._bury_some()
    letter = scene.dead.letters[0]
    assert (letter.sequence, letter.event, letter.reason, letter.status) == (2, b'{"bad":2}', "refused", 400)
    assert letter.answer == "bad is not allowed"
    assert scene.spool.ended(Outcome.DIED) == [2]
    assert scene.metrics.died.at("td", "refused").value == 1
    assert scene.metrics.splits.at("td").value == 2


async def test_a_dead_letter_of_a_joined_frame_keeps_its_own_time_of_acceptance() -> None:
    async with serve() as vendor:
        vendor.status = 400
        scene = Scene(telemetrydeck(vendor.url))
        now = int(scene.clock.wall())
        scene.spool.put([b'{"n":1}', b'{"n":2}'], key=KEY)
        scene.spool.frames[0].stamps = (range(1, 3), [(now - 2) * 10**9, (now - 1) * 10**9])
        async with scene.running():
            await until(lambda: len(scene.dead.letters) == 2)
    assert {letter.sequence: letter.accepted_at for letter in scene.dead.letters} == {1: now - 2.0, 2: now - 1.0}


async def test_what_a_crashed_flusher_gave_back_is_leased_by_the_next_one() -> None:
    async with serve() as vendor:
        scene = Scene(telemetrydeck(vendor.url))
        scene.spool.put([b"{}"] * 3, key=KEY)
        scene.spool.release(await scene.spool.lease(1 << 20, HoldNothing()))
        async with scene.running():
            await until(lambda: scene.spool.queued == 0)


async def test_a_backlog_larger_than_the_window_is_leased_as_fast_as_it_is_delivered() -> None:
    """If a result did not call for a lease, each of seven windows would wait for the turn every five seconds."""
    async with serve() as vendor:
        scene = Scene(telemetrydeck(vendor.url))
        for _ in range(32):
            scene.spool.put([b'"%s"' % (b"x" * 10_000)] * 100, key=KEY)
        async with scene.running():
            await until(lambda: scene.spool.queued == 0)
    assert sum(map(len, vendor.bodies)) > 32_000_000


async def test_the_events_of_one_person_follow_each_other_as_fast_as_they_are_delivered() -> None:
    """If a person let go did not call for a lease, each of eight lines would wait for the turn every five seconds."""
    async with serve() as vendor:
        scene = Scene(encharge(vendor.url))
        scene.spool.put([b'{"n":%d}' % n for n in range(600)], traits=[Trait(0, (1,))] * 600)
        async with scene.running():
            await until(lambda: scene.spool.queued == 0)
    assert vendor.bodies == [b'{"n":%d}' % n for n in range(600)]


async def test_an_episode_of_expiries_is_logged_once_when_it_begins_and_once_with_its_total() -> None:
    async with serve() as vendor:
        with capture_logs() as lines:
            async with Scene(telemetrydeck(vendor.url)).running() as scene:
                for _ in range(3):
                    scene.spool.put([b"{}"] * 3, key=KEY, accepted_at=scene.clock.wall() - 8 * 86400.0)
                    await until(lambda: scene.spool.queued == 0)
        assert [line["events"] for line in lines if line["event"] == "events_expiring"] == [3]
        assert [line["events"] for line in lines if line["event"] == "events_expired"] == [9]


async def test_expired_events_are_dropped_or_buried_as_configured() -> None:
    async with serve() as vendor:
        old = 8 * 86400.0
        async with Scene(telemetrydeck(vendor.url)).running() as scene:
            scene.spool.put([b"{}"] * 3, key=KEY, accepted_at=scene.clock.wall() - old)
            await until(lambda: scene.spool.queued == 0)
        assert scene.spool.ended(Outcome.EXPIRED) == [1, 2, 3]
        async with Scene(encharge(vendor.url)).running() as other:
            other.spool.put([b"{}"], traits=[Trait(0, (1,))], accepted_at=other.clock.wall() - old)
            await until(lambda: other.spool.queued == 0)
        assert [letter.reason for letter in other.dead.letters] == ["expired"]
        assert vendor.bodies == []


async def test_late_signals_are_counted() -> None:
    async with serve() as vendor, Scene(telemetrydeck(vendor.url)).running() as scene:
        scene.spool.put([b"{}"] * 3, key=KEY, accepted_at=scene.clock.wall() - 2 * 86400)
        await until(lambda: scene.spool.queued == 0)
        assert scene.metrics.late.at("td").value == 3


async def test_a_drain_sends_partial_batches_without_waiting_for_the_interval() -> None:
    async with serve() as vendor:
        scene = Scene(telemetrydeck(vendor.url, flush=Flush(interval=3600.0)))
        async with scene.running():
            scene.spool.put([b"{}"] * 3, key=KEY)
            await until(lambda: len(scene.spool.leased) == 3)
            assert vendor.bodies == []
        assert vendor.bodies == [b"[{},{},{}]"]
        assert scene.spool.queued == 0
        assert scene.state == "stopped"


async def test_a_drain_does_not_wait_for_a_parked_lane_and_gives_its_leases_back() -> None:
    async with serve() as vendor:
        vendor.status = 401
        scene = Scene(telemetrydeck(vendor.url))
        async with scene.running(drain_s=3600):
            scene.spool.put([b"{}"] * 3, key=KEY)
            await until(lambda: scene.state == "parked")
    assert scene.spool.leased == set()
    assert scene.spool.queued == 3


async def test_the_deadline_cuts_off_what_is_in_flight_and_releases_it() -> None:
    client = ScriptedClient()
    scene = Scene(telemetrydeck("http://127.0.0.1:9"), client=client)
    async with scene.running(drain_s=0.0):
        scene.spool.put([b"{}"] * 3, key=KEY)
        await until(lambda: len(client.open) == 1)
    assert client.open[0][1].cancelled()
    assert client.closed
    assert scene.spool.leased == set()
    assert scene.spool.queued == 3


async def test_p8_a_request_that_has_ended_when_the_deadline_cuts_off_is_not_sent_again() -> None:
    client = ScriptedClient()
    scene = Scene(telemetrydeck("http://127.0.0.1:9"), client=client)
    async with scene.running():
        scene.spool.put([b"{}"] * 3, key=KEY)
        await until(lambda: len(client.open) == 1)
        drained = asyncio.create_task(scene.flusher.drain(scene.clock.monotonic()))
        client.open[0][1].set_result(Answer(200))
        await drained
    assert scene.spool.ended(Outcome.DELIVERED) == [1, 2, 3]
    assert scene.spool.leased == set()


async def test_p8_what_ends_in_one_turn_is_acked_by_one_write_before_anything_else_is_sent() -> None:
    acked_at_sending: list[int] = []

    class Watched(ScriptedClient):
        async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> Result:
            acked_at_sending.append(len(scene.spool.outcomes))
            return await super().post(url, headers, body)

    client = Watched()
    scene = Scene(telemetrydeck("http://127.0.0.1:9", concurrency=3), client=client)
    async with scene.running(drain_s=0.0):
        for _ in range(10):
            scene.spool.put([b"{}"] * 100, key=KEY)
        for requests in (1, 2, 3):
            await until(lambda requests=requests: len(client.open) == requests)  # type: ignore[misc]
            answered, client.open = client.open, []
            for _, answer in answered:
                answer.set_result(Answer(200))
        await until(lambda: len(client.open) == 3)
    assert acked_at_sending == [0, 100, 100, 300, 300, 300, 600, 600, 600]
    assert scene.spool.acks == 3


@pytest.mark.parametrize("flood", [0.0, 1e9])
async def test_in_a_flood_the_next_request_waits_a_little_whatever_turns_the_loop(flood: float) -> None:
    client = ScriptedClient()
    scene = Scene(telemetrydeck("http://127.0.0.1:9", concurrency=1), client=client)
    loop = asyncio.get_running_loop()
    async with scene.running(drain_s=0.0):
        began = loop.time()
        scene.spool.put([b"{}"] * 300, key=KEY)
        await until(lambda: len(client.open) == 1)
        scene.spool.flood = flood
        client.open[0][1].set_result(Answer(200))
        await asyncio.sleep(0)
        scene.flusher.resume()
        if flood:
            await until(lambda: len(client.open) == 2)
            assert loop.time() - began >= LEAST_S - CLOCK_S
        else:
            for _ in range(10):
                await asyncio.sleep(0)
            assert len(client.open) == 2
    assert len(scene.spool.ended(Outcome.DELIVERED)) == 100


async def test_while_a_wave_waits_the_loop_sleeps_though_a_slot_is_free_and_something_due() -> None:
    client = ScriptedClient()
    scene = Scene(telemetrydeck("http://127.0.0.1:9", concurrency=2), client=client)
    async with scene.running(drain_s=0.0):
        scene.spool.put([b"{}"] * 200, key=KEY)
        await until(lambda: len(client.open) == 1)
        client.open[0][1].set_result(Answer(200))
        await until(lambda: len(client.open) == 2)
        scene.spool.flood = 1e9
        scene.clock.ahead -= 0.2  # so the next wave is a fifth of a second away, not milliseconds
        client.open[1][1].set_result(Answer(200))
        await asyncio.sleep(0)
        scene.spool.put([b"{}"], key=KEY, accepted_at=scene.clock.wall() - 60.0)
        asked, began = scene.clock.asked, scene.clock.monotonic()
        await until(lambda: len(client.open) == 3)
        assert scene.clock.monotonic() - began >= 0.2 - CLOCK_S
        assert scene.clock.asked - asked < 100  # a turn a millisecond would be several times as many


@pytest.mark.parametrize("waiting", [0, 100])
async def test_a_result_that_nothing_waits_for_is_settled_in_the_turn_of_the_next_arrivals(waiting: int) -> None:
    client = ScriptedClient()
    scene = Scene(telemetrydeck("http://127.0.0.1:9", concurrency=1, flush=Flush(interval=3600.0)), client=client)
    loop = asyncio.get_running_loop()
    async with scene.running(drain_s=0.0):
        scene.spool.put([b"{}"] * (100 + waiting), key=KEY)
        await until(lambda: len(client.open) == 1 and scene.spool.exhausted)
        leases, arrived = scene.spool.leases, loop.time()
        scene.spool.put([b"{}"], key=KEY)
        client.open[0][1].set_result(Answer(200))
        if waiting:
            for _ in range(10):
                await asyncio.sleep(0)
            assert len(client.open) == 2
            assert scene.spool.leases == leases or loop.time() - arrived >= GATHER_S - CLOCK_S
        else:
            await until(lambda: bool(scene.spool.outcomes))
            assert loop.time() - arrived >= GATHER_S - CLOCK_S
            assert scene.spool.leases == leases + 1


async def test_status_says_why_a_lane_rests_in_a_flood() -> None:
    async with Scene(telemetrydeck("http://127.0.0.1:9")).running() as scene:
        said = [report.words(scene.flusher.status(), now=0.0)]
        scene.spool.flood = 1e9
        said.append(report.words(scene.flusher.status(), now=0.0))
    assert said == ["flowing", "flowing slowly: in a flood the door goes first"]


async def test_a_result_that_cannot_be_settled_ends_the_run_and_costs_the_others_nothing() -> None:
    client = ScriptedClient()
    scene = Scene(telemetrydeck("http://127.0.0.1:9", concurrency=3), client=client)

    async def run() -> None:
        async with scene.running():
            scene.spool.put([b"{}"] * 1000, key=KEY)
            for requests in (1, 2, 3):
                await until(lambda: len(client.open) == requests)  # noqa: B023 - awaited here
                answered, client.open = client.open, []
                for number, (_, answer) in enumerate(answered):
                    answer.set_result(Answer(200) if requests < 3 or number else None)  # type: ignore[arg-type]
            await until(lambda: scene.task is not None and scene.task.done())

    with pytest.raises(ExceptionGroup) as raised:
        await run()
    assert raised.group_contains(AttributeError)
    assert len(scene.spool.ended(Outcome.DELIVERED)) == 500
    assert scene.spool.leased == set()


async def test_finish_lets_requests_in_flight_end_and_begins_no_more() -> None:
    client = ScriptedClient()
    scene = Scene(telemetrydeck("http://127.0.0.1:9"), client=client)
    async with scene.running():
        scene.spool.put([b"{}"] * 300, key=KEY)
        await until(lambda: len(client.open) == 1)
        finished = asyncio.create_task(scene.flusher.finish(scene.clock.monotonic() + 60))
        await asyncio.sleep(0)
        client.open[0][1].set_result(Answer(200))
        await finished
    assert len(client.open) == 1
    assert scene.spool.ended(Outcome.DELIVERED) == list(range(1, 101))
    assert scene.spool.leased == set()


async def test_requests_in_flight_are_bounded_by_the_slow_start() -> None:
    client = ScriptedClient()
    scene = Scene(telemetrydeck("http://127.0.0.1:9", concurrency=3), client=client)
    async with scene.running(drain_s=0.0):
        for _ in range(20):
            scene.spool.put([b"{}"] * 100, key=KEY)
        widths = []
        for expected in (1, 2, 3, 3):
            await until(lambda expected=expected: scene.flusher.status().in_flight == expected)  # type: ignore[misc]
            for _ in range(20):
                await asyncio.sleep(0)
            widths.append(scene.flusher.status().in_flight)
            for _, answer in client.open:
                answer.set_result(Answer(200))
            client.open.clear()
    assert widths == [1, 2, 3, 3]


async def test_cancelling_run_gives_the_leases_back() -> None:
    client = ScriptedClient()
    scene = Scene(telemetrydeck("http://127.0.0.1:9"), client=client)
    task = asyncio.create_task(scene.flusher.run())
    scene.spool.put([b"{}"] * 3, key=KEY)
    await until(lambda: len(client.open) == 1)
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    assert scene.spool.leased == set()


async def test_a_reload_keeps_the_leases_and_goes_to_the_new_address() -> None:
    async with serve() as old, serve() as new:
        old.status = 401
        scene = Scene(telemetrydeck(old.url))
        async with scene.running():
            scene.spool.put([b"{}"] * 3, key=KEY)
            await until(lambda: scene.state == "parked")
            leased = set(scene.spool.leased)
            scene.flusher.reconfigure(telemetrydeck(new.url))
            assert scene.spool.leased == leased
            await until(lambda: scene.spool.queued == 0)
    assert scene.spool.acked_twice == []
    assert len(old.bodies) == 1


async def test_an_ack_that_cannot_be_written_is_made_later() -> None:
    async with serve() as vendor:
        scene = Scene(telemetrydeck(vendor.url))
        async with scene.running():
            scene.spool.ack_trouble = DiskTrouble(operation="write", path="acks", reason="no space")
            scene.spool.put([b"{}"], key=KEY)
            await until(lambda: bool(vendor.bodies) and scene.flusher.status().in_flight == 0)
            scene.spool.ack_trouble = None
            scene.clock.ahead = 6.0
            scene.flusher.resume()
            await until(lambda: scene.spool.ended(Outcome.DELIVERED) == [1])
        assert len(vendor.bodies) == 1


async def test_a_dry_run_leases_and_sends_nothing_and_says_so() -> None:
    scene = Scene(telemetrydeck("http://127.0.0.1:9"), dry_run=True)
    async with scene.running():
        scene.spool.put([b"{}"], key=KEY)
        await until(lambda: scene.state == "stopped")
        assert scene.flusher.status().reason.startswith("dry run")
    assert scene.spool.leases == 0
    assert scene.spool.queued == 1


async def test_status_is_plain_data() -> None:
    async with serve() as vendor, Scene(telemetrydeck(vendor.url)).running() as scene:
        scene.spool.put([b"{}"] * 10, key=KEY)
        await until(lambda: scene.spool.queued == 0)
        status = msgspec.to_builtins(scene.flusher.status())
    assert status["state"] == "flowing"
    assert status["reason"] == ""
    assert status["delivered_per_second"] == 2.0
    assert status["parked_keys"] == {}


async def test_what_expires_in_the_spool_behind_a_parked_key_becomes_a_dead_letter() -> None:
    async with serve() as vendor:

        async def pick(_request: web.Request, body: bytes) -> web.Response:
            return web.Response(status=404 if b"gone" in body else 200)

        vendor.handler = pick
        scene = Scene(telemetrydeck(vendor.url, max_age=3600.0))
        async with scene.running():
            scene.spool.put([b'{"gone":1}'] * 100, key=b"/v2/\0gone")
            scene.spool.put([b"{}"], key=KEY)
            await until(lambda: bool(scene.flusher.status().parked_keys))
            scene.spool.put([b'{"gone":2}'] * 500, key=b"/v2/\0gone")  # passed over by every lease
            scene.spool.put([b"{}"], key=KEY)
            await until(lambda: len(scene.spool.ended(Outcome.DELIVERED)) == 2)
            scene.clock.ahead = 3700.0
            scene.flusher._wake.set()
            await until(lambda: len(scene.spool.ended(Outcome.DIED)) == 600)
        assert scene.spool.ended(Outcome.EXPIRED) == []
        assert {letter.reason for letter in scene.dead.letters} == {"expired"}


async def test_p10_the_senders_bytes_go_out_untouched() -> None:
    events = [b'{ "a" :\t1.0e+01 , "\\u0061":"\xc3\xa9" }', b'{"a":1,"a":2}', b'{"n":12345678901234567890.10}']
    async with serve() as vendor:
        async with Scene(telemetrydeck(vendor.url)).running() as scene:
            scene.spool.put(events, key=KEY)
            await until(lambda: scene.spool.queued == 0)
        async with Scene(encharge(vendor.url)).running() as other:
            other.spool.put(events, traits=[Trait(0, (1,))] * 3)
            await until(lambda: other.spool.queued == 0)
    assert vendor.bodies == [b"[" + b",".join(events) + b"]", *events]


async def test_a_kept_connection_that_the_vendor_has_closed_costs_no_failure() -> None:
    async with strict(key=None, require_received_at=False) as vendor, HostileProxy(vendor.port) as proxy:
        proxy.mode = Mode.CLOSE_AFTER_ANSWER
        async with Scene(telemetrydeck(proxy.url, flush=Flush(interval=0.0))).running() as scene:
            for n in range(50):
                scene.spool.put([b'{"appID":"a","clientUser":"c","type":"t"}'] * 3, key=KEY)
                await until(lambda n=n: len(scene.spool.ended(Outcome.DELIVERED)) == 3 * (n + 1))  # type: ignore[misc]
        assert scene.metrics.requests.at("td", "200").value == 50
        assert scene.metrics.ambiguous.at("td").value == 0
