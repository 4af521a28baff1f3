"""`forwarder run`: the daemon in the foreground."""

import asyncio
from pathlib import Path

import click


@click.command()
@click.option(
    "-c", "--config", "path", type=click.Path(path_type=Path), envvar="FORWARDER_CONFIG", help="The TOML file."
)
@click.option("--dry-run", is_flag=True, help="Accept and keep events, deliver nowhere.")
def run(path: Path | None, *, dry_run: bool) -> None:
    """Run the daemon until SIGTERM or SIGINT; then drain and exit 0.

    Without --config the file is $FORWARDER_CONFIG, ./forwarder.toml or /etc/forwarder/forwarder.toml. SIGHUP reads it
    again. What could not be delivered before the drain deadline stays on disk and goes out after the next start.

    \b
    Examples:
      forwarder run --config config/local.toml
      forwarder run --dry-run          # staging: accept everything, deliver nothing
      FORWARDER_LOG__LEVEL=debug forwarder run
    """  # noqa: D301  click's \b marks a verbatim block
    from forwarder.app.daemon import Daemon  # noqa: PLC0415  --help needs no daemon

    daemon = Daemon(path=path, dry_run=dry_run)
    try:
        from uvloop import new_event_loop  # noqa: PLC0415
    except ImportError:
        from asyncio import new_event_loop  # noqa: PLC0415
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(daemon.run())
