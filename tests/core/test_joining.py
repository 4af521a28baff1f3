"""Joining: what the source keeps while a spool waits, and when it is called."""

from forwarder.core.joining import Joining
from tests.support.keeper import Keeper


def test_it_waits_as_long_as_any_spool_does() -> None:
    joining = Joining()
    joining.begin()
    joining.begin()
    joining.end()
    assert joining.waiting
    joining.end()
    assert not joining.waiting


def test_it_knows_what_the_source_keeps() -> None:
    joining = Joining()
    assert joining.requests == 0
    Keeper(joining, 3)
    assert joining.requests == 3


def test_the_end_of_each_wait_calls_a_source_that_keeps_something() -> None:
    joining = Joining()
    keeper = Keeper(joining, 1)
    joining.begin()
    joining.begin()
    joining.end()
    joining.end()  # nothing is kept any more
    assert keeper.called == [(1, True)]


def test_at_the_last_end_nobody_waits_any_more_else_what_it_reads_next_would_be_kept_for_ever() -> None:
    joining = Joining()
    keeper = Keeper(joining, 2)
    joining.begin()
    joining.end()
    assert keeper.called == [(2, False)]


def test_without_a_source_a_wait_just_ends() -> None:
    joining = Joining()
    joining.begin()
    joining.end()
    assert not joining.waiting
