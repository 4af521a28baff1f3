"""Company: for whom, and for how many looks of the loop, the next commit waits."""

from itertools import count, takewhile

from forwarder.core.joining import Joining
from forwarder.spool.company import LOOKS, QUIET, Company


class Keeper:
    """A source that keeps `requests`."""

    def __init__(self, joining: Joining) -> None:
        self.requests = 0
        self.waiting_when_called: list[int] = []
        self._joining = joining
        joining.add(self)

    def join(self) -> None:
        self.requests = 0
        self.waiting_when_called.append(self._joining.waiting)


def looks(company: Company, there: list[int]) -> int:
    """Return how many looks may bring more, when these find so many events (and the last ones as many as before)."""
    found = iter([*there, *[there[-1]] * 100])
    return sum(takewhile(bool, (company.comes(next(found)) for _ in count())))


def test_it_ends_when_as_many_are_there_as_were_answered() -> None:
    company = Company(Joining())
    company.wait(0, 5)
    assert looks(company, [2, 4, 5, 6]) == 2


def test_those_who_came_while_the_commit_was_under_way_are_no_company_yet() -> None:
    company = Company(Joining())
    company.wait(5, 5)
    assert looks(company, [5, 7, 9, 10]) == 3


def test_what_sources_keep_is_company() -> None:
    joining = Joining()
    keeper, company = Keeper(joining), Company(joining)
    keeper.requests = 1  # for another spool's commit
    company.wait(2, 3)
    keeper.requests = 3
    assert company.comes(2)
    keeper.requests = 5
    assert not company.comes(1)


def test_it_ends_when_looks_in_a_row_bring_nothing_more() -> None:
    company = Company(Joining())
    company.wait(1, 100)
    assert looks(company, [1]) == QUIET
    company.take()
    company.wait(0, 100)
    assert looks(company, [1, 1, 2, 2, 3]) == 5 - 1 + QUIET


def test_it_does_not_wait_for_ever_while_each_look_brings_more() -> None:
    company = Company(Joining())
    company.wait(0, 100)
    assert looks(company, [*range(50)]) == LOOKS


def test_a_wait_that_begins_anew_is_not_longer_for_it() -> None:
    company = Company(Joining())
    company.wait(0, 100)
    asked = 0
    while company.comes(asked):
        company.wait(asked, 100)  # another commit has ended
        asked += 1
    assert asked == LOOKS
    company.take()
    company.wait(0, 100)
    assert looks(company, [*range(50)]) == LOOKS


def test_where_nobody_was_answered_nobody_is_waited_for() -> None:
    company = Company(Joining())
    company.wait(3, 0)
    assert not company.comes(3)


def test_sources_know_of_one_wait_however_often_it_begins_anew_and_are_called_when_it_is_over() -> None:
    joining = Joining()
    keeper, company = Keeper(joining), Company(joining)
    keeper.requests = 1
    company.wait(0, 1)
    company.wait(0, 1)
    assert (company.awaited, joining.waiting) == (True, 1)
    company.take()
    assert (company.awaited, joining.waiting) == (False, 0)
    assert keeper.waiting_when_called == [0]  # else it would keep them for ever
    company.wait(0, 1)
    assert joining.waiting == 1
