"""`forwarder dead`: list, show, replay and purge dead letters."""

import re
import sys
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

import click
import msgspec
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text

from forwarder.cli import control_client
from forwarder.cli.status import plain
from forwarder.config.model import Config
from forwarder.core.seams import DeadLetter
from forwarder.spool import dead_letter_line, dead_letter_match
from forwarder.spool.dead_letter_match import Match, Where

CHUNK = 5000
"""Sequences in one request to the daemon."""
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_Command = TypeVar("_Command", bound=Any)


class _Since(click.ParamType):  # type: ignore[type-arg]  # generic only in new releases of click
    """An age (`90m`, `2h`, `7d`) or an ISO 8601 time, as seconds since the epoch."""

    name = "age or time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return seconds since the epoch."""
        if isinstance(value, float):
            return value
        if found := re.fullmatch(r"(\d+)([smhd])", value):
            return time.time() - int(found[1]) * _UNITS[found[2]]
        try:
            return datetime.fromisoformat(value).astimezone().timestamp()
        except ValueError:
            self.fail(f"{value!r} is neither an age such as 2h or 7d nor a time such as 2026-06-05T10:00", param, ctx)


class _Path(click.ParamType):  # type: ignore[type-arg]  # as above
    """A condition on a value inside the event."""

    name = "path=value"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Where:
        """Return the condition."""
        if isinstance(value, Where):
            return value
        try:
            return dead_letter_match.where(str(value))
        except ValueError as exc:
            self.fail(str(exc), param, ctx)


SINCE = _Since()
WHERE = _Path()


def _filters(command: _Command) -> _Command:
    """Add the filters, passed on as `match`'s parts."""
    for option in (
        click.option("--sequence", "sequences", type=int, multiple=True, help="Only this one. Repeatable."),
        click.option("--since", type=_Since(), help="Only those that died since: 2h, 7d, 2026-06-05T10:00."),
        click.option("--reason", help="Only this reason: refused, poison, too_large, ambiguous, expired."),
        click.option("--status", type=click.IntRange(100, 999), help="Only where the vendor answered so."),
        click.option("--type", "event_type", help="Only events of this `type` (TelemetryDeck) or `name` (Encharge)."),
        click.option("--where", type=_Path(), multiple=True, help="PATH=VALUE in the event, or PATH. Repeatable."),
    ):
        command = option(command)
    return command


def _match(options: dict[str, Any]) -> Match:
    wanted = frozenset(options["sequences"])
    return Match(
        reason=options["reason"],
        status=options["status"],
        since=options["since"],
        sequences=wanted or None,
        type=options["event_type"],
        where=options["where"],
    )


@click.group()
def dead() -> None:
    """List, show, replay or purge dead letters: events that will not be retried.

    `ls` and `show` read the files (a daemon may run meanwhile); `replay` and `purge` ask the running daemon.

    \b
    Examples:
      forwarder dead ls encharge --reason refused --since 2h
      forwarder dead show encharge 812
      forwarder dead replay encharge --since 2h --dry-run
      forwarder dead purge encharge --reason expired --yes
    """  # noqa: D301  click's \b marks a verbatim block


@dead.command()
@click.argument("destination")
@_filters
@click.option("--limit", type=click.IntRange(min=0), default=100, show_default=True, help="At most so many; 0: all.")
@click.option("--json", "as_json", is_flag=True, help="Print NDJSON, events and answers included.")
@control_client.config_option
def ls(destination: str, path: Path | None, *, limit: int, as_json: bool, **options: Any) -> None:
    """List the dead letters of DESTINATION, oldest first.

    \b
    Examples:
      forwarder dead ls encharge
      forwarder dead ls telemetrydeck --reason too_large --limit 0
      forwarder dead ls encharge --json | jq -r .answer | sort | uniq -c
    """  # noqa: D301  click's \b marks a verbatim block
    config = control_client.load_config(path)
    letters = dead_letter_line.read(_directory(config, destination), _match(options))
    if as_json:
        _print_lines(letters, limit)
    else:
        _print_table(letters, limit, destination)


@dead.command()
@click.argument("destination")
@click.argument("sequence", type=int)
@control_client.config_option
def show(destination: str, sequence: int, path: Path | None) -> None:
    """Show one dead letter of DESTINATION in full, as JSON: the event as sent and the vendor's answer.

    \b
    Example:
      forwarder dead show encharge 812
    """  # noqa: D301  click's \b marks a verbatim block
    config = control_client.load_config(path)
    wanted = Match(sequences=frozenset([sequence]))
    letter = next(dead_letter_line.read(_directory(config, destination), wanted), None)
    if letter is None:
        raise click.ClickException(f"{destination} has no dead letter {sequence}; see: forwarder dead ls {destination}")
    line = dead_letter_line.encode(letter)
    click.echo(msgspec.json.format(line, indent=2))


