import asyncio
import json
import os
import stat
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from forwarder.errors import DiskTrouble
from forwarder.spool.person import Person
from forwarder.spool.samples import MAX_BYTES, MAX_LISTENERS, MAX_SAMPLES, PER_CALL, PER_SECOND, RefusedSamples
from forwarder.vendors.base import Refusal
from tests.support.hand_clock import HandClock

LABEL = "http:127.0.0.1:8765"
FILE = "http_127.0.0.1_8765.ndjson"
JANE = Person("email", "jane@example.com")
OF_JANE = b'{"email":"jane@example.com"}'


class OneHeld(ThreadPoolExecutor):
    """Holds its first job back until `let_go`; does those after it at once, on the caller's thread."""

    def __init__(self) -> None:
        super().__init__(1)
        self._gate = threading.Event()
        self._held = False

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        if not self._held:
            self._held = True
            return super().submit(self._later, fn, *args, **kwargs)
        future: Future[Any] = Future()
        future.set_result(fn(*args, **kwargs))
        return future

    def _later(self, fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        self._gate.wait()
        return fn(*args, **kwargs)

    def let_go(self) -> None:
        self._gate.set()


async def turns() -> None:
    """Let every task go as far as it can without the held job."""
    for _ in range(50):
        await asyncio.sleep(0)


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


async def test_a_disk_that_does_not_answer_holds_up_no_request(tmp_path: Path) -> None:
    before = RefusedSamples(tmp_path, HandClock())
    before(LABEL, [refusal(1)])
    await before.write()
    file = tmp_path / FILE
    content = file.read_bytes()
    file.unlink()
    os.mkfifo(file)  # whoever opens it waits until it is opened for writing too
    after = RefusedSamples(tmp_path, HandClock())
    after(LABEL, [refusal(1), refusal(2)])
    writing = asyncio.create_task(after.write())
    await asyncio.to_thread(file.write_bytes, content)
    await writing
    assert [(one["index"], one["times"]) for one in stored(tmp_path)] == [(1, 2), (2, 1)]


async def test_an_older_content_never_takes_the_place_of_a_newer_one(tmp_path: Path) -> None:
    samples = RefusedSamples(tmp_path, HandClock())
    samples(LABEL, [refusal(1)])
    await samples.write()
    samples(LABEL, [refusal(2)])
    with OneHeld() as disk:
        asyncio.get_running_loop().set_default_executor(disk)
        first = asyncio.create_task(samples.write())
        await turns()
        first.cancel()
        samples(LABEL, [refusal(3)])
        second = asyncio.create_task(samples.write())
        await turns()
        disk.let_go()
        await second
    assert first.cancelled()
    assert [one["index"] for one in stored(tmp_path)] == [1, 2, 3]


async def test_a_write_under_way_does_not_bring_back_whom_an_erasure_removed(tmp_path: Path) -> None:
    samples = RefusedSamples(tmp_path, HandClock())
    samples(LABEL, [refusal(1, sample=OF_JANE)])
    await samples.write()
    samples(LABEL, [refusal(2)])
    with OneHeld() as disk:
        asyncio.get_running_loop().set_default_executor(disk)
        writing = asyncio.create_task(samples.write())
        await turns()
        erasing = asyncio.create_task(samples.erase(JANE, dry_run=False))
        await turns()
        disk.let_go()
        assert await erasing == 1
        await writing
    assert [one["index"] for one in stored(tmp_path)] == [2]


async def test_an_erasure_finds_whom_an_earlier_process_kept_and_whom_this_one_has_just_noted(tmp_path: Path) -> None:
    before = RefusedSamples(tmp_path, HandClock())
    for label in (LABEL, "unix:/run/gone.sock"):
        before(label, [refusal(1, sample=OF_JANE), refusal(2)])
    await before.write()
    after = RefusedSamples(tmp_path, HandClock())
    after(LABEL, [refusal(3), refusal(4, sample=b"of jane@example.com too")])
    assert await after.erase(JANE, dry_run=True) == 3
    assert OF_JANE.decode() in [one["sample"] for one in stored(tmp_path)]
    assert await after.erase(JANE, dry_run=False) == 3
    assert [one["index"] for one in stored(tmp_path)] == [2, 3]
    assert [one["index"] for one in stored(tmp_path, "unix_run_gone.sock.ndjson")] == [2]


async def test_an_erasure_that_the_disk_refused_is_made_good_by_the_next(tmp_path: Path) -> None:
    samples = RefusedSamples(tmp_path, HandClock())
    samples(LABEL, [refusal(1, sample=OF_JANE), refusal(2)])
    await samples.write()
    file = tmp_path / FILE
    kept = file.rename(tmp_path / "kept")
    file.mkdir()  # nothing can take its place
    with pytest.raises(DiskTrouble):
        await samples.erase(JANE, dry_run=False)
    file.rmdir()
    kept.rename(file)
    await samples.erase(JANE, dry_run=False)
    assert [one["index"] for one in stored(tmp_path)] == [2]


async def test_an_erasure_does_not_pass_over_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    tmp_path.joinpath(FILE).symlink_to(FILE)
    with pytest.raises(DiskTrouble):
        await RefusedSamples(tmp_path, HandClock()).erase(JANE, dry_run=True)


async def test_an_erasure_removes_lines_that_cannot_be_read(tmp_path: Path) -> None:
    samples = RefusedSamples(tmp_path, HandClock())
    samples(LABEL, [refusal(2)])
    await samples.write()
    file = tmp_path / FILE
    file.write_bytes(file.read_bytes() + b'{"sample":"' + OF_JANE)
    assert await RefusedSamples(tmp_path, HandClock()).erase(JANE, dry_run=False) == 0
    assert [one["index"] for one in stored(tmp_path)] == [2]


async def test_an_erasure_removes_what_a_killed_process_had_half_written(tmp_path: Path) -> None:
    half = tmp_path / f".{FILE}.new"
    half.write_bytes(OF_JANE)
    samples = RefusedSamples(tmp_path, HandClock())
    assert await samples.erase(JANE, dry_run=True) == 0
    assert half.exists()
    await samples.erase(JANE, dry_run=False)
    assert not half.exists()


async def test_what_was_read_or_could_not_be_read_once_is_not_read_again(tmp_path: Path) -> None:
    tmp_path.joinpath(FILE).symlink_to(FILE)
    samples = RefusedSamples(tmp_path, HandClock())
    for times in (1, 2, 3):
        samples(LABEL, [refusal(1)])
        await samples.write()
        assert [one["times"] for one in stored(tmp_path)] == [times]


async def test_an_erasure_is_finished_when_nobody_waits_for_it_any_more(tmp_path: Path) -> None:
    samples = RefusedSamples(tmp_path, HandClock())
    samples(LABEL, [refusal(1, sample=OF_JANE), refusal(2)])
    await samples.write()
    with OneHeld() as disk:
        asyncio.get_running_loop().set_default_executor(disk)
        erasing = asyncio.create_task(samples.erase(JANE, dry_run=False))
        await turns()
        erasing.cancel()
        writing = asyncio.create_task(samples.write())
        await turns()
        disk.let_go()
        await writing
    assert erasing.cancelled()
    assert [one["index"] for one in stored(tmp_path)] == [2]
