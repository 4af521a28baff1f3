"""docs/DELIVERY.md names a test for each promise: every one of them exists."""

import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
PAGE = TESTS.parent / "docs" / "DELIVERY.md"
TABLE = PAGE.read_text().partition("## The test behind each promise")[2]
ROWS = [line.split("|")[1:3] for line in TABLE.splitlines() if line.startswith("| ") and "---" not in line][1:]


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
