"""`forwarder resume`: let a parked destination try again now."""

from pathlib import Path
from urllib.parse import quote

import click

from forwarder.cli import control_client


@click.command()
@click.argument("destination")
@control_client.config_option
def resume(destination: str, path: Path | None) -> None:
    """Probe a parked or backing-off DESTINATION now instead of at its next turn.

    A parked destination resumes by itself when a probe succeeds; this is for those who have just fixed the write key
    and do not want to wait.

    \b
    Examples:
      forwarder resume encharge
      forwarder resume encharge && forwarder status --watch
    """  # noqa: D301  click's \b marks a verbatim block
    config = control_client.load_config(path)
    answer = control_client.call(config, "POST", f"/resume/{quote(destination, safe='')}")
    click.echo(answer["message"])
