"""Upgrades: what each released format left on disk is read, event by event, and the ledger goes on where it was."""

import tarfile
from pathlib import Path

import pytest

from forwarder.core.seams import Outcome
from forwarder.core.spool.ledger import FIRST
from tests.support import golden_spool
from tests.support.golden_spool import ACKED, DIED, TOTAL
from tests.support.hand_clock import HandClock

GOLDEN = sorted((Path(__file__).parents[1] / "data").glob("spool-v*.tar.gz"))


@pytest.fixture(params=GOLDEN, ids=lambda path: path.name)
def root(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    with tarfile.open(request.param) as archive:
        if hasattr(tarfile, "data_filter"):  # Python 3.11.4 and later; Debian 12 has 3.11.2
            archive.extractall(tmp_path, filter="data")
        else:
            archive.extractall(tmp_path)  # noqa: S202  our own archive
    return tmp_path / "spool-directory"


def test_there_is_a_golden_spool_of_every_format() -> None:
    assert [path.name for path in GOLDEN] == ["spool-v1.tar.gz"]


async def test_every_event_that_waited_is_read_byte_for_byte_and_nothing_that_was_resolved(root: Path) -> None:
    async with golden_spool.disk_spool(root, HandClock()) as spool:
        spans = await golden_spool.lease_all(spool)
        expected = {FIRST + number: golden_spool.event(number) for number in range(ACKED + DIED, TOTAL)}
        assert {span.first: bytes(span.data) for span in spans} == expected
        assert spool.notes() == []
        assert list((root / "quarantine").rglob("*")) == []


async def test_the_ledger_goes_on_where_it_was_and_balances(root: Path) -> None:
    async with golden_spool.disk_spool(root, HandClock()) as spool:
        before = spool.stats()
        assert (before.ledger["delivered"], before.ledger["died"]) == (ACKED, DIED)
        assert (before.queued_events, before.next_sequence) == (TOTAL - ACKED - DIED, FIRST + TOTAL)
        spool.ack(await golden_spool.lease_all(spool), Outcome.DELIVERED)
        after = spool.stats()
        assert (after.queued_events, after.ledger["delivered"], after.imbalance) == (0, TOTAL - DIED, 0)


async def test_the_dead_letters_are_read(root: Path) -> None:
    async with golden_spool.dead_letters(root, HandClock()) as letters:
        sequences = await letters.sequences()
        found = await letters.read(sequences)
    assert sequences == [FIRST + number for number in range(ACKED, ACKED + DIED)]
    assert found[0].event == golden_spool.event(ACKED)
    assert (found[0].reason, found[0].status, found[0].answer) == ("refused", 400, "golden")
