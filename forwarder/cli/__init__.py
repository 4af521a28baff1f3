"""The command line: one file per command, loaded when it is asked for. Exit codes: docs in `forwarder --help`."""

import difflib
import importlib
import sys
from typing import NoReturn

import click

from forwarder import __version__
from forwarder.errors import ConfigurationError, DaemonUnreachable, ForwarderError, SpoolLocked

COMMANDS = {
    "run": "Run the daemon in the foreground",
    "check": "Check a configuration: every problem at once",
    "config": "Print the schema, a commented example, or what is in force",
    "demo": "See the whole job in one run that ends by itself",
    "receive": "Stand in for both vendors, with faults to order",
    "send": "Send events from arguments, a file or stdin",
    "status": "Show what is queued, how old, and why",
    "resume": "Let a parked destination try again now",
    "dead": "List, show, replay or purge dead letters",
    "spool": "List, verify or export what is queued; adopt a renamed destination's queue",
    "audit": "Recompute the ledger from the files alone",
    "erase": "Remove one person's events everywhere",
    "plan": "Reckon disk and drain time for a rate and an outage",
}
EXIT_CODES: dict[type[ForwarderError], int] = {ConfigurationError: 2, DaemonUnreachable: 4, SpoolLocked: 5}


class _Commands(click.Group):
    """Imports a command's module only when the command runs, so that the daemon carries no other command's code."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  click's signature
        """Return the names in the order a newcomer needs them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import `forwarder.cli.NAME` and return its command of the same name."""
        if cmd_name not in COMMANDS:
            near = difflib.get_close_matches(cmd_name, COMMANDS, n=1)
            hint = f' Did you mean "{near[0]}"?' if near else ""
            ctx.fail(f'No such command "{cmd_name}".{hint}')
        command: click.Command = getattr(importlib.import_module(f"forwarder.cli.{cmd_name}"), cmd_name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """List the commands without importing any of them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="forwarder")
def cli() -> None:
    """Localhost in, analytics out, nothing lost.

    Any process fires an event at localhost over HTTP, UDP or a unix socket; forwarder keeps it in a disk-backed queue
    and delivers it to TelemetryDeck or Encharge until it arrives.

    \b
    Examples:
      forwarder demo                                  see it work
      forwarder config example > forwarder.toml       start from a commented file
      forwarder check && forwarder run                check it, run it
      forwarder status --watch                        look at it

    \b
    Exit codes: 0 ok, 1 failed, 2 usage or configuration, 3 found something (audit,
    spool verify; status: not accepting), 4 daemon unreachable, 5 spool locked by
    another process.
    """  # noqa: D301  click's \b marks a verbatim block


def main() -> NoReturn:
    """Run the command line; a ForwarderError becomes one clear message and its exit code."""
    try:
        cli(prog_name="forwarder")
    except ForwarderError as error:
        click.echo(f"forwarder: {error}", err=True)
        code = next((code for kind, code in EXIT_CODES.items() if isinstance(error, kind)), 1)
        sys.exit(code)
    sys.exit(0)
