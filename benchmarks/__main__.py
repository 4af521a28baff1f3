"""`python -m benchmarks [CASE…] [--rounds N] [--seconds S]`: measure and print the table."""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from subprocess import SubprocessError

from benchmarks import process, results
from benchmarks.cases import CASES, explained
from benchmarks.machine import Missing, Stolen, describe, need_cores
from benchmarks.results import Bench, Row

HERE = Path(__file__).parent.parent / "build"


def main() -> int:
    """Run the cases asked for; exit 1 when a demanded figure is not reached."""
    asked = arguments()
    results.prefer(asked.nice)
    process.allow_many_files()
    asked.directory.mkdir(parents=True, exist_ok=True)
    rows: list[Row] = []
    stolen = Stolen()
    with tempfile.TemporaryDirectory(prefix="benchmarks-", dir=asked.directory) as directory:
        bench = Bench(rounds=asked.rounds, seconds=asked.seconds, directory=Path(directory), say=_say)
        print("\n".join(describe(bench.directory)))
        print(f"{asked.rounds} rounds of {asked.seconds:g} s, order alternating, priority {asked.nice}\n", flush=True)
        for name in asked.cases or CASES:
            rows += _run(name, bench)
    print(results.table(rows))
    print(f"\n{stolen.words()}")
    missed = [row for row in rows if row.reached is False]
    print(f"{sum(row.reached is True for row in rows)} reached, {len(missed)} not reached")
    return 1 if missed else 0


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
        description="Measure and print the table; exit 1 when a demanded figure is not reached.",
        epilog=explained(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("cases", nargs="*", metavar="CASE", help="what to measure, see below (everything)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of every measurement (5)")
    parser.add_argument("--seconds", type=float, default=3.0, help="length of one measurement (3)")
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
