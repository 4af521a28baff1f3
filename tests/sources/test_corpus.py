"""The fuzzer's corpus (tests/data/corpus), replayed; and bytes that hypothesis makes of it."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.prove.fuzz import check

CORPUS = sorted((Path(__file__).parents[1] / "data" / "corpus").iterdir())
SEEDS = [path.read_bytes() for path in CORPUS]


@pytest.mark.parametrize("path", CORPUS, ids=[path.name for path in CORPUS])
def test_the_corpus_gets_answers_only(path: Path) -> None:
    check(path.read_bytes())


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.sampled_from(SEEDS), min_size=1, max_size=3).map(b"".join),
    st.lists(st.tuples(st.integers(0, 1500), st.integers(0, 3), st.binary(max_size=3)), max_size=4),
)
def test_p11_whatever_bytes_come_nothing_but_answers_goes_out(
    stream: bytes, edits: list[tuple[int, int, bytes]]
) -> None:
    for at, drop, put in edits:
        stream = stream[:at] + put + stream[at + drop :]
    check(stream)
