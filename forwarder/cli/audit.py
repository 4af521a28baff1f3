"""`forwarder audit`: the ledger from the files alone."""

from collections.abc import Sequence
from pathlib import Path

import click
import msgspec
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

from forwarder.cli import control_client
from forwarder.cli.spool import names_of
from forwarder.spool import audit as audits
from forwarder.spool.audit import Audit
from forwarder.spool.fs import RealFs

FOUND_EXIT = 3
_WIDEST = 10_000
"""Columns that a table may ask for."""


@click.command()
@click.argument("destinations", nargs=-1)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a destination.")
@control_client.config_option
@click.pass_context
def audit(ctx: click.Context, destinations: tuple[str, ...], path: Path | None, *, as_json: bool) -> None:
    """Recompute the ledger of every destination (or DESTINATIONS) from its files alone, and name what does not add up.

    Reads only, and may run beside the daemon. Every sequence must be queued or have exactly one outcome, and every
    event that died must be a dead letter that is present, was replayed, or was purged.

    \b
    Examples:
      forwarder audit
      forwarder audit encharge --json | jq .ledger

    \b
    Exit codes: 0 all adds up, 2 usage or configuration, 3 something is missing or damaged.
    """  # noqa: D301  click's \b marks a verbatim block
    config = control_client.load_config(path)
    root = Path(config.spool.directory)
    found = [audits.audit(RealFs(), root, name) for name in names_of(config, destinations)]
    if as_json:
        for one in found:
            click.echo(msgspec.json.encode(one))
    else:
        _print(found)
    if any(one.discrepancies for one in found):
        ctx.exit(FOUND_EXIT)


def _print(found: Sequence[Audit]) -> None:
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("")
    for one in found:
        table.add_column(one.destination, justify="right", no_wrap=True)
    columns = [
        {"accepted": one.next_sequence - 1, "queued": one.queued, **one.ledger, "imbalance": one.imbalance}
        for one in found
    ]
    for row in columns[0] if columns else ():
        table.add_row(row, *(f"{column[row]:,}" for column in columns))
    console = Console(highlight=False)
    # rather a line that a terminal wraps than a name or a number that is cut
    needed = Measurement.get(console, console.options.update(max_width=_WIDEST), table).maximum
    console.width = max(console.width, needed)
    console.print(table)
    for one in found:
        letters = one.dead_letters
        present = letters.present - letters.waiting
        click.echo(
            f"{one.destination}: died {one.ledger['died']:,} = dead letters present {present:,}"
            f" + replayed {letters.replayed:,} + purged {letters.purged:,}"
        )
        for note in one.notes:
            click.echo(f"{one.destination}: note: {note}")
    for one in found:
        for discrepancy in one.discrepancies:
            click.secho(f"{one.destination}: {discrepancy}", fg="red", err=True)
    if not any(one.discrepancies for one in found):
        click.echo("everything adds up")
