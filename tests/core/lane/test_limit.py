from forwarder.core.lane.limit import PATIENCE, Limits


def test_a_413_halves_the_limit_of_its_key_only() -> None:
    limits = Limits(1000)
    assert limits.shrink(b"k", 900) == ("limit:6b", 450)
    assert limits.size(b"k") == 450
    assert limits.size(b"other") == 1000


def test_the_limit_is_raised_after_many_batches_near_it_and_forgotten_at_the_setting() -> None:
    limits = Limits(1000)
    limits.shrink(b"k", 900)
    changes = [change for _ in range(5 * PATIENCE) if (change := limits.passed(b"k", limits.size(b"k") - 1))]
    assert [value for _, value in changes] == [563, 704, 881, None]
    assert limits.size(b"k") == 1000


def test_small_batches_prove_nothing() -> None:
    limits = Limits(1000)
    limits.shrink(b"k", 900)
    assert not any(limits.passed(b"k", 100) for _ in range(10 * PATIENCE))
    assert limits.size(b"k") == 450


def test_a_second_413_falls_back_to_what_is_known_to_pass() -> None:
    limits = Limits(1000)
    limits.shrink(b"k", 900)
    for _ in range(PATIENCE):
        limits.passed(b"k", 450)
    assert limits.size(b"k") == 563
    assert limits.shrink(b"k", 563) == ("limit:6b", 450)


def test_a_learned_limit_survives_a_restart_and_junk_beside_it_is_ignored() -> None:
    limits = Limits(1000)
    limits.load({"limit:6b": 450, "limit:zz": 1, "limit:61": "x", "limit:62": -4, "other": 5})
    assert limits.size(b"k") == 450
    assert [limits.size(key) for key in (b"a", b"b")] == [1000, 1000]


def test_a_smaller_setting_wins_over_what_was_learned() -> None:
    limits = Limits(100)
    limits.load({"limit:6b": 450})
    assert limits.size(b"k") == 100
