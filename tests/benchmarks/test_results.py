from benchmarks.results import Row, at_least, at_most, spread, table


def test_the_median_decides_not_the_best_round() -> None:
    assert at_least("x", [3.0, 3.0, 9.0], 4, "{:.0f}").reached is False
    assert at_least("x", [4.0, 4.0, 1.0], 4, "{:.0f}").reached is True
    assert at_most("x", [5.0, 5.0, 1.0], 4, "{:.0f}").reached is False
    assert at_most("x", [4.0, 4.0, 9.0], 4, "{:.0f}").reached is True


def test_several_rounds_are_told_with_their_extremes_and_one_without() -> None:
    assert spread([2.0, 9.0, 4.0], "{:.1f} ms") == "4.0 ms  (2.0 ms to 9.0 ms)"
    assert spread([4.0], "{:.1f} ms") == "4.0 ms"


def test_the_table_says_what_is_not_reached_and_nothing_where_nothing_is_demanded() -> None:
    lines = table(
        [
            Row(case="a", demanded="≥ 2", measured="3", reached=True),
            Row(case="b", demanded="≥ 2", measured="1", reached=False),
            Row(case="c", measured="1"),
        ]
    ).splitlines()
    assert [line.split() for line in lines[1:]] == [
        ["a", "≥", "2", "3", "reached"],
        ["b", "≥", "2", "1", "NOT", "REACHED"],
        ["c", "1"],
    ]
    assert len({len(line) for line in lines}) == 1
