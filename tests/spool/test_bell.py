"""The bell: nobody who rings goes unheard, whether before the wait or during it."""

import threading

from forwarder.spool.bell import Bell


def test_a_ring_before_the_wait_ends_it_at_once() -> None:
    bell = Bell()
    bell.ring()
    assert bell.wait()
    bell.close()


def test_a_ring_during_the_wait_ends_it() -> None:
    bell = Bell()
    heard: list[bool] = []
    waiting = threading.Thread(target=lambda: heard.append(bell.wait(60.0)))
    waiting.start()
    bell.ring()
    waiting.join()
    assert heard == [True]
    bell.close()


def test_many_rings_are_heard_once() -> None:
    bell = Bell()
    for _ in range(3):
        bell.ring()
    assert [bell.wait(0.0), bell.wait(0.0)] == [True, False]
    bell.close()


def test_a_wait_without_a_ring_ends_with_its_time() -> None:
    bell = Bell()
    assert not bell.wait(0.001)
    bell.close()


def test_ringing_and_closing_a_closed_bell_does_nothing() -> None:
    bell = Bell()
    bell.close()
    bell.ring()
    bell.close()
