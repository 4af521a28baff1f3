"""Numbers of several rounds, and the table."""

import contextlib
import os
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the table. `reached` is None where nothing is demanded."""

    case: str
    demanded: str = ""
    measured: str
    reached: bool | None = None


class Bench(msgspec.Struct, frozen=True, kw_only=True):
    """What the command line asked for."""

    rounds: int
    seconds: float
    directory: Path
    say: Callable[[str], None]


def at_least(case: str, values: Sequence[float], demanded: float, form: str) -> Row:
    """Return a row whose median must reach `demanded`; `form` formats one value."""
    reached = statistics.median(values) >= demanded
    return Row(case=case, demanded="≥ " + form.format(demanded), measured=spread(values, form), reached=reached)


def at_most(case: str, values: Sequence[float], demanded: float, form: str) -> Row:
    """Return a row whose median must not exceed `demanded`."""
    reached = statistics.median(values) <= demanded
    return Row(case=case, demanded="≤ " + form.format(demanded), measured=spread(values, form), reached=reached)


def told(case: str, values: Sequence[float], form: str) -> Row:
    """Return a row that only tells."""
    return Row(case=case, measured=spread(values, form))


def spread(values: Sequence[float], form: str) -> str:
    """Return the median, and the extremes when there are several rounds."""
    median = form.format(statistics.median(values))
    if len(values) == 1:
        return median
    return f"{median}  ({form.format(min(values))} to {form.format(max(values))})"


def table(rows: Sequence[Row]) -> str:
    """Return the rows aligned."""
    verdicts = {True: "reached", False: "NOT REACHED", None: ""}
    cells = [("case", "demanded", "median (all rounds)", ""), *(_cells(row, verdicts) for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(4)]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in cells)


def _cells(row: Row, verdicts: dict[bool | None, str]) -> tuple[str, str, str, str]:
    return row.case, row.demanded, row.measured, verdicts[row.reached]


def prefer(nice: int) -> None:
    """Run everything at this priority: for a machine that others use at the same time."""
    if not nice:
        return
    os.setpriority(os.PRIO_PROCESS, 0, nice)
    with contextlib.suppress(OSError):
        # Linux shares the processor between sessions first: within a session alone, priority would mean nothing.
        os.setsid()
        Path("/proc/self/autogroup").write_text(f"{nice}\n", encoding="ascii")
