import asyncio
import json
import os
import resource
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from forwarder.config.model import DeadLetterLimits
from forwarder.core.seams import DeadLetter
from forwarder.errors import DiskTrouble
from forwarder.spool import dead_letter_line
from forwarder.spool.dead_letter_match import Match
from forwarder.spool.dead_letters import DiskDeadLetters
from tests.support.hand_clock import HandClock

EVERY = Match()
DIED = 1_780_000_000.0


def letter(
    sequence: int, *, event: bytes = b'{"name":"x"}', reason: str = "refused", died_at: float = DIED
) -> DeadLetter:
    return DeadLetter(
        sequence=sequence,
        event=event,
        batch_key=b"v1",
        reason=reason,
        status=400,
        answer='{"error":"bad"}',
        attempts=2,
        accepted_at=DIED - 5,
        died_at=died_at,
    )


def store(
    directory: Path, clock: HandClock | None = None, *, max_size: int = 10**6, max_age: float = 30 * 86400.0
) -> DiskDeadLetters:
    limits = DeadLetterLimits(max_size=max_size, max_age=max_age)
    return DiskDeadLetters(directory, "encharge", limits, clock or HandClock(DIED), roll_size=2000)


def on_disk(directory: Path) -> list[int]:
    return [found.sequence for found in dead_letter_line.read(directory, EVERY)]


async def test_an_added_letter_is_one_readable_json_line(tmp_path: Path) -> None:
    async with store(tmp_path / "d") as letters:
        await letters.add([letter(7)])
        (path,) = dead_letter_line.paths(tmp_path / "d")
        assert json.loads(path.read_text()) == {
            "sequence": 7,
            "reason": "refused",
            "status": 400,
            "attempts": 2,
            "accepted_at": "2026-05-28T20:26:35.000Z",
            "died_at": "2026-05-28T20:26:40.000Z",
            "batch_key": "v1",
            "answer": '{"error":"bad"}',
            "event": {"name": "x"},
        }
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


@pytest.mark.parametrize(
    "event",
    [
        b'{"a":1.0E+5,"big":123456789012345678901234567890,"a":1}',
        b'{\n  "pretty": true\r\n}',
        b'{"lone":"\\ud800"}',
        b"not json at all \xff",
        '{"ü":"\u2028"}'.encode(),
    ],
)
def test_every_event_comes_back_byte_for_byte(event: bytes) -> None:
    line = dead_letter_line.encode(letter(1, event=event))
    assert line.count(b"\n") == 1
    json.loads(line)
    back = dead_letter_line.decode(line)
    assert back is not None
    assert back.event == event


@given(st.binary(max_size=60), st.binary(max_size=20), st.text(max_size=40))
def test_any_event_batch_key_and_answer_survive_the_line(event: bytes, batch_key: bytes, answer: str) -> None:
    line = dead_letter_line.encode(msgspec.structs.replace(letter(1, event=event), batch_key=batch_key, answer=answer))
    back = dead_letter_line.decode(line)
    assert back is not None
    assert (back.event, back.batch_key) == (event, batch_key)
    assert b"\n" not in line[:-1]


def test_an_answer_is_cut_at_two_kibibytes_between_characters() -> None:
    back = dead_letter_line.decode(dead_letter_line.encode(msgspec.structs.replace(letter(1), answer="ü" * 5000)))
    assert back is not None
    assert back.answer == "ü" * 1024


def test_every_prefix_of_a_line_is_read_as_torn_and_never_raises() -> None:
    line = dead_letter_line.encode(letter(1))
    assert all(dead_letter_line.decode(line[:end]) is None for end in range(len(line) - 1))


async def test_a_torn_last_line_is_skipped_and_kept(tmp_path: Path) -> None:
    whole, torn = dead_letter_line.encode(letter(1)), dead_letter_line.encode(letter(2))[:50]
    tmp_path.joinpath("000000000001.ndjson").write_bytes(whole + torn)
    async with store(tmp_path) as letters:
        assert letters.count() == 1
        await letters.add([letter(2)])
        assert on_disk(tmp_path) == [1, 2]
    assert tmp_path.joinpath("000000000001.ndjson").read_bytes() == whole + torn


async def test_adding_a_sequence_again_writes_nothing(tmp_path: Path) -> None:
    async with store(tmp_path) as letters:
        await letters.add([letter(1), letter(1)])
    async with store(tmp_path) as again:
        await again.add([letter(1), letter(2)])
        assert again.count() == 2
    assert on_disk(tmp_path) == [1, 2]


