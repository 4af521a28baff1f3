"""`forwarder spool`: list, verify and export what is queued; adopt the queue of a renamed destination."""

import asyncio
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import msgspec
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

from forwarder import __version__, logs
from forwarder.app.clock import SystemClock
from forwarder.cli import control_client
from forwarder.cli.dead import SINCE, WHERE
from forwarder.cli.status import plain
from forwarder.config.model import Config
from forwarder.core.report import duration
from forwarder.core.seams import DeadLetter
from forwarder.spool import adoption, dead_letter_line
from forwarder.spool.audit import HARMLESS, words
from forwarder.spool.contents import Contents, Record, SegmentRow
from forwarder.spool.contents import Progress as Progressing
from forwarder.spool.dead_letter_match import Match, Where
from forwarder.spool.directory import SpoolDirectory
from forwarder.spool.fs import RealFs
from forwarder.spool.survey import Survey, steady_survey

FOUND_EXIT = 3
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


@click.group()
def spool() -> None:
    """List, verify and export what is queued on disk; adopt the queue of a renamed destination.

    `ls`, `verify` and `export` only read and may run beside the daemon; `adopt` needs it stopped.

    \b
    Examples:
      forwarder spool ls
      forwarder spool verify
      forwarder spool export telemetrydeck --type signup | jq .event
      forwarder spool adopt old-name new-name
    """  # noqa: D301  click's \b marks a verbatim block


@spool.command()
@click.argument("destinations", nargs=-1)
@click.option("--keys/--no-keys", default=True, help="Read the files for their batch keys (the default) or not.")
@click.option("--json", "as_json", is_flag=True, help="Print NDJSON, one segment a line.")
@control_client.config_option
def ls(destinations: tuple[str, ...], path: Path | None, *, keys: bool, as_json: bool) -> None:
    """List the segments: sequences, queued events, sizes, ages and batch keys.

    \b
    Examples:
      forwarder spool ls
      forwarder spool ls encharge --no-keys
      forwarder spool ls --json | jq 'select(.queued > 0)'
    """  # noqa: D301  click's \b marks a verbatim block
    config = control_client.load_config(path)
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("destination", "segment", "state", "sequences", "queued", "size", "age", "batch keys"):
        table.add_column(name, justify="right" if name in {"queued", "size", "age"} else "left")
    with _progress("reading", [found.bytes for _, found in _each(config, destinations)] if keys else []) as progress:
        for _, contents in _each(config, destinations):
            for row in contents.rows(keys=keys, progress=progress):
                if as_json:
                    click.echo(msgspec.json.encode(row))
                else:
                    table.add_row(*map(Text, _cells(row)))
    if not as_json:
        Console(highlight=False).print(table if table.row_count else "no segments")


@spool.command()
@click.argument("destinations", nargs=-1)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a destination.")
@control_client.config_option
@click.pass_context
def verify(ctx: click.Context, destinations: tuple[str, ...], path: Path | None, *, as_json: bool) -> None:
    """Read every segment and check every checksum, and that no sequence is missing. Quarantined files are listed.

    \b
    Examples:
      forwarder spool verify
      forwarder spool verify telemetrydeck --json

    \b
    Exit codes: 0 all is whole, 2 usage or configuration, 3 something is damaged or missing.
    """  # noqa: D301  click's \b marks a verbatim block
    config = control_client.load_config(path)
    damaged = False
    with _progress("verifying", [found.bytes for _, found in _each(config, destinations)]) as progress:
        for survey, contents in _each(config, destinations):
            result = _verified(Path(config.spool.directory), contents.name, survey, contents, progress)
            damaged |= bool(result["problems"])
            click.echo(msgspec.json.encode(result) if as_json else _verdict(result))
    if damaged:
        ctx.exit(FOUND_EXIT)


