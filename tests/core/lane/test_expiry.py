from forwarder.core.lane.expiry import Ages, ClockGuard
from forwarder.core.seams import Trait
from forwarder.core.spool.frame import Span
from tests.support.fake_spool import build_frame

HOUR = 3600.0
WALL = 1_780_000_000.0


def test_frames_without_traits_expire_whole() -> None:
    ages = Ages(max_age=100, profile_max_age=100)
    old = Span(build_frame([b"1", b"2"], accepted_at=WALL - 101), 0, 2)
    new = Span(build_frame([b"3"], sequence=3, accepted_at=WALL - 99), 0, 1)
    assert ages.split([old, new], WALL) == ([new], [old])


def test_profile_records_have_their_own_age_limit() -> None:
    ages = Ages(max_age=10, profile_max_age=100)
    frame = build_frame([b"1", b"2", b"3"], accepted_at=WALL - 50, traits=[Trait(0), Trait(1), Trait(0)])
    alive, expired = ages.split([Span(frame, 0, 3)], WALL)
    assert [s.first for s in alive] == [2]
    assert [s.first for s in expired] == [1, 3]


def test_expiry_halts_while_the_clocks_disagree_by_more_than_an_hour() -> None:
    guard = ClockGuard(now=0, wall=WALL)
    assert guard.trusted(now=10, wall=WALL + 10 + HOUR)
    assert not guard.trusted(now=20, wall=WALL + 20 + HOUR + 1)
    assert not guard.trusted(now=30, wall=WALL + 30 - HOUR - 1)
    assert guard.trusted(now=40, wall=WALL + 40)


def test_a_new_time_that_is_steady_for_a_day_is_believed() -> None:
    guard = ClockGuard(now=0, wall=WALL)
    jump = 50 * HOUR
    assert not guard.trusted(now=10, wall=WALL + jump)
    assert not guard.trusted(now=20 * HOUR, wall=WALL + jump + 20 * HOUR)
    assert not guard.trusted(now=25 * HOUR, wall=WALL + jump + 25 * HOUR)
    assert guard.trusted(now=25 * HOUR + 1, wall=WALL + jump + 25 * HOUR + 1)


def test_expiry_halts_while_the_clock_is_behind_the_newest_record() -> None:
    guard = ClockGuard(now=0, wall=WALL)
    guard.seen(WALL + 60)
    assert not guard.trusted(now=30, wall=WALL + 30)
    assert guard.trusted(now=60, wall=WALL + 60)
