"""Dead letters and spool in step: what is put back, and what a crash between the two leaves."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from forwarder.app.replay import Replay
from forwarder.config.model import DeadLetterLimits
from forwarder.core.seams import DeadLetter, Durability, Outcome
from forwarder.errors import ForwarderError
from forwarder.spool import dead_letter_line
from forwarder.spool.dead_letters import Announcement, DiskDeadLetters
from forwarder.spool.spool import DiskSpool
from forwarder.vendors.encharge.delivery import Encharge
from forwarder.vendors.telemetrydeck.delivery import TelemetryDeck
from tests.support import spools
from tests.support.spools import SystemClock

DIED = float(int(SystemClock().wall()))
PERSON = b'{"name":"x","user":{"email":"a@example.com"},"n":%d}'


class Yard:
    """A spool, its dead letters, and the replay between them."""

    def __init__(self, root: Path, *, encharge: bool = False, **settings: object) -> None:
        self.spool = spools.spool(root, **settings)  # type: ignore[arg-type]
        self.dead = DiskDeadLetters(root / "dead", "td", DeadLetterLimits(), SystemClock())
        vendor = Encharge() if encharge else TelemetryDeck()
        self.replay = Replay(spool=self.spool, dead_letters=self.dead, vendor=vendor, clock=SystemClock())

    async def kill(self, events: Sequence[bytes]) -> list[DeadLetter]:
        """Accept events and make dead letters of them."""
        await spools.append(self.spool, events)
        spans = await spools.lease_all(self.spool)
        letters = [letter(s.first, bytes(s.data), s.frame.accepted_at) for span in spans for s in span.singles()]
        await self.dead.add(letters)
        self.spool.ack(spans, Outcome.DIED)
        return letters

    @property
    def balanced(self) -> bool:
        """P2's second equation."""
        status, died = self.dead.status(), self.spool.stats().ledger["died"]
        return died == status.present + status.replayed + status.purged


def letter(sequence: int, event: bytes, accepted_at: float, *, key: bytes = spools.KEY) -> DeadLetter:
    return DeadLetter(
        sequence=sequence,
        event=event,
        batch_key=key,
        reason="refused",
        status=400,
        answer="no",
        attempts=1,
        accepted_at=accepted_at,
        died_at=DIED,
    )


@asynccontextmanager
async def opened(root: Path, **options: object) -> AsyncIterator[Yard]:
    yard = Yard(root, **options)  # type: ignore[arg-type]
    async with yard.dead, yard.spool:
        await yard.replay.mend()
        yield yard


async def test_replayed_letters_are_queued_again_and_the_books_balance(tmp_path: Path) -> None:
    async with opened(tmp_path) as yard:
        letters = await yard.kill([spools.event(n) for n in range(5)])
        assert await yard.replay.run([letters[1].sequence, letters[3].sequence, 999], keep_age=False) == 2
        spans = await spools.lease_all(yard.spool)
        assert spools.numbers(spans) == [1, 3]
        assert spans[0].first == 6, "a new sequence"
        assert spans[0].frame.accepted_at > letters[0].accepted_at
        assert yard.dead.status().present == 3
        assert await yard.replay.purge([letters[0].sequence]) == 1
        assert yard.balanced
        assert yard.spool.stats().imbalance == 0


async def test_keep_age_keeps_each_events_own_time_of_acceptance(tmp_path: Path) -> None:
    async with opened(tmp_path) as yard:
        await yard.dead.add([letter(n, spools.event(n), DIED - n * 3600.0) for n in (101, 102, 103)])
        assert await yard.replay.run([101, 102, 103], keep_age=True) == 3
        spans = await spools.lease_all(yard.spool)
    assert spools.numbers(spans) == [101, 102, 103]
    assert [span.frame.accepted_at for span in spans] == [DIED - n * 3600.0 for n in (101, 102, 103)]


async def test_the_kept_age_outlives_a_restart(tmp_path: Path) -> None:
    async with opened(tmp_path) as yard:
        await yard.dead.add([letter(7, spools.event(7), DIED)])
        await yard.replay.run([7], keep_age=True)
    async with opened(tmp_path) as yard:
        assert [span.frame.accepted_at for span in await spools.lease_all(yard.spool)] == [DIED]


async def test_the_order_keys_of_a_person_come_back_with_its_events(tmp_path: Path) -> None:
    async with opened(tmp_path, encharge=True) as yard:
        await yard.dead.add([letter(n, PERSON % n, DIED, key=b"") for n in (1, 2)])
        assert await yard.replay.run([2, 1], keep_age=False) == 2
        singles = [s for span in await spools.lease_all(yard.spool) for s in span.singles()]
    assert [bytes(s.data) for s in singles] == [PERSON % 1, PERSON % 2]
    assert singles[0].order() == singles[1].order() != ()


async def test_a_replay_cut_off_after_the_append_sends_nothing_twice(tmp_path: Path) -> None:
    async with opened(tmp_path) as yard:
        letters = await yard.kill([spools.event(n) for n in range(4)])
        stamp = SystemClock().wall()
        sequences = [found.sequence for found in letters]
        await yard.dead.announce(Announcement(from_sequence=5, accepted_at=stamp, sequences=sequences))
        half = spools.group([spools.event(0), spools.event(1)])
        half.accepted_at = stamp
        assert yard.spool.reserve(half.size, 2) is None
        stored: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        yard.spool.append(half, Durability.FSYNC, stored.set_result)
        await stored
        await spools.append(yard.spool, [spools.event(2)])  # an application happens to send the very same bytes
    async with opened(tmp_path) as yard:
        assert await yard.dead.sequences() == sequences[2:]
        assert yard.dead.status().replayed == 2
        assert yard.balanced
        assert await yard.dead.announced() is None
        assert await yard.replay.run(sequences, keep_age=False) == 2
        assert spools.numbers(await spools.lease_all(yard.spool)) == [0, 1, 2, 2, 3]
        assert yard.balanced


