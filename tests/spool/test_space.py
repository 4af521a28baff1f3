"""What may wait for a commit, and what may not."""

from forwarder.spool.space import MAX_WAITING, Space

LARGEST = 200 * 1024 * 1024
"""More than any request: max_body, and what each of 250,000 events takes beside its own bytes."""


def space() -> Space:
    return Space(destination="td", max_size=1024**3, room=None)


def test_a_large_request_is_taken_though_small_ones_wait_for_the_disk() -> None:
    account = space()
    account.waiting = MAX_WAITING - 1
    assert account.refusal(LARGEST, 0) is None


def test_all_parts_of_a_large_request_are_taken() -> None:
    account = space()
    for _ in range(4):
        assert account.refusal(LARGEST // 4, 0) is None
        account.reserved += LARGEST // 4


def test_when_the_bound_is_reached_nothing_more_is_taken_until_a_commit_ends() -> None:
    account = space()
    account.waiting = MAX_WAITING
    busy = account.refusal(1, 0)
    assert busy is not None
    assert (busy.limit, busy.retry_after_s) == ("commit_backlog", 1)
    account.waiting -= 1
    assert account.refusal(1, 0) is None
