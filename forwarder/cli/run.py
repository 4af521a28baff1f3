"""`forwarder run`: the daemon in the foreground."""

import asyncio
import gc
from collections.abc import Callable
from pathlib import Path

import click

COLLECT_AFTER = (20_000, 20, 20)
"""Objects between two collections of the youngest generation, and collections of each before the next older one."""


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

    _calm_collector()
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(Daemon(path=path, dry_run=dry_run).run())


def _calm_collector() -> None:
    """Look for reference cycles less often: walking a window of ten thousand records took a fifth of the processor."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*COLLECT_AFTER)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    """Return uvloop's maker of event loops where uvloop installs, else asyncio's own."""
    try:
        import uvloop  # noqa: PLC0415
    except ImportError:
        return asyncio.new_event_loop
    return uvloop.new_event_loop
