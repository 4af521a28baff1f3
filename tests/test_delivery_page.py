"""docs/PROMISES.md and docs/DELIVERY.md name a test for each promise: every one of them exists."""

import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
DOCS = TESTS.parent / "docs"
PROMISES = (DOCS / "PROMISES.md").read_text()
TABLES = (
    PROMISES.partition("## The tests")[2],
    (DOCS / "DELIVERY.md").read_text().partition("## The test behind each promise")[2],
)


def rows(table: str) -> list[list[str]]:
    return [line.split("|")[1:3] for line in table.splitlines() if line.startswith("| ") and "---" not in line][1:]


ROWS = [row for table in TABLES for row in rows(table)]


def file_of(name: str) -> Path:
    (found,) = [path for path in TESTS.rglob(Path(name).name) if str(path).endswith(f"/{name}")]
    return found


@pytest.mark.parametrize(("promise", "tests"), ROWS, ids=[row[0].strip() for row in ROWS])
def test_the_tests_that_the_page_names_exist(promise: str, tests: str) -> None:
    text = ""
    named = re.findall(r"`([^`]+)`", tests)
    assert named, promise
    for name in named:
        if name.endswith(".py"):
            text = file_of(name).read_text()
            continue
        pattern = re.escape(name.removesuffix("…").rstrip("_")) + ("" if name.endswith("…") else r"\(")
        assert re.search(rf"def test_{pattern}", text), f"{name} is not where the page says"


def test_every_promise_has_a_sentence_and_a_test_and_no_test_is_named_after_another_one() -> None:
    promised = re.findall(r"^- \*\*(P\d+): ", PROMISES, re.MULTILINE)
    assert promised == [f"P{number}" for number in range(1, 12)]
    assert [row[0].strip() for row in rows(TABLES[0])] == promised
    texts = [path.read_text() for path in TESTS.rglob("test_*.py")]
    names = [name for text in texts for name in re.findall(r"def test((?:_p\d+)+)_", text)]
    assert {number.upper() for name in names for number in name.split("_")[1:]} <= {*promised}