async def test_letters_written_twice_by_a_crash_are_left_once_at_start(tmp_path: Path) -> None:
    one, two, three = (dead_letter_line.encode(letter(n)) for n in (1, 2, 3))
    tmp_path.joinpath("000000000001.ndjson").write_bytes(one + two + one)
    tmp_path.joinpath("000000000002.ndjson").write_bytes(two + three)
    async with store(tmp_path) as letters:
        assert letters.count() == 3
        assert letters.status().bytes == len(one + two + three)
    assert tmp_path.joinpath("000000000001.ndjson").read_bytes() == one + two
    assert tmp_path.joinpath("000000000002.ndjson").read_bytes() == three


async def test_files_roll_by_size_and_numbers_go_on_after_a_restart(tmp_path: Path) -> None:
    async with store(tmp_path) as letters:
        for sequence in range(20):
            await letters.add([letter(sequence)])
    rolled = len(dead_letter_line.paths(tmp_path))
    assert rolled > 2
    async with store(tmp_path) as again:
        await again.add([letter(20)])
        assert [path.stem for path in dead_letter_line.paths(tmp_path)][-1] == f"{rolled + 1:012d}"
    assert on_disk(tmp_path) == list(range(21))


async def test_a_file_takes_letters_for_a_day_at_most(tmp_path: Path) -> None:
    async with store(tmp_path) as letters:
        await letters.add([letter(1)])
        await letters.add([letter(2, died_at=DIED + 86401)])
        assert len(dead_letter_line.paths(tmp_path)) == 2


async def test_the_size_limit_drops_the_oldest_files_and_counts_what_went(tmp_path: Path) -> None:
    async with store(tmp_path, max_size=6000) as letters:
        for sequence in range(60):
            await letters.add([letter(sequence)])
        status = letters.status()
        assert status.bytes <= 6000
        assert status.purged > 0
        assert status.present + status.purged == 60
        assert on_disk(tmp_path) == list(range(60 - status.present, 60))
        assert sum(path.stat().st_size for path in dead_letter_line.paths(tmp_path)) == status.bytes


async def test_a_letter_larger_than_the_limit_is_counted_as_purged(tmp_path: Path) -> None:
    async with store(tmp_path, max_size=1000) as letters:
        await letters.add([letter(1), letter(2, event=b'{"a":"' + b"x" * 2000 + b'"}')])
        assert (letters.count(), letters.status().purged) == (1, 1)


async def test_a_changed_limit_counts_from_the_next_letter_on(tmp_path: Path) -> None:
    async with store(tmp_path) as letters:
        for sequence in range(60):
            await letters.add([letter(sequence)])
        assert letters.count() == 60
        letters.limit(DeadLetterLimits(max_size=6000, max_age=30 * 86400.0))
        assert letters.count() == 60
        await letters.add([letter(60)])
        status = letters.status()
        assert status.bytes <= 6000
        assert status.present + status.purged == 61


async def test_letters_past_max_age_go_and_younger_ones_stay(tmp_path: Path) -> None:
    clock = HandClock(DIED)
    async with store(tmp_path, clock, max_age=7 * 86400.0) as letters:
        await letters.add([letter(1)])
        clock.advance(5 * 86400)
        await letters.add([letter(2, died_at=clock.wall())])
        clock.advance(3 * 86400)
        assert await letters.expire() == 1
        assert (on_disk(tmp_path), letters.status().purged) == ([2], 1)


async def test_once_an_hour_what_is_too_old_goes_counted_as_purged_and_logged(tmp_path: Path) -> None:
    clock = HandClock(DIED)
    present: list[int] = []

    async def pause(seconds: float) -> None:
        assert seconds == 3600.0
        present.append(letters.count())
        clock.advance(seconds)
        if len(present) == 6:
            raise asyncio.CancelledError

    async with store(tmp_path, clock, max_age=3 * 3600.0) as letters:
        await letters.add([letter(1), letter(2)])
        await letters.add([letter(n, event=b'{"name":"%s"}' % (b"x" * 2000)) for n in (3,)])  # rolls
        clock.advance(600)
        with capture_logs() as lines, pytest.raises(asyncio.CancelledError):
            await letters.keep(pause)
        assert present == [3, 3, 3, 0, 0, 0]
        assert letters.status().purged == 3
        (line,) = lines
    assert (line["event"], line["count"], line["log_level"]) == ("dead_letters_purged", 3, "warning")
    assert on_disk(tmp_path) == []


