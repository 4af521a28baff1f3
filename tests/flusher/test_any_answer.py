"""No answer of a vendor can make the lane end, spin, or lose an event: real lane, real client, real sockets."""

import asyncio
import math
import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from forwarder.config.model import Destination, Retry
from forwarder.core.seams import Outcome, Trait
from tests.flusher.harness import KEY, Scene, encharge, telemetrydeck
from tests.flusher.raw_vendor import ANSWERS, GOOD, Bytes, raw_vendor, scripted

EVENTS = 4
TIMEOUT_S = 0.15
LONG_S = 0.3
PATIENCE_S = 60.0
SPLITS = 2 * EVENTS * math.ceil(math.log2(EVENTS)) + 1
ACCEPTED = re.compile(rb"HTTP/\d\.\d +2\d\d")
"""A status line that says so, whatever version it claims: the status decides."""
FUZZ = settings(deadline=None, suppress_health_check=list(HealthCheck))
KINDS = ["telemetrydeck", "encharge"]


def destination(kind: str, url: str, **changes: object) -> Destination:
    make = telemetrydeck if kind == "telemetrydeck" else encharge
    return make(url, **{"timeout": TIMEOUT_S, "retry": Retry(initial=0.002, max=0.01), **changes})


def event(number: int) -> bytes:
    return b'{"event":%d}' % number


def fill(scene: Scene, kind: str, count: int = EVENTS) -> None:
    events = [event(n) for n in range(1, count + 1)]
    traits = [Trait(0, (n,)) for n in range(1, count + 1)] if kind == "encharge" else None
    scene.spool.put(events, key=KEY if kind == "telemetrydeck" else b"", traits=traits)


async def until_ended(scene: Scene) -> None:
    """Wait until every event has ended; what waits for long (parked, Retry-After) is asked to try again."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + PATIENCE_S
    while scene.spool.queued:
        assert scene.task is not None
        assert not scene.task.done(), "the lane must go on whatever comes"
        assert loop.time() < deadline, scene.flusher.status()
        if (at := scene.flusher.status().next_try_at) is not None and at - scene.clock.wall() > LONG_S:
            scene.flusher.resume()
        await asyncio.sleep(0.002)


async def survive(kind: str, script: list[Bytes], **changes: object) -> None:
    async with raw_vendor(scripted(script)) as vendor:
        scene = Scene(destination(kind, vendor.url, **changes))
        async with scene.running():
            fill(scene, kind)
            await until_ended(scene)
    delivered, died = scene.spool.ended(Outcome.DELIVERED), scene.spool.ended(Outcome.DIED)
    assert sorted(delivered + died) == list(range(1, EVENTS + 1)), "each ended once, none without a counter"
    assert scene.spool.acked_twice == []
    assert scene.metrics.delivered.at(scene.spool.destination).value == len(delivered)
    assert sorted(letter.sequence for letter in scene.dead.letters) == died
    for sequence in delivered:
        assert any(map(ACCEPTED.search, vendor.told(event(sequence)))), "nobody accepted it"
    # Each answer of the script costs one request, each request after it ends an event.
    assert len(vendor.log) <= len(script) + EVENTS + 1


@pytest.mark.parametrize("kind", KINDS)
@settings(FUZZ, max_examples=25)
@given(st.lists(ANSWERS, min_size=1, max_size=8))
def test_whatever_is_answered_every_event_ends_once_and_with_a_counter(kind: str, script: list[Bytes]) -> None:
    asyncio.run(survive(kind, script))


@pytest.mark.prove
@pytest.mark.timeout(600)
@pytest.mark.parametrize("kind", KINDS)
@settings(FUZZ, max_examples=120)
@given(st.lists(ANSWERS, min_size=1, max_size=12))
def test_whatever_is_answered_many_times_over(kind: str, script: list[Bytes]) -> None:
    asyncio.run(survive(kind, script))


async def insist(kind: str, answer: Bytes, *, tries: int = 3, at_once: int = 3 + SPLITS) -> None:
    """Let the vendor give one and the same answer for ever; each try may be made `tries` times (redirects)."""
    async with raw_vendor(lambda _body: answer) as vendor:
        scene = Scene(destination(kind, vendor.url, retry=Retry(initial=0.04, max=0.08)))
        async with scene.running(drain_s=0.0):
            fill(scene, kind)
            loop = asyncio.get_running_loop()
            began = loop.time()
            await asyncio.sleep(0.3)
            took, made = loop.time() - began, len(vendor.log)
            # The jitter is fixed at a half: 20 ms, then 40 ms, from try to try.
            assert made <= tries * (2 + took / 0.04) + at_once, f"{made} in {took:.2f} s"
            assert scene.state in ("flowing", "backing_off", "probing", "parked")
    ended = scene.spool.ended(Outcome.DELIVERED) + scene.spool.ended(Outcome.DIED)
    assert len(ended) + scene.spool.queued == EVENTS
    assert scene.spool.leased == set()


@pytest.mark.parametrize("kind", KINDS)
@settings(FUZZ, max_examples=8)
@given(ANSWERS)
def test_one_answer_for_ever_makes_no_busy_loop(kind: str, answer: Bytes) -> None:
    asyncio.run(insist(kind, answer))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "answer",
    [
        Bytes(b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n"),
        Bytes(b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n", "close"),
        Bytes(b"HTTP/1.1 429 No\r\nRetry-After: 0\r\nContent-Length: 0\r\n\r\n"),
        Bytes(b"HTTP/1.1 408 No\r\nRetry-After: -1\r\nContent-Length: 0\r\n\r\n"),
        Bytes(b"HTTP/1.1 999\r\n\r\n", "close"),
        Bytes(b"HTTP/1.1 401 No\r\nRetry-After: 0\r\nContent-Length: 0\r\n\r\n"),
        Bytes(b"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n"),
        Bytes(b"", "close"),
        Bytes(b"", "reset"),
        Bytes(b"220 mail.example ESMTP\r\n", "close"),
    ],
    ids=lambda answer: answer.text[:12].decode() + answer.end,
)
def test_one_failure_for_ever_costs_one_request_a_backoff(kind: str, answer: Bytes) -> None:
    asyncio.run(insist(kind, answer, tries=1, at_once=0))


@pytest.mark.parametrize("kind", KINDS)
def test_an_answer_that_nobody_asked_for_is_not_taken_for_the_next_one(kind: str) -> None:
    no = b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n"
    asyncio.run(survive(kind, [Bytes(no + GOOD * 3)] * 4))
    # Only what comes before the next request is written can be told apart: hence the backoff.
    asyncio.run(survive(kind, [Bytes(no, late=GOOD * 3)] * 3, retry=Retry(initial=0.4, max=0.4)))
