import re
import shlex
from pathlib import Path

import pytest

from benchmarks.__main__ import arguments
from benchmarks.cases import CASES, explained

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
