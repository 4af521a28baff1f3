"""The fuzzers' corpora (tests/data/corpus, corpus-bodies), replayed; and bytes that hypothesis makes of them."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support import fuzz_targets

DATA = Path(__file__).parents[1] / "data"
STREAMS = sorted((DATA / "corpus").iterdir())
BODIES = sorted((DATA / "corpus-bodies").iterdir())


def edited(paths: list[Path], *, most: int) -> st.SearchStrategy[bytes]:
    """Return a few of these files behind each other, with a few edits."""
    seeds = st.lists(st.sampled_from([path.read_bytes() for path in paths]), min_size=1, max_size=most).map(b"".join)
    edits = st.lists(st.tuples(st.integers(0, 1500), st.integers(0, 3), st.binary(max_size=3)), max_size=4)
    return st.builds(edit, seeds, edits)


def edit(data: bytes, edits: list[tuple[int, int, bytes]]) -> bytes:
    for at, drop, put in edits:
        data = data[:at] + put + data[at + drop :]
    return data


@pytest.mark.parametrize("path", STREAMS, ids=[path.name for path in STREAMS])
def test_the_corpus_gets_answers_only(path: Path) -> None:
    fuzz_targets.door(path.read_bytes())


@pytest.mark.parametrize("path", BODIES, ids=[path.name for path in BODIES])
def test_of_each_body_only_what_is_sound_is_stored(path: Path) -> None:
    fuzz_targets.body(path.read_bytes())


@settings(max_examples=150, deadline=None)
@given(edited(STREAMS, most=3))
def test_p11_whatever_bytes_come_nothing_but_answers_goes_out(stream: bytes) -> None:
    fuzz_targets.door(stream)


@settings(max_examples=300, deadline=None)
@given(edited(BODIES, most=1))
def test_p4_p10_whatever_body_comes_only_the_senders_own_sound_events_are_stored(body: bytes) -> None:
    fuzz_targets.body(body)
