"""Erasure: a person's events leave the files, the ledger says so, and nothing else changes. A kill cannot hurt."""

import contextlib
import json
from pathlib import Path

import pytest

from forwarder.core.seams import Durability, Outcome
from forwarder.core.spool.frame import Span
from forwarder.errors import DiskTrouble
from forwarder.spool.person import Person
from forwarder.spool.spool import DiskSpool
from tests.support import spools
from tests.support.fault_fs import FaultFs
from tests.support.spools import append, drain, lease_all

ROOT = Path("/root")
JANE = Person("email", "jane@example.com")


def named(number: int, email: str = "jane@example.com") -> bytes:
    return b'{"n":%d,"user":{"email":"%s"}}' % (number, email.encode())


async def filled(fs: FaultFs) -> DiskSpool:
    one = spools.spool(ROOT, fs)
    await one.open()
    await append(one, [named(1), named(2, "john@example.com"), named(3, "JANE@Example.com ")])
    await append(one, [named(4, "john@example.com"), named(5)])
    return one


async def end(one: DiskSpool) -> None:
    await one.close(one._clock.monotonic() + 5)


def bytes_of(fs: FaultFs) -> bytes:
    return b"".join(fs.files().values())


async def test_a_person_s_events_are_gone_from_the_files_and_all_others_arrive_byte_for_byte() -> None:
    fs = FaultFs()
    one = await filled(fs)
    result = await one.erase(JANE, dry_run=False)
    assert (result.queued, result.in_flight, result.ended) == (3, 0, 0)
    assert b"jane@" not in bytes_of(fs).lower()
    assert spools.events_of(await lease_all(one)) == [named(2, "john@example.com"), named(4, "john@example.com")]
    stats = one.stats()
    assert (stats.ledger["erased"], stats.queued_events, stats.imbalance) == (3, 2, 0)
    await end(one)


async def test_a_dry_run_counts_and_changes_nothing() -> None:
    fs = FaultFs()
    one = await filled(fs)
    before = fs.files()
    assert (await one.erase(JANE, dry_run=True)).queued == 3
    assert fs.files() == before
    assert await drain(one) == [1, 2, 3, 4, 5]
    await end(one)


async def test_what_was_delivered_and_is_still_on_disk_goes_too() -> None:
    fs = FaultFs()
    one = await filled(fs)
    [first, *_] = await lease_all(one)
    one.ack([Span(first.frame, 0, 1)], Outcome.DELIVERED)
    result = await one.erase(JANE, dry_run=False)
    assert (result.queued, result.in_flight, result.ended) == (2, 2, 1)
    assert b"jane@" not in bytes_of(fs).lower()
    assert one.stats().ledger["delivered"] == 1
    await end(one)


async def test_leased_records_that_were_erased_are_taken_out_of_what_is_sent() -> None:
    fs = FaultFs()
    one = await filled(fs)
    spans = await lease_all(one)
    assert one.unerased(spans) is spans
    await one.erase(JANE, dry_run=False)
    assert spools.numbers(one.unerased(spans)) == [2, 4]
    one.ack(spans, Outcome.DELIVERED)  # too late for the erased ones: the first outcome counts
    assert one.stats().ledger["erased"] == 3
    assert one.stats().ledger["delivered"] == 2
    await end(one)


async def test_erased_events_do_not_come_back_when_every_checkpoint_and_journal_is_lost() -> None:
    fs = FaultFs()
    one = await filled(fs)
    await one.erase(JANE, dry_run=False)
    new = fs.reborn()
    await end(one)
    for path in [path for path in new.files() if not path.endswith(".segment")]:
        new.remove(Path(path))
    async with spools.spool(ROOT, new) as two:
        assert await drain(two) == [2, 4]
        assert two.stats().ledger["erased"] == 3
        assert two.stats().imbalance == 0