async def test_a_disk_that_refuses_once_does_not_end_the_hourly_look(tmp_path: Path) -> None:
    clock = HandClock(DIED)
    turns: list[int] = []

    async def pause(_seconds: float) -> None:
        turns.append(letters.count())
        if len(turns) == 1:
            (tmp_path / "totals.json").rmdir()
        else:
            raise asyncio.CancelledError

    async with store(tmp_path, clock, max_age=3600.0) as letters:
        await letters.add([letter(1)])
        clock.advance(2 * 3600)
        tmp_path.joinpath("totals.json").mkdir()
        with pytest.raises(asyncio.CancelledError):
            await letters.keep(pause)
    assert turns == [1, 0]


async def test_a_file_that_nobody_can_read_does_not_keep_the_others_for_ever(tmp_path: Path) -> None:
    tmp_path.joinpath("000000000001.ndjson").write_bytes(b"not a letter\n")
    clock = HandClock(DIED)
    async with store(tmp_path, clock, max_age=3600.0) as letters:
        await letters.add([letter(1)])
        clock.advance(2 * 3600)
        assert await letters.expire() == 1
    assert [path.name for path in dead_letter_line.paths(tmp_path)] == ["000000000001.ndjson"], "that one is looked at"


async def test_a_wall_clock_that_jumps_expires_nothing(tmp_path: Path) -> None:
    clock = HandClock(DIED)
    async with store(tmp_path, clock) as letters:
        await letters.add([letter(1)])
        clock.jump(365 * 86400)
        assert await letters.expire() == 0
        assert letters.count() == 1


async def test_read_returns_exactly_the_letters_asked_for(tmp_path: Path) -> None:
    async with store(tmp_path) as letters:
        await letters.add([letter(n, event=b'{"n":%d}' % n) for n in range(30)])
        found = await letters.read([3, 28, 99])
        assert [(one.sequence, one.event) for one in found] == [(3, b'{"n":3}'), (28, b'{"n":28}')]
        assert await letters.sequences() == list(range(30))


async def test_taking_letters_rewrites_the_files_and_balances_the_ledger(tmp_path: Path) -> None:
    async with store(tmp_path) as letters:
        await letters.add([letter(n) for n in range(30)])
        assert await letters.take([0, 1, 17, 99], "replayed") == 3
        assert await letters.take([29, 0], "purged") == 1
        assert await letters.take([5], "discarded") == 1
        await letters.add([letter(30)])
        status = letters.status()
        assert (status.present, status.replayed, status.purged) == (26, 3, 1)
    kept = [n for n in range(31) if n not in (0, 1, 17, 29, 5)]
    assert on_disk(tmp_path) == kept
    async with store(tmp_path) as again:
        status = again.status()
        assert (status.present, status.replayed, status.purged) == (26, 3, 1)


async def test_taking_all_letters_of_a_file_deletes_it(tmp_path: Path) -> None:
    async with store(tmp_path) as letters:
        await letters.add([letter(1)])
        await letters.take([1], "purged")
        assert dead_letter_line.paths(tmp_path) == []


async def test_what_a_killed_process_had_half_rewritten_is_gone_at_the_next_start(tmp_path: Path) -> None:
    async with store(tmp_path / "d") as letters:
        await letters.add([letter(1)])
    half = tmp_path / "d" / ".000000000001.ndjson.new"
    half.write_bytes(dead_letter_line.encode(letter(2)))
    async with store(tmp_path / "d") as letters:
        assert letters.count() == 1
    assert not half.exists()


@pytest.mark.parametrize("happened", [True, False])
@pytest.mark.parametrize("left", [0, 2])
async def test_a_crash_in_the_middle_of_a_removal_keeps_the_totals_exact(
    tmp_path: Path, left: int, *, happened: bool
) -> None:
    """The announcement is on disk; the file was or was not changed; the count was not saved."""
    path = tmp_path / "000000000001.ndjson"
    lines = [dead_letter_line.encode(letter(n)) for n in range(3)]
    if not happened:
        path.write_bytes(b"".join(lines))
    elif left:
        path.write_bytes(b"".join(lines[:left]))
    announced = {"file": path.name, "gone": 3 - left, "left": left, "how": "purged"}
    tmp_path.joinpath("totals.json").write_text(json.dumps({"replayed": 4, "purged": 5, "pending": announced}))
    async with store(tmp_path) as letters:
        status = letters.status()
        assert status.replayed == 4
        assert (status.present, status.purged) == ((left, 5 + 3 - left) if happened else (3, 5))
    saved = json.loads(tmp_path.joinpath("totals.json").read_text())
    assert saved["pending"] is None