def _verified(root: Path, name: str, survey: Survey, contents: Contents, progress: Progressing) -> dict[str, Any]:
    recovery = survey.recovery
    problems = [words(finding) for finding in recovery.findings if finding.kind not in HARMLESS]
    for number, hole, queued in contents.holes(progress):
        problems.append(
            f"segment {number:012d}: damaged at byte {hole.offset}: sequences {hole.first} to {hole.end - 1}, "
            f"{queued} of them not delivered"
        )
    return {
        "destination": name,
        "segments": len(recovery.extents),
        "bytes": contents.bytes,
        "problems": problems,
        "notes": [words(finding) for finding in recovery.findings if finding.kind in HARMLESS],
        "quarantined": sorted(str(file) for file in (root / "quarantine" / name).glob("*")),
        "foreign_files": survey.others,
    }


def _verdict(result: dict[str, Any]) -> str:
    name = result["destination"]
    lines = [f"{name}: {problem}" for problem in result["problems"]]
    lines += [f"{name}: note: {note}" for note in result["notes"]]
    lines += [f"{name}: quarantined: {file}" for file in result["quarantined"]]
    lines += [f"{name}: not a file of this program: {file}" for file in result["foreign_files"]]
    state = "damaged" if result["problems"] else "whole"
    return "\n".join([*lines, f"{name}: {result['segments']} segments, {_size(result['bytes'])}: {state}"])


@spool.command()
@click.argument("destination")
@click.option("--ended", is_flag=True, help="Also what has ended (been delivered, say) and is still on disk.")
@click.option("--from", "first", type=int, help="Only from this sequence on.")
@click.option("--to", "last", type=int, help="Only up to this sequence.")
@click.option("--since", type=SINCE, help="Only what was accepted since: 2h, 7d, 2026-06-05T10:00.")
@click.option("--batch-key", help="Only this batch key, as `spool ls` shows it.")
@click.option("--type", "event_type", help="Only events of this `type` (TelemetryDeck) or `name` (Encharge).")
@click.option("--where", type=WHERE, multiple=True, help="PATH=VALUE in the event, or PATH. Repeatable.")
@control_client.config_option
def export(
    destination: str,
    path: Path | None,
    *,
    ended: bool,
    first: int | None,
    last: int | None,
    event_type: str | None,
    where: tuple[Where, ...],
    since: float | None,
    batch_key: str | None,
) -> None:
    """Print the queued events of DESTINATION as NDJSON, each with its sequence, batch key and time of acceptance.

    \b
    Examples:
      forwarder spool export encharge > backup.ndjson
      forwarder spool export telemetrydeck --type signup --since 2h | jq .event
    """  # noqa: D301  click's \b marks a verbatim block
    config = control_client.load_config(path)
    match = Match(type=event_type, where=where)
    [(_, contents)] = _each(config, [destination])
    with _progress("exporting", [contents.bytes]) as progress:
        for record in contents.records(ended=ended, progress=progress):
            if last is not None and record.sequence > last:
                break
            key = record.batch_key.decode("utf-8", "backslashreplace")
            if (
                (first is None or record.sequence >= first)
                and (since is None or record.accepted_at >= since)
                and (batch_key is None or key == batch_key)
                and match(_letter(record))
            ):
                click.echo(_line(record, key))


