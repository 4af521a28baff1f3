"""`python -m benchmarks [CASE…] [--rounds N] [--seconds S]`: measure and print the table."""

import argparse
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from subprocess import SubprocessError

from benchmarks import process, results
from benchmarks.cases import CASES, explained
from benchmarks.machine import Missing, Stolen, describe, need_cores
from benchmarks.results import Bench, Row

HERE = Path(__file__).parent.parent / "build"
SECONDS = 3.0
OWN_SECONDS = dict.fromkeys(("door", "ceiling", "peers"), 6.0)
"""Of the cases that measure in slices of a second: the median of fewer of them says little."""
LENGTH = f"length of one measurement ({SECONDS:g}; of {', '.join(OWN_SECONDS)} {max(OWN_SECONDS.values()):g})"


def main() -> int:
    """Run the cases asked for; exit 1 when a demanded figure is not reached."""
    asked = arguments()
    results.prefer(asked.nice)
    process.allow_many_files()
    asked.directory.mkdir(parents=True, exist_ok=True)
    names, rows = asked.cases or list(CASES), list[Row]()
    stolen = Stolen()
    with tempfile.TemporaryDirectory(prefix="benchmarks-", dir=asked.directory) as directory:
        print("\n".join(describe(Path(directory))))
        lengths = lengths_of(names, asked.seconds)
        print(f"{rounds_in_words(asked.rounds, lengths)}, order alternating, priority {asked.nice}\n", flush=True)
        for name in names:
            bench = Bench(rounds=asked.rounds, seconds=lengths[name], directory=Path(directory), say=_say)
            rows += _run(name, bench)
    print(results.table(rows))
    print(f"\n{stolen.words()}")
    code, words = verdict(rows)
    print(words)
    return code


def verdict(rows: Sequence[Row]) -> tuple[int, str]:
    """Return the exit code, and the line that explains it."""
    met, missed = (sum(row.reached is each for row in rows) for each in (True, False))
    code = 1 if missed else 0
    why = "a demanded figure was not reached" if missed else "no demanded figure was missed"
    counted = f"{met} reached, {missed} not reached"
    return code, f"{counted}; what is demanded are the project's own targets; exit {code}: {why}"


def lengths_of(names: Sequence[str], asked: float | None) -> dict[str, float]:
    """Return the length of one measurement of each case in seconds: what was asked for, or its default."""
    return {name: asked or OWN_SECONDS.get(name, SECONDS) for name in names}


def rounds_in_words(rounds: int, lengths: Mapping[str, float]) -> str:
    """Return how many rounds of how many seconds there are, case by case where the lengths differ."""
    cases: dict[float, list[str]] = {}
    for name, seconds in lengths.items():
        cases.setdefault(seconds, []).append(name)
    if len(cases) == 1:
        return f"{rounds} rounds of {next(iter(cases)):g} s"
    return f"{rounds} rounds of " + ", ".join(f"{each:g} s ({', '.join(names)})" for each, names in cases.items())


def _run(name: str, bench: Bench) -> list[Row]:
    try:
        need_cores()
        return CASES[name].run(bench)
    except Missing as missing:
        return [Row(case=name, measured=f"not measured: {missing}")]
    except (RuntimeError, OSError, SubprocessError) as error:
        _say(f"{name}: {error}")
        return [Row(case=name, demanded="a measurement", measured=str(error).splitlines()[0], reached=False)]


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    """Return what the command line asks for; exits with the reason when there is no such case."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure and print the table; exit 1 when a demanded figure (a target of our own) is not reached.",
        epilog=explained(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("cases", nargs="*", metavar="CASE", help="what to measure, see below (everything)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of every measurement (5)")
    parser.add_argument("--seconds", type=float, help=LENGTH)
    parser.add_argument("--directory", type=Path, default=HERE, help="where the spools are: a real disk (build/)")
    parser.add_argument("--nice", type=int, default=0, help="priority, for a machine that others use too (0)")
    asked = parser.parse_args(given)
    unknown = [name for name in asked.cases if name not in CASES]
    if unknown:
        parser.error(f"no such case: {', '.join(unknown)}; there are {', '.join(CASES)}")
    return asked


def _say(text: str) -> None:
    print(f"  {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
