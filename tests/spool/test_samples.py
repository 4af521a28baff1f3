import asyncio
import json
import stat
from pathlib import Path
from typing import Any

import pytest

from forwarder.spool.samples import MAX_BYTES, MAX_LISTENERS, MAX_SAMPLES, PER_CALL, PER_SECOND, RefusedSamples
from forwarder.vendors.base import Refusal
from tests.support.hand_clock import HandClock

LABEL = "http:127.0.0.1:8765"
FILE = "http_127.0.0.1_8765.ndjson"


def refusal(number: int = 0, *, sample: bytes | None = None) -> Refusal:
    body = b'{"n":%d}' % number if sample is None else sample
    return Refusal(index=number, error="type: missing", reason="missing_field", sample=body)


def stored(directory: Path, name: str = FILE) -> list[dict[str, Any]]:
    return [json.loads(line) for line in directory.joinpath(name).read_text().splitlines()]


async def test_a_refused_event_is_kept_with_the_reason(tmp_path: Path) -> None:
    samples = RefusedSamples(tmp_path, HandClock(1_780_000_000.0))
    samples(LABEL, [refusal(3)])
    await samples.write()
    assert stored(tmp_path) == [
        {
            "first_at": "2026-05-28T20:26:40.000Z",
            "last_at": "2026-05-28T20:26:40.000Z",
            "times": 1,
            "index": 3,
            "reason": "missing_field",
            "error": "type: missing",
            "sample": '{"n":3}',
        }
    ]
    assert stat.S_IMODE(tmp_path.joinpath(FILE).stat().st_mode) == 0o600


async def test_a_client_that_resends_for_ever_raises_one_count(tmp_path: Path) -> None:
    clock = HandClock()
    samples = RefusedSamples(tmp_path, clock)
    for _ in range(5000):
        clock.advance(0.001)
        samples(LABEL, [refusal(1)])
    await samples.write()
    (only,) = stored(tmp_path)
    assert only["times"] == 5000
    assert only["last_at"] > only["first_at"]


async def test_ever_different_events_are_taken_at_a_bounded_rate(tmp_path: Path) -> None:
    samples = RefusedSamples(tmp_path, HandClock())
    for number in range(1000):
        samples(LABEL, [refusal(number)])
    await samples.write()
    assert len(stored(tmp_path)) == PER_SECOND


async def test_only_the_first_refusals_of_a_request_are_looked_at(tmp_path: Path) -> None:
    samples = RefusedSamples(tmp_path, HandClock())
    samples(LABEL, [refusal(n) for n in range(10_000)])
    await samples.write()
    assert [one["index"] for one in stored(tmp_path)] == list(range(PER_CALL))


@pytest.mark.parametrize("body", [b"x" * 5000, b"\xff" * 5000, b'"' * 5000])
async def test_the_ring_keeps_the_newest_within_count_and_bytes(tmp_path: Path, body: bytes) -> None:
    clock = HandClock()
    samples = RefusedSamples(tmp_path, clock)
    for number in range(400):
        clock.advance(1)
        samples(LABEL, [refusal(number, sample=b"%d" % number + body)])
    await samples.write()
    kept = stored(tmp_path)
    assert tmp_path.joinpath(FILE).stat().st_size <= MAX_BYTES * 1.1
    assert 1 < len(kept) <= MAX_SAMPLES
    assert [one["index"] for one in kept] == list(range(400 - len(kept), 400))


async def test_a_restart_keeps_the_samples(tmp_path: Path) -> None:
    before = RefusedSamples(tmp_path, HandClock())
    before(LABEL, [refusal(1)])
    await before.write()
    tmp_path.joinpath(FILE).write_bytes(tmp_path.joinpath(FILE).read_bytes() + b'{"torn')
    after = RefusedSamples(tmp_path, HandClock())
    after(LABEL, [refusal(1), refusal(2)])
    await after.write()
    assert [(one["index"], one["times"]) for one in stored(tmp_path)] == [(1, 2), (2, 1)]


async def test_listeners_are_kept_apart_and_their_number_is_bounded(tmp_path: Path) -> None:
    written = tmp_path.glob  # listed after the write
    samples = RefusedSamples(tmp_path, HandClock())
    for number in range(MAX_LISTENERS + 5):
        samples(f"unix:/run/{number}.sock", [refusal()])
    await samples.write()
    assert len(list(written("*.ndjson"))) == MAX_LISTENERS
    assert tmp_path.joinpath("unix_run_0.sock.ndjson").exists()


async def test_running_writes_soon_and_once_more_at_the_end(tmp_path: Path) -> None:
    samples = RefusedSamples(tmp_path, HandClock(), write_gap_s=3600)
    task = asyncio.ensure_future(samples.run())
    samples(LABEL, [refusal(1)])
    async with asyncio.timeout(10):
        while not tmp_path.joinpath(FILE).exists():  # noqa: ASYNC110 (a file appears; nothing signals it)
            await asyncio.sleep(0.001)
    samples(LABEL, [refusal(2)])
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert [one["index"] for one in stored(tmp_path)] == [1, 2]


async def test_a_failing_disk_costs_nothing_but_the_samples(tmp_path: Path) -> None:
    directory = tmp_path / "refused"
    directory.write_text("a file where a directory should be")
    samples = RefusedSamples(directory, HandClock())
    samples(LABEL, [refusal()])
    await samples.write()
    directory.unlink()
    directory.mkdir()
    samples(LABEL, [refusal()])
    await samples.write()
    assert len(stored(directory)) == 1
