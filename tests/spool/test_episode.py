"""Losses of one kind are told at the beginning and, with the total, at the end."""

import asyncio

from forwarder.spool.episode import QUIET_S, Episode


async def test_it_tells_the_first_loss_and_once_it_has_been_quiet_the_total() -> None:
    began: list[int] = []
    ended: list[int] = []
    episode = Episode(begins=began.append, ends=ended.append)
    now = asyncio.get_running_loop().time()
    for events in (3, 4, 5):
        episode.count(events)
    assert (began, ended) == ([3], [])
    timer = episode._timer
    assert timer is not None
    assert timer.when() >= now + QUIET_S
    timer._run()
    assert ended == [12]
    episode.count(1)
    assert began == [3, 1]
    episode.close()
    episode.close()
    assert ended == [12, 1]
