"""Any value of a wrong type, at any key, gives a problem that names that key, and never an exception."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_origin

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from forwarder.config import form, kinds
from forwarder.config.model import Address, Destination, Secret
from forwarder.config.report import Report
from forwarder.config.walk import SECTIONS, Walker


def _leaves(cls: type[msgspec.Struct], path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    for info in msgspec.structs.fields(cls):
        hint, _ = form.unwrap(info.type)
        base = form.bare(hint)
        if isinstance(base, type) and issubclass(base, msgspec.Struct) and base not in {Address, Secret}:
            yield from _leaves(base, (*path, info.name))
        if info.name != "name":
            yield (*path, info.name), base


LEAVES = [leaf for name, cls in SECTIONS.items() for leaf in _leaves(cls, (name,))]
LEAVES += [leaf for kind in kinds.KINDS for leaf in _leaves(Destination, ("destinations", kind))]

SCALARS = st.one_of(st.booleans(), st.integers(), st.floats(), st.text(max_size=30))
ANYTHING = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=6,
)


def _wrong(base: Any) -> st.SearchStrategy[Any]:
    """Return values that no field of this type can take."""
    if base is bool:
        return st.one_of(st.integers(), st.floats(), st.text(max_size=9), st.lists(st.booleans(), max_size=2))
    if get_origin(base) is tuple:
        return st.one_of(SCALARS, st.dictionaries(st.text(max_size=9), SCALARS, max_size=2))
    if base is str or form.literals(base):
        return st.one_of(st.booleans(), st.integers(), st.floats(), st.lists(SCALARS, max_size=2), st.just({}))
    if base in {int, float}:
        return st.one_of(st.booleans(), st.just("x"), st.just(-1), st.lists(SCALARS, max_size=2), st.just({"a": 1}))
    return st.one_of(SCALARS.filter(lambda value: value != "none"), st.lists(SCALARS, max_size=2))


def _problems(path: tuple[str, ...], value: Any) -> list[str]:
    raw: dict[str, Any] = {"destinations": {kind: {"kind": kind} for kind in kinds.KINDS}}
    table = raw
    for key in path[:-1]:
        table = table.setdefault(key, {})
    table[path[-1]] = value
    report = Report({})
    Walker(report, base=Path("/base"), home=None).config(raw, None)
    return report.findings.problems


WRONG = st.sampled_from(LEAVES).flatmap(lambda leaf: st.tuples(st.just(leaf[0]), _wrong(leaf[1])))


@given(WRONG)
@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_wrong_type_gives_a_problem_that_names_the_key(wrong: tuple[tuple[str, ...], Any]) -> None:
    path, value = wrong
    if isinstance(value, str) and path[-1] == "admin":
        value = 3
    problems = _problems(path, value)
    assert problems
    assert all(problem.startswith(".".join(path)) for problem in problems), problems


@given(st.sampled_from(LEAVES), ANYTHING)
@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_anything_at_any_key_is_a_value_or_a_problem_of_that_key(leaf: tuple[tuple[str, ...], Any], value: Any) -> None:
    path, _ = leaf
    problems = _problems(path, value)
    assert all(problem.startswith(".".join(path)) for problem in problems), problems
    assert all("\n" not in problem for problem in problems)


@given(st.dictionaries(st.text(max_size=12), ANYTHING, max_size=4))
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_table_at_all_is_judged_and_never_raises(raw: dict[str, Any]) -> None:
    report = Report({})
    Walker(report, base=Path("/base"), home=None).config(raw, None)
    known = {*SECTIONS, "destinations"}
    assert all(report.findings.problems for key in raw if key not in known)


def test_every_key_of_the_model_is_reached() -> None:
    names = {".".join(path) for path, _ in LEAVES}
    assert {"spool.dead_letters.max_age", "listen.auth_token", "destinations.encharge.retry.max"} <= names
    assert len(names) > 70
    assert json.dumps(sorted(names))