@pytest.mark.parametrize("power_cut", [False, True])
async def test_dying_at_any_call_of_an_erasure_leaves_a_balanced_spool_and_a_second_run_finishes(
    *, power_cut: bool
) -> None:
    operations = ["create", "write", "sync", "append", "replace", "move", "remove", "names", "sync_directory", "read"]
    for operation in operations:
        for nth in (1, 2, 3):
            fs = FaultFs(nth)
            one = await filled(fs)
            fs.fail_once(operation, 5, nth=nth)
            with contextlib.suppress(DiskTrouble):  # whatever it says, what is on disk counts
                await one.erase(JANE, dry_run=False)
            new = fs.power_cut() if power_cut else fs.reborn()
            await end(one)
            async with spools.spool(ROOT, new) as two:
                await two.erase(JANE, dry_run=False)
                assert b"jane@" not in bytes_of(new).lower(), operation
                assert {2, 4} == set(await drain(two)), operation
                stats = two.stats()
                assert (stats.imbalance, stats.queued_events) == (0, 0)
                assert stats.ledger["erased"] == 3
                assert not [path for path in new.files() if path.endswith(".new")]


async def test_what_cannot_be_made_durable_is_not_taken_out_of_the_files() -> None:
    fs = FaultFs()
    one = await filled(fs)
    fs.failing["replace"] = 5
    with pytest.raises(Exception, match="erase failed"):
        await one.erase(JANE, dry_run=False)
    assert b"jane@" in bytes_of(fs), "a filler must not be delivered because its outcome was lost"
    fs.failing.clear()
    await end(one)


async def test_quarantined_files_and_bytes_that_are_no_frame_are_cleaned_too() -> None:
    fs = FaultFs()
    async with spools.spool(ROOT, fs) as one:
        await append(one, [named(1), named(2, "john@example.com")], Durability.FSYNC)
    [segment] = [path for path in fs.files() if path.endswith(".segment")]
    whole = fs.files()[segment]
    fs.put(ROOT / "quarantine" / "td" / "000000000007.segment", whole)
    fs.put(ROOT / "quarantine" / "td" / "000000000008.segment", b"noise " + named(9) + b" noise")
    async with spools.spool(ROOT, fs) as two:
        result = await two.erase(JANE, dry_run=False)
        assert result.quarantined_files == 2
        assert b"jane@" not in bytes_of(fs).lower()
        kept = fs.files()["/root/quarantine/td/000000000007.segment"]
        assert named(2, "john@example.com") in kept
        assert len(kept) == len(whole)


@pytest.mark.parametrize(
    ("person", "event", "hit"),
    [
        (JANE, {"user": {"email": "Jane@Example.com"}}, True),
        (JANE, {"properties": {"list": ["x", "jane@example.com"]}}, True),
        (JANE, {"user": {"email": "not-jane@example.com"}}, False),
        (JANE, {"note": "wrote to jane@example.com"}, False),
        (Person("user-id", "4711"), {"user": {"userId": 4711}}, True),
        (Person("user-id", "4711"), {"userId": "4711"}, True),
        (Person("user-id", "4711"), {"user": {"userId": "47110"}, "count": 4711}, False),
        (Person("client-user", "abc"), {"clientUser": "abc"}, True),
        (Person("client-user", "abc"), {"clientUser": "ABC"}, False),
        (Person("client-user", "abc"), {"payload": {"other": "abc"}}, False),
    ],
)
def test_who_is_meant(person: Person, event: object, *, hit: bool) -> None:
    assert person.named_in(json.dumps(event).encode()) is hit


def test_an_address_that_is_written_with_escapes_is_found() -> None:
    assert JANE.named_in(b'{"email":"jane\\u0040example.com"}')


@pytest.mark.parametrize(
    ("person", "text", "hit"),
    [
        (JANE, b'{"email":"JANE@example.com', True),
        (Person("user-id", "4711"), rb'{"sample":"{\"userId\":\"4711\"', True),
        (Person("user-id", "4711"), b'{"userId":47110', False),
        (Person("user-id", "4711"), b'{"count":4711', False),
        (Person("client-user", "abc"), b'{"clientUser":"abc"', True),
    ],
)
def test_who_is_meant_in_bytes_that_cannot_be_decoded(person: Person, text: bytes, *, hit: bool) -> None:
    assert person.plainly(text) is hit