@spool.command()
@click.argument("old")
@click.argument("new")
@control_client.config_option
def adopt(old: str, new: str, path: Path | None) -> None:
    """Give the queue of OLD, a destination that is not configured any more, to NEW, which is.

    The daemon must be stopped. If NEW has never held an event it takes over everything under its name: queue, ledger,
    dead letters and quarantine. Otherwise OLD's queued events are appended to NEW's with their ages, and OLD's dead
    letters become dead letters of NEW. If it is cut off, run it again before the daemon: nothing is moved twice.

    \b
    Example:
      forwarder spool adopt telemetrydeck-old telemetrydeck
    """  # noqa: D301  click's \b marks a verbatim block
    config = control_client.load_config(path)
    configured = {found.name: found for found in config.destinations}
    if old in configured:
        raise click.UsageError(f"{old!r} is a configured destination: take it out of the configuration first")
    if new not in configured:
        raise click.UsageError(f"no destination {new!r} is configured; there are: {', '.join(configured)}")
    names_of(config, [old])
    clock = SystemClock()
    logs.configure(config.log, clock, environ=os.environ)  # they go to stderr
    directory = SpoolDirectory(
        Path(config.spool.directory),
        max_total=config.spool.max_total,
        min_free=config.spool.min_free,
        version=__version__,
        clock=clock,
    )
    directory.open()
    try:
        result = asyncio.run(adoption.adopt(directory, old, new, max_size=configured[new].max_size, clock=clock))
    finally:
        directory.close()
    click.echo(f"{new} has adopted {result.events:,} queued events and {result.letters:,} dead letters of {old}")
    for place in result.left:
        click.echo(f"what could not be read stays in {place}")


# ---- shared


def names_of(config: Config, wanted: Sequence[str]) -> list[str]:
    """Return the destinations meant: those named, or all that have a spool; an unknown name is a usage error."""
    root = Path(config.spool.directory) / "spool"
    try:
        there = sorted(found.name for found in root.iterdir() if found.is_dir()) if root.is_dir() else []
    except PermissionError as exc:
        raise click.ClickException(f"{root}: permission denied; ask as root or as the daemon's user") from exc
    for name in wanted:
        if name not in there:
            raise click.UsageError(f"no spool of {name!r}; there are: {', '.join(there) or 'none'}")
    return list(wanted) or there


def _each(config: Config, wanted: Sequence[str]) -> Iterator[tuple[Survey, Contents]]:
    fs = RealFs()
    for name in names_of(config, wanted):
        directory = Path(config.spool.directory) / "spool" / name
        found = steady_survey(fs, directory)
        yield found, Contents(fs, directory, found)


@contextmanager
def _progress(what: str, sizes: Sequence[int]) -> Iterator[Progressing]:
    """Yield a function to be told of bytes read; it moves a bar on a terminal."""
    console = Console(stderr=True)
    columns = (TextColumn(what), BarColumn(), DownloadColumn(binary_units=True))
    with Progress(*columns, console=console, transient=True, disable=not (console.is_terminal and sizes)) as bar:
        task = bar.add_task(what, total=sum(sizes))
        yield lambda size: bar.advance(task, size)


def _cells(row: SegmentRow) -> tuple[str, ...]:
    sequences = f"{row.first_sequence}-{row.next_sequence - 1}" if row.next_sequence > row.first_sequence else "none"
    age = "" if row.created_at is None else duration(max(0.0, datetime.now(UTC).timestamp() - row.created_at))
    keys = ", ".join(f"{plain(key)} ({count})" for key, count in list(row.batch_keys.items())[:5])
    more = len(row.batch_keys) - 5
    return (
        row.destination,
        f"{row.number:012d}",
        row.state,
        sequences,
        f"{row.queued:,}",
        _size(row.bytes),
        age,
        keys + (f", {more} more" if more > 0 else ""),
    )


def _letter(record: Record) -> DeadLetter:
    """Return the record in the form that the shared filters look at."""
    return DeadLetter(
        sequence=record.sequence, event=record.event, batch_key=record.batch_key, reason="", status=None, answer="",
        attempts=0, accepted_at=record.accepted_at, died_at=record.accepted_at,
    )  # fmt: skip


def _line(record: Record, key: str) -> bytes:
    return msgspec.json.encode(
        {
            "destination": record.destination,
            "sequence": record.sequence,
            "state": "queued" if record.queued else "ended",
            "accepted_at": dead_letter_line.stamp(record.accepted_at),
            "batch_key": key,
            "event": msgspec.Raw(record.event.translate(dead_letter_line.BREAKS)),
        }
    )


def _size(size: float) -> str:
    for unit in _UNITS[:-1]:
        if size < 1024:  # noqa: PLR2004 (the step between units)
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} {_UNITS[-1]}"
