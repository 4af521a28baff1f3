"""`forwarder erase`: remove one person's events, for a data-protection request."""

import asyncio
import os
from pathlib import Path

import click
import msgspec

from forwarder import __version__, logs
from forwarder.app.clock import SystemClock
from forwarder.app.erasing import Erasing, Receipt, person_of
from forwarder.cli import control_client
from forwarder.config.model import Config
from forwarder.errors import DaemonUnreachable
from forwarder.spool.directory import SpoolDirectory
from forwarder.spool.person import Person
from forwarder.spool.samples import RefusedSamples


@click.command()
@click.option("--email", help="An e-mail address: every event with a string that is this address, in any case.")
@click.option("--user-id", help="An Encharge user ID.")
@click.option("--client-user", help="A TelemetryDeck clientUser, as it was sent (SDKs send a hash).")
@click.option("--dry-run", is_flag=True, help="Say what would be removed, change nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print the receipt as JSON.")
@control_client.config_option
@click.pass_context
def erase(
    ctx: click.Context,
    path: Path | None,
    *,
    email: str | None,
    user_id: str | None,
    client_user: str | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Remove one person's events from queues, dead letters, samples and quarantine, and print a receipt.

    Asks the running daemon; without one it works on the files itself. Queued events are counted as erased in the
    ledger, dead letters as purged. Events that are accepted while it runs, and what the vendor already has, are not
    covered. When it is cut off, run it again: nothing is left inconsistent, but not everything may be removed.

    \b
    Examples:
      forwarder erase --email jane@example.com --dry-run
      forwarder erase --user-id 4711 --json > receipt.json

    \b
    Exit codes: 0 done, 1 failed or some files are of a newer format, 2 usage, 5 locked by another process.
    """  # noqa: D301  click's \b marks a verbatim block
    ways = {"email": email, "user-id": user_id, "client-user": client_user}
    given = [(by, value) for by, value in ways.items() if value]
    if len(given) != 1:
        raise click.UsageError("say who: exactly one of --email, --user-id, --client-user")
    try:
        person = person_of(*given[0])
    except ValueError as exc:
        raise click.UsageError(str(exc)) from exc
    config = control_client.load_config(path)
    receipt = _by_daemon(config, person, dry_run=dry_run) or asyncio.run(_by_hand(config, person, dry_run=dry_run))
    click.echo(msgspec.json.encode(receipt) if as_json else _words(receipt))
    if not receipt.complete:
        ctx.exit(1)


def _by_daemon(config: Config, person: Person, *, dry_run: bool) -> Receipt | None:
    body = {"by": person.by, "value": person.value, "dry_run": dry_run}
    try:
        return msgspec.convert(control_client.call(config, "POST", "/erase", body), Receipt)
    except DaemonUnreachable:
        return None


async def _by_hand(config: Config, person: Person, *, dry_run: bool) -> Receipt:
    clock = SystemClock()
    logs.configure(config.log, clock, environ=os.environ)  # they go to stderr, beside the receipt
    spool = config.spool
    directory = SpoolDirectory(
        Path(spool.directory), max_total=spool.max_total, min_free=spool.min_free, version=__version__, clock=clock
    )
    directory.open()
    try:
        samples = RefusedSamples(directory.refused, clock)
        return await Erasing(directory=directory, live={}, samples=samples, clock=clock).run(person, dry_run=dry_run)
    finally:
        directory.close()


def _words(receipt: Receipt) -> str:
    verb = "would be removed" if receipt.dry_run else "removed"
    lines = [f"erasure of {receipt.by} {receipt.value} in {receipt.directory}, {receipt.at}"]
    for one in receipt.destinations:
        sent = f", {one.in_flight} of these were being sent" if one.in_flight else ""
        lines.append(
            f"{one.destination}: {verb}: {one.queued} queued events{sent}; {one.ended} that had ended and were still "
            f"on disk; {one.dead_letters} dead letters; from {one.segments} segments and {one.quarantined_files} "
            "quarantined files"
        )
        lines += [f"{one.destination}: NOT looked through, of a newer format: {name}" for name in one.untouched]
    lines.append(f"samples of refused events {verb}: {receipt.samples}")
    return "\n".join(lines)