async def test_a_replay_cut_off_before_the_append_leaves_every_letter(tmp_path: Path) -> None:
    async with opened(tmp_path) as yard:
        letters = await yard.kill([spools.event(n) for n in range(4)])
        sequences = [found.sequence for found in letters]
        await yard.dead.announce(Announcement(from_sequence=5, accepted_at=None, sequences=sequences))
    async with opened(tmp_path) as yard:
        assert await yard.dead.sequences() == sequences
        assert await spools.lease_all(yard.spool) == []


async def test_a_full_spool_stops_a_replay_and_what_went_before_is_not_put_back_again(tmp_path: Path) -> None:
    async with opened(tmp_path, max_size=256 * 1024, segment_size=32 * 1024) as yard:
        big = [spools.event(n, 30_000) for n in range(40)]
        await yard.dead.add([letter(1000 + n, event, DIED + n) for n, event in enumerate(big)])
        with pytest.raises(ForwarderError, match="full"):
            await yard.replay.run(range(1000, 1040), keep_age=True)
        back = spools.numbers(await spools.lease_all(yard.spool))
        left = [at - 1000 for at in await yard.dead.sequences()]
    assert 0 < len(back) < 40
    assert back + left == list(range(40))


async def test_two_replays_at_once_put_nothing_back_twice(tmp_path: Path) -> None:
    async with opened(tmp_path) as yard:
        letters = await yard.kill([spools.event(n) for n in range(10)])
        sequences = [found.sequence for found in letters]
        counts = await asyncio.gather(*(yard.replay.run(sequences, keep_age=False) for _ in range(3)))
        assert sum(counts) == 10
        assert spools.numbers(await spools.lease_all(yard.spool)) == list(range(10))


async def died_but_not_acked(root: Path) -> DiskSpool:
    async with opened(root) as yard:
        await spools.append(yard.spool, [spools.event(n) for n in range(5)])
        spans = await spools.lease_all(yard.spool)
        await yard.dead.add([letter(s.first, bytes(s.data), s.frame.accepted_at) for s in spans[0].singles()[1:3]])
        return yard.spool


async def test_what_became_a_dead_letter_just_before_a_crash_is_not_sent_again(tmp_path: Path) -> None:
    await died_but_not_acked(tmp_path)
    async with opened(tmp_path) as yard:
        assert yard.spool.stats().ledger["died"] == 2
        assert yard.balanced
        assert spools.numbers(await spools.lease_all(yard.spool)) == [0, 3, 4]
        assert yard.spool.stats().imbalance == 0


async def test_letters_of_records_that_were_read_in_bulk_keep_their_own_time_and_are_found_again(
    tmp_path: Path,
) -> None:
    times = [DIED - 10.0, DIED - 9.95, DIED - 9.91]
    async with opened(tmp_path) as yard:
        for at in times:
            await spools.append(yard.spool, [spools.event(int(at * 100))], accepted_at=at)
    async with opened(tmp_path) as yard:
        (span,) = await spools.lease_all(yard.spool)
        letters = [letter(s.first, bytes(s.data), s.frame.accepted(s.first)) for s in span.singles()]
        assert [each.accepted_at for each in letters] == times
        await yard.dead.add(letters[:2])
    async with opened(tmp_path) as yard:
        assert yard.spool.stats().ledger["died"] == 2
        assert [span.first for span in await spools.lease_all(yard.spool)] == [3]


async def test_letters_of_a_spool_that_was_deleted_end_nothing_in_the_new_one(tmp_path: Path) -> None:
    await died_but_not_acked(tmp_path)
    for path in sorted((tmp_path / "spool").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    async with opened(tmp_path) as yard:
        await spools.append(yard.spool, [spools.event(n) for n in range(5)])
    async with opened(tmp_path) as yard:
        assert spools.numbers(await spools.lease_all(yard.spool)) == list(range(5))


async def test_an_edited_event_is_put_back_as_it_is_now(tmp_path: Path) -> None:
    async with opened(tmp_path) as yard:
        letters = await yard.kill([b'{"n":1}', b'{"n":2}', b'{"n":\n3}'])
        (path,) = dead_letter_line.paths(tmp_path / "dead")
        text = path.read_bytes().replace(b'{"n":1}', b'{"n":10}').replace(b'{"n": 3}', b'{"n": 30}')
        other = path.with_suffix(".tmp")  # as most editors do: another file takes the name
        other.write_bytes(b"\xef\xbb\xbf" + text.replace(b"\n", b"\r\n").removesuffix(b"\r\n"))
        other.rename(path)
        await yard.dead.add([letter(77, b'{"n":77}', DIED)])
        sequences = [found.sequence for found in letters]
        assert await yard.replay.run([*sequences, 77], keep_age=False) == 4
        back = spools.events_of(await spools.lease_all(yard.spool))
    assert back == [b'{"n":10}', b'{"n":2}', b'{"n": 30}', b'{"n":77}']


async def test_a_letter_that_was_deleted_in_an_editor_counts_as_purged(tmp_path: Path) -> None:
    async with opened(tmp_path) as yard:
        letters = await yard.kill([spools.event(n) for n in range(3)])
        (path,) = dead_letter_line.paths(tmp_path / "dead")
        path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[1:]))
        assert await yard.replay.run([found.sequence for found in letters], keep_age=False) == 2
        assert yard.dead.status().purged == 1
        assert yard.balanced
