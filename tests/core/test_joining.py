"""Joining: what sources keep while a spool waits, and how they are called."""

import pytest

from forwarder.core.joining import Joining


class Keeper:
    """A source that keeps so many requests; it has a bug if it is told so."""

    def __init__(self, requests: int, *, broken: bool = False) -> None:
        self.requests = requests
        self.broken = broken
        self.called = 0

    def join(self) -> None:
        self.called += 1
        if self.broken:
            raise RuntimeError("a bug")


def joining(*keepers: Keeper) -> Joining:
    made = Joining()
    for keeper in keepers:
        made.add(keeper)
    return made


def test_it_counts_what_all_sources_keep() -> None:
    assert joining().requests == 0
    assert joining(Keeper(2), Keeper(3)).requests == 5


def test_it_calls_those_that_keep_something() -> None:
    keepers = Keeper(1), Keeper(0), Keeper(3)
    joining(*keepers).call()
    assert [keeper.called for keeper in keepers] == [1, 0, 1]


def test_a_source_with_a_bug_does_not_cost_the_others_their_requests() -> None:
    keepers = Keeper(1), Keeper(1, broken=True), Keeper(1), Keeper(1, broken=True), Keeper(1)
    with pytest.raises(RuntimeError, match="a bug"):
        joining(*keepers).call()
    assert [keeper.called for keeper in keepers] == [1, 1, 1, 1, 1]
