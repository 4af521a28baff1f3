"""Company: for whom, and for how many looks of the loop, the next commit waits."""

from itertools import count, takewhile

from forwarder.core.joining import Joining
from forwarder.spool.company import LOOKS, QUIET, Company
from tests.support.keeper import Keeper


def looks(company: Company, there: list[int]) -> int:
    """Return how many looks may bring more, when these find so many events (and the last ones as many as before)."""
    found = iter([*there, *[there[-1]] * 100])
    return sum(takewhile(bool, (company.look(next(found)) for _ in count())))


def test_it_ends_when_as_many_are_there_as_were_answered() -> None:
    company = Company(Joining())
    company.wait(0, 5)
    assert looks(company, [2, 4, 5, 6]) == 2


def test_those_who_came_while_the_commit_was_under_way_are_no_company_yet() -> None:
    company = Company(Joining())
    company.wait(5, 5)
    assert looks(company, [5, 7, 9, 10]) == 3


def test_what_the_source_keeps_is_company() -> None:
    joining = Joining()
    keeper, company = Keeper(joining), Company(joining)
    keeper.requests = 1  # for another spool's commit
    company.wait(2, 3)
    keeper.requests = 3
    assert company.look(2)
    keeper.requests = 4
    assert not company.look(2)


def test_what_another_spool_takes_is_no_company_that_comes() -> None:
    joining = Joining()
    keeper, company = Keeper(joining, 4), Company(joining)
    company.wait(0, 100)
    assert company.look(0)
    keeper.requests = 0  # taken: fewer are kept, and none has come
    assert [company.look(0) for _ in range(QUIET)] == [*[True] * (QUIET - 1), False]


def test_of_two_commits_that_end_together_the_one_that_answered_few_does_not_shorten_the_wait_for_many() -> None:
    company = Company(Joining())
    company.wait(0, 5)
    company.wait(0, 1)
    assert looks(company, [2, 4, 5, 6]) == 2


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
    while company.look(asked):
        company.wait(asked, 100)  # another commit has ended
        asked += 1
    assert asked == LOOKS
    company.take()
    company.wait(0, 100)
    assert looks(company, [*range(50)]) == LOOKS


def test_those_who_never_came_are_not_waited_for_again() -> None:
    company = Company(Joining())
    company.wait(0, 100)
    company.take()
    company.wait(0, 2)
    assert looks(company, [1, 2, 3, 4]) == 1


def test_where_nobody_was_answered_nobody_is_waited_for() -> None:
    company = Company(Joining())
    company.wait(3, 0)
    assert not company.look(3)


def test_the_source_knows_of_one_wait_however_often_it_begins_anew_and_is_called_when_it_is_over() -> None:
    joining = Joining()
    keeper, company = Keeper(joining, 1), Company(joining)
    assert [company.wait(0, 1), company.wait(0, 1)] == [True, False]
    waiting = [joining.waiting]
    company.take()
    waiting.append(joining.waiting)
    assert company.wait(0, 1)
    assert [*waiting, joining.waiting] == [True, False, True]
    assert keeper.called == [(1, False)]


def test_a_second_spool_waits_on_when_the_first_one_takes_what_is_kept() -> None:
    joining = Joining()
    keeper, one, other = Keeper(joining, 2), Company(joining), Company(joining)
    one.wait(0, 5)
    other.wait(0, 5)
    one.take()
    assert joining.waiting
    keeper.requests = 3
    other.take()
    assert keeper.called == [(2, True), (3, False)]
