"""What the HTTP door answers, counts and keeps."""

import pytest

from forwarder.core.seams import Busy, Durability
from tests.sources.harness import Open
from tests.support.fake_intake import FakeRouter
from tests.support.raw_http import RawClient, post

TWO_OF_THREE = b'[{"ok":1},{"no":2},{"ok":3}]'


def with_query(query: bytes, body: bytes = b'{"ok":1}', headers: bytes = b"") -> bytes:
    return post(body, headers).replace(b"/v2/", b"/v2/?" + query)


async def test_nothing_is_answered_before_the_commit(door: Open) -> None:
    setup = await door(prompt=False)
    async with await setup.client() as client:
        await client.say(post())
        await setup.submitted(1)
        await client.say(post(b'{"ok":2}') + post(b"nonsense"))
        await setup.submitted(2)
        assert not client.reader._buffer  # type: ignore[attr-defined]
        setup.intake.commit(1)
        assert (await client.hear()).status == 200
        setup.intake.commit(1)
        assert [(await client.hear()).status for _ in range(2)] == [200, 400]


async def test_answers_keep_the_order_of_requests_when_commits_do_not(door: Open) -> None:
    setup = await door(prompt=False)
    async with await setup.client() as client:
        await client.say(post(b'[{"ok":1}]'))
        await setup.submitted(1)
        await client.say(post(b'[{"ok":1},{"ok":2}]') + post(b"[]"))
        await setup.submitted(3)
        setup.intake.waiting.reverse()
        setup.intake.commit()
        assert [(await client.hear()).json["accepted"] for _ in range(3)] == [1, 2, 0]


async def test_the_common_answer_in_full(door: Open) -> None:
    setup = await door()
    async with await setup.client() as client:
        await client.say(post(headers=b"Connection: close\r\n"))
        answer = await client.rest()
    assert answer == (
        b"HTTP/1.1 200 OK\r\nDate: Thu, 28 May 2026 20:26:40 GMT\r\nContent-Type: application/json\r\n"
        b'Content-Length: 14\r\nConnection: close\r\nForwarder-Ack: fsync\r\n\r\n{"accepted":1}'
    )


async def test_valid_events_are_taken_and_invalid_ones_named(door: Open) -> None:
    setup = await door()
    async with await setup.client() as client:
        answer = await client.ask(post(TWO_OF_THREE))
    assert answer.status == 200
    assert answer.headers["forwarder-refused"] == "1"
    assert answer.json == {"accepted": 2, "refused": [{"index": 1, "error": "ok is missing"}]}
    assert setup.metrics.received.at("test").value == 3
    assert setup.refused("missing_field") == 1
    assert [(label, [each.index for each in refused]) for label, refused in setup.samples] == [("test", [1])]


async def test_100_continue_is_not_said_before_earlier_answers(door: Open) -> None:
    setup = await door(prompt=False)
    request = post(b'{"ok":2}', b"Expect: 100-continue\r\n")
    async with await setup.client() as client:
        await client.say(post() + request[:-8])
        await setup.submitted(1)
        for _ in range(50):
            await client.say(b"")
        assert not client.reader._buffer  # type: ignore[attr-defined]
        setup.intake.commit()
        assert [(await client.hear()).status for _ in range(2)] == [200, 100]
        await client.say(request[-8:])
        await setup.submitted(2)
        setup.intake.commit()
        assert (await client.hear()).status == 200


async def test_strict_takes_all_or_nothing(door: Open) -> None:
    setup = await door()
    async with await setup.client() as client:
        answer = await client.ask(with_query(b"strict=1", TWO_OF_THREE))
        assert (answer.status, answer.json["accepted"]) == (400, 0)
        assert answer.headers["forwarder-refused"] == "1"
        assert setup.intake.events == []
        assert (await client.ask(with_query(b"strict", b'[{"ok":1}]'))).status == 200
    assert (setup.refused("strict"), setup.refused("missing_field")) == (2, 1)
    assert setup.metrics.received.at("test").value == 4


async def test_a_long_list_of_refusals_is_counted_in_full_and_shown_in_part(door: Open) -> None:
    setup = await door()
    async with await setup.client() as client:
        answer = await client.ask(post(b"[" + b",".join([b"1"] * 1500) + b"]"))
    assert answer.headers["forwarder-refused"] == "1500"
    refused = answer.json["refused"]
    assert isinstance(refused, list)
    assert len(refused) == 1000


async def test_a_full_spool_is_503_with_retry_after(door: Open) -> None:
    setup = await door()
    setup.intake.busy = Busy("telemetrydeck", "max_size", "spool telemetrydeck is full", 7)
    async with await setup.client() as client:
        answer = await client.ask(post())
    assert (answer.status, answer.headers["retry-after"]) == (503, "7")
    assert answer.json == {"error": "spool telemetrydeck is full"}
    assert setup.refused("max_size") == 1


async def test_a_failed_commit_is_503(door: Open) -> None:
    setup = await door(prompt=False)
    async with await setup.client() as client:
        await client.say(post())
        await setup.submitted(1)
        setup.intake.fail()
        answer = await client.hear()
    assert (answer.status, answer.json) == (503, {"error": "the disk failed"})
    assert "retry-after" in answer.headers
    assert setup.refused("commit_failed") == 1


