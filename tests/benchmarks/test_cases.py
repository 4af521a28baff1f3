import re
import shlex
from pathlib import Path

import pytest

from benchmarks import __main__ as main
from benchmarks.__main__ import arguments
from benchmarks.cases import CASES, explained
from benchmarks.results import Row

PAGE = (Path(__file__).parents[2] / "docs" / "PERFORMANCE.md").read_text(encoding="utf-8")
COMMAND = re.compile(r"python -m benchmarks((?: [\w./-]+)*)")


@pytest.mark.parametrize("name", CASES)
def test_help_explains_each_case_with_an_example_that_is_accepted(name: str) -> None:
    assert re.search(rf"^  {name} +\S", explained(), re.MULTILINE)
    examples = [shlex.split(each) for each in COMMAND.findall(explained())]
    mine = [example for example in examples if example[0] == name]
    assert len(mine) == 1
    assert arguments(mine[0]).cases == [name]


def test_an_unknown_case_is_refused_with_the_names_that_exist(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        arguments(["door", "dor"])
    assert f"no such case: dor; there are {', '.join(CASES)}" in capsys.readouterr().err


def test_seconds_are_the_length_of_one_measurement_in_every_case() -> None:
    assert set(main.lengths_of(list(CASES), arguments(["--seconds", "2"]).seconds).values()) == {2.0}
    own = main.lengths_of(list(CASES), arguments([]).seconds)
    assert {name for name, seconds in own.items() if seconds != main.SECONDS} == {"door", "ceiling", "peers"}
    assert own["door"] == 6.0


def test_what_is_printed_about_the_rounds_is_what_is_measured() -> None:
    assert main.rounds_in_words(5, {"door": 6.0}) == "5 rounds of 6 s"
    assert main.rounds_in_words(2, {"door": 6.0, "udp": 3.0, "peers": 6.0}) == (
        "2 rounds of 6 s (door, peers), 3 s (udp)"
    )


@pytest.mark.parametrize(("reached", "code"), [((True, None), 0), ((True, False), 1), ((None,), 0)])
def test_the_last_line_says_why_the_exit_code_is_what_it_is(reached: tuple[bool | None, ...], code: int) -> None:
    got, words = main.verdict([Row(case="x", measured="1", reached=each) for each in reached])
    assert got == code
    assert "the project's own targets" in words
    assert f"exit {code}: {'a demanded figure was not reached' if code else 'no demanded figure was missed'}" in words


@pytest.mark.parametrize("name", CASES)
def test_the_page_names_every_case(name: str) -> None:
    assert re.search(rf"^\| `{name}` \| ", PAGE, re.MULTILINE)


def test_every_command_of_the_page_is_one_that_the_benchmarks_accept() -> None:
    commands = [shlex.split(each) for each in COMMAND.findall(PAGE) if each != " --help"]
    assert len(commands) > 5
    for command in commands:
        arguments(command)


def test_no_number_of_the_page_was_measured_by_hand() -> None:
    assert "by hand" not in PAGE