@dead.command()
@click.argument("destination")
@_filters
@click.option("--all", "everything", is_flag=True, help="All of them; otherwise a filter is needed.")
@click.option("--keep-age", is_flag=True, help="Keep the age: max_age counts from the first acceptance.")
@click.option("--rate", type=click.FloatRange(min=0, min_open=True), help="Put back at most so many a second.")
@click.option("--dry-run", is_flag=True, help="Say how many, change nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@control_client.config_option
def replay(destination: str, path: Path | None, *, keep_age: bool, rate: float | None, **options: Any) -> None:
    """Put dead letters of DESTINATION back into its queue, each with a new sequence.

    The age of a replayed event starts over unless --keep-age is given.

    \b
    Examples:
      forwarder dead replay encharge --reason refused --since 2h --dry-run
      forwarder dead replay encharge --sequence 812
      forwarder dead replay encharge --type signup --where user.plan=pro --rate 50
      forwarder dead replay telemetrydeck --all
    """  # noqa: D301  click's \b marks a verbatim block
    config = control_client.load_config(path)
    _change(config, destination, "replay", options, {"keep_age": keep_age}, rate=rate)


@dead.command()
@click.argument("destination")
@_filters
@click.option("--all", "everything", is_flag=True, help="All of them; otherwise a filter is needed.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@click.option("--dry-run", is_flag=True, help="Say how many, change nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@control_client.config_option
def purge(destination: str, path: Path | None, *, yes: bool, **options: Any) -> None:
    """Delete dead letters of DESTINATION for good; they stay counted in the ledger.

    \b
    Examples:
      forwarder dead purge encharge --reason expired --dry-run
      forwarder dead purge encharge --all --yes
    """  # noqa: D301  click's \b marks a verbatim block
    config = control_client.load_config(path)
    if not (yes or options["dry_run"]):
        if not sys.stdin.isatty():
            raise click.UsageError("purge deletes for good: add --yes (or look first with --dry-run)")
        click.confirm(f"Delete dead letters of {destination} for good?", abort=True)
    _change(config, destination, "purge", options, {})


def _change(
    config: Config,
    destination: str,
    verb: str,
    options: dict[str, Any],
    extra: dict[str, object],
    *,
    rate: float | None = None,
) -> None:
    match = _match(options)
    if not options["everything"] and match == Match():
        raise click.UsageError("say which ones: --reason, --status, --since, --type, --where, --sequence, or --all")
    sequences = [letter.sequence for letter in dead_letter_line.read(_directory(config, destination), match)]
    target = f"/dead/{quote(destination, safe='')}/{verb}"
    done = 0 if options["dry_run"] else _send(config, target, verb, sequences, extra, rate=rate)
    word = {"replay": "replayed", "purge": "purged"}[verb]
    if options["as_json"]:
        click.echo(msgspec.json.encode({"matched": len(sequences), word: done, "dry_run": options["dry_run"]}))
    elif options["dry_run"]:
        click.echo(f"{len(sequences):,} dead letters of {destination} would be {word}")
    else:
        click.echo(f"{done:,} dead letters of {destination} {word}")


def _send(
    config: Config, target: str, verb: str, sequences: list[int], extra: dict[str, object], *, rate: float | None
) -> int:
    """Ask the daemon in chunks, at most `rate` a second, with a bar on a terminal; return how many it took."""
    step = CHUNK if rate is None else min(CHUNK, max(1, int(rate)))
    done = 0
    columns = (TextColumn(verb), BarColumn(), MofNCompleteColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(verb, total=len(sequences))
        for start in range(0, len(sequences), step):
            if rate is not None and start:
                time.sleep(step / rate)
            chunk = sequences[start : start + step]
            answer = control_client.call(config, "POST", target, {"sequences": chunk, **extra})
            done += sum(answer.values())
            progress.advance(task, len(chunk))
    return done


def _directory(config: Config, destination: str) -> Path:
    """Return where the letters are; a destination that is neither configured nor on disk is a usage error."""
    root = Path(config.spool.directory) / "dead"
    names = {found.name for found in config.destinations}
    if destination in names:
        return _readable(root / destination)
    if root.is_dir():
        names |= {found.name for found in root.iterdir() if found.is_dir()}
    if destination not in names:
        raise click.UsageError(f"no destination {destination!r}; there are: {', '.join(sorted(names)) or 'none'}")
    return _readable(root / destination)


def _readable(directory: Path) -> Path:
    try:
        dead_letter_line.paths(directory)
    except PermissionError as exc:
        raise click.ClickException(f"{directory}: permission denied; ask as root or as the daemon's user") from exc
    return directory


def _print_lines(letters: Iterator[DeadLetter], limit: int) -> None:
    for number, letter in enumerate(letters, 1):
        click.echo(dead_letter_line.encode(letter), nl=False)
        if number == limit:
            return


def _print_table(letters: Iterator[DeadLetter], limit: int, destination: str) -> None:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("sequence", "died at", "reason", "status", "attempts", "batch key", "answer"):
        table.add_column(name, overflow="ellipsis", no_wrap=name != "answer")
    more = 0
    for letter in letters:
        if limit and table.row_count >= limit:
            more += 1
            continue
        table.add_row(*map(Text, _row(letter)))
    console = Console(highlight=False)
    if table.row_count:
        console.print(table)
    else:
        click.echo(f"{destination} has no dead letters that match")
    if more:
        click.echo(f"{more:,} more; --limit 0 lists all")


def _row(letter: DeadLetter) -> tuple[str, ...]:
    return (
        str(letter.sequence),
        dead_letter_line.stamp(letter.died_at),
        letter.reason,
        str(letter.status or "none"),
        str(letter.attempts),
        plain(letter.batch_key.decode("utf-8", "replace")),
        plain(letter.answer)[:80],
    )