async def test_damaged_totals_are_set_aside_and_do_not_stop_the_start(tmp_path: Path) -> None:
    tmp_path.joinpath("totals.json").write_bytes(b'{"replayed": ')
    async with store(tmp_path) as letters:
        await letters.add([letter(1)])
    assert tmp_path.joinpath("totals.json.damaged").read_bytes() == b'{"replayed": '


@contextmanager
def small_files() -> Iterator[None]:
    """Let the kernel refuse to write beyond 1000 bytes of any file: a real short write, then a real error.

    Only inside the test: pytest's own output may be a file that is longer.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


async def test_a_write_that_the_disk_refuses_raises_and_leaves_no_half_letter(tmp_path: Path) -> None:
    async with store(tmp_path) as letters:
        with small_files():
            await _refused_by_the_disk(letters, tmp_path)
    assert all(path.read_bytes().endswith(b"}\n") for path in dead_letter_line.paths(tmp_path))


async def _refused_by_the_disk(letters: DiskDeadLetters, tmp_path: Path) -> None:
    await letters.add([letter(1)])
    with pytest.raises(DiskTrouble, match=r"write failed on .*ndjson: File too large"):
        await letters.add([letter(n) for n in range(2, 7)])
    assert on_disk(tmp_path) == [1]
    assert letters.count() == 1
    await letters.add([letter(2)])
    assert on_disk(tmp_path) == [1, 2]


async def test_a_file_name_that_is_taken_costs_one_attempt_only(tmp_path: Path) -> None:
    async with store(tmp_path) as letters:
        tmp_path.joinpath("000000000001.ndjson").write_bytes(b"")
        with pytest.raises(DiskTrouble, match=r"create failed on .*File exists"):
            await letters.add([letter(1)])
        await letters.add([letter(1)])
        assert on_disk(tmp_path) == [1]


async def test_a_directory_that_cannot_be_made_raises_disk_trouble(tmp_path: Path) -> None:
    tmp_path.joinpath("dead").write_text("a file where a directory should be")
    with pytest.raises(DiskTrouble, match="Not a directory"):
        async with store(tmp_path / "dead" / "encharge"):
            pass


async def test_a_cancelled_add_is_finished_before_the_next_call(tmp_path: Path) -> None:
    async with store(tmp_path) as letters:
        task = asyncio.ensure_future(letters.add([letter(n) for n in range(50)]))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await letters.add([letter(50)])
        assert letters.count() == 51


def test_a_reader_selects_by_reason_age_and_sequence(tmp_path: Path) -> None:
    lines = [letter(1), letter(2, reason="poison"), letter(3, died_at=DIED + 60), letter(4, died_at=DIED + 60)]
    tmp_path.joinpath("000000000001.ndjson").write_bytes(b"".join(map(dead_letter_line.encode, lines)))

    def found(match: Match) -> list[int]:
        return [one.sequence for one in dead_letter_line.read(tmp_path, match)]

    assert found(Match(reason="poison")) == [2]
    assert found(Match(since=DIED + 1)) == [3, 4]
    assert found(Match(since=DIED + 1, sequences=frozenset([1, 4]))) == [4]
    assert found(EVERY) == [1, 2, 3, 4]


def test_a_reader_of_nothing_finds_nothing(tmp_path: Path) -> None:
    assert on_disk(tmp_path / "absent") == []


def test_a_reader_goes_on_when_a_file_is_purged_under_it(tmp_path: Path) -> None:
    for number in (1, 2):
        tmp_path.joinpath(f"{number:012d}.ndjson").write_bytes(dead_letter_line.encode(letter(number)))
    reading = dead_letter_line.read(tmp_path, EVERY)
    assert next(reading).sequence == 1
    os.unlink(tmp_path / "000000000002.ndjson")  # noqa: PTH108 (what the daemon does)
    assert list(reading) == []