@pytest.mark.parametrize(("configured", "asked", "lower", "granted"), [
    (Durability.FSYNC, b"", False, "fsync"),
    (Durability.WRITTEN, b"", False, "written"),
    (Durability.MEMORY, b"fsync", False, "fsync"),
    (Durability.FSYNC, b"memory", False, "fsync"),
    (Durability.FSYNC, b"memory", True, "memory"),
    (Durability.FSYNC, b"WRITTEN", True, "written"),
])  # fmt: skip
async def test_a_request_may_raise_its_durability_and_lower_it_if_allowed(
    door: Open, configured: Durability, asked: bytes, granted: str, *, lower: bool
) -> None:
    setup = await door(durability=configured, allow_lower_ack=lower)
    async with await setup.client() as client:
        for request in (with_query(b"ack=" + asked), post(headers=b"Forwarder-Ack: %s\r\n" % asked)):
            assert (await client.ask(request)).headers["forwarder-ack"] == granted


async def test_delivered_waits_for_the_vendor(door: Open) -> None:
    setup = await door(prompt=False)
    async with await setup.client() as client:
        await client.say(with_query(b"ack=delivered"))
        await setup.submitted(1)
        setup.intake.commit()
        assert setup.door.inflight.held == 0
        setup.intake.deliver()
        assert (await client.hear()).headers["forwarder-ack"] == "delivered"


@pytest.mark.parametrize("ending", ["timeout", "died"])
async def test_delivered_that_does_not_come_is_a_success_with_the_level_reached(door: Open, ending: str) -> None:
    setup = await door()
    async with await setup.client() as client:
        await client.say(with_query(b"ack=delivered&timeout=" + (b"0.01" if ending == "timeout" else b"300")))
        if ending == "died":
            await setup.submitted(1)
            setup.intake.deliver(failed=True)
        answer = await client.hear()
        assert (answer.status, answer.headers["forwarder-ack"]) == (200, "fsync")
        setup.intake.deliver()  # too late, and harmless
        assert (await client.ask(post())).status == 200


async def test_delivered_that_times_out_before_the_commit_is_answered_at_the_commit(door: Open) -> None:
    setup = await door(prompt=False)
    async with await setup.client() as client:
        await client.say(with_query(b"ack=delivered&timeout=0"))
        await setup.submitted(1)
        await client.say(b"\r\n")
        setup.intake.commit()
        assert (await client.hear()).headers["forwarder-ack"] == "fsync"


async def test_the_presented_key_and_the_stamp_reach_the_vendor(door: Open) -> None:
    setup = await door()
    request = post(headers=b"X-Encharge-Token: other\r\n").replace(b"/v2/", b"/v1")
    async with await setup.client() as client:
        for _ in range(2):
            assert (await client.ask(request)).status == 200
    assert setup.router.encharge.keys == [b"other", b"other"]
    assert setup.router.encharge.stamps == [b"2026-05-28T20:26:40.000Z"] * 2
    assert setup.metrics.key_mismatch.at().value == 2


async def test_our_own_query_fields_are_not_the_vendors(door: Open) -> None:
    setup = await door()
    async with await setup.client() as client:
        request = post().replace(b"/v2/", b"/events?api=v3&ack=fsync&strict=1&timeout=1&x=%20y")
        assert (await client.ask(request)).status == 202
    assert setup.router.asked == [("/events", {"api": "v3", "x": " y"})]


async def test_warnings_are_counted_by_rule(door: Open) -> None:
    setup = await door()
    async with await setup.client() as client:
        await client.ask(post(b'{"ok":1,"nested":{}}'))
    assert setup.metrics.warnings.at("nested").value == 1


async def test_errors_name_what_to_do_and_carry_allow(door: Open) -> None:
    setup = await door()
    async with await setup.client() as client:
        answer = await client.ask(b"GET /v2/ HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert (answer.status, answer.headers["allow"]) == (405, "POST, OPTIONS")
        answer = await client.ask(post().replace(b"/v2/", b"/nope"))
        assert "/v2/, /v1, /events" in str(answer.json["error"])
        answer = await client.ask(post(headers=b"Content-Encoding: br\r\n"))
        assert answer.headers["accept-encoding"] == "gzip, deflate"
        answer = await client.ask(b"TRACE / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert (answer.status, answer.headers["allow"]) == (405, "GET, HEAD, POST, OPTIONS")
    assert [setup.refused(reason) for reason in ("method", "unknown_path", "content_encoding")] == [2, 1, 1]


async def test_head_is_answered_like_get_without_the_body(door: Open) -> None:
    setup = await door()
    async with await setup.client() as client:
        await client.say(b"HEAD / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        answer = await client.hear(bodiless=True)
        assert (answer.status, answer.headers["content-length"] != "0") == (200, True)
        await client.say(b"HEAD /v2/ HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert (await client.hear(bodiless=True)).status == 405
        assert (await client.ask(post())).status == 200


async def test_http_1_0_keep_alive_is_confirmed(door: Open) -> None:
    setup = await door()
    async with await setup.client() as client:
        request = b'POST /v2/ HTTP/1.0\r\nConnection: keep-alive\r\nContent-Length: 8\r\n\r\n{"ok":1}'
        assert (await client.ask(request)).headers["connection"] == "keep-alive"


async def test_a_reload_changes_router_and_settings_under_an_open_connection(door: Open) -> None:
    setup = await door()
    async with await setup.client() as client:
        for _ in range(2):
            assert (await client.ask(post())).status == 200
        changed = FakeRouter()
        changed.telemetrydeck.success_status = 202
        rules = setup.door.rules
        setup.door.configure(router=changed, settings=rules.settings, durability=Durability.WRITTEN)
        answer = await client.ask(post())
        assert (answer.status, answer.headers["forwarder-ack"]) == (202, "written")


async def test_status_shows_the_listener(door: Open) -> None:
    setup = await door()
    client: RawClient
    async with await setup.client() as client:
        await client.ask(post())
        status = setup.listener.status()
        assert (status.label, status.kind, status.accepting, status.connections) == ("test", "http", True, 1)
    assert sum(setup.metrics.accept_duration.at().counts) == 1
