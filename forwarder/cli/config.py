"""`forwarder config`: the schema, a full example, and the configuration in force."""

import json
from pathlib import Path

import click

from forwarder.config import load, schema, written
from forwarder.errors import ConfigurationError

CONFIG_OPTION = click.option(
    "--config",
    "path",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Configuration file. Default: $FORWARDER_CONFIG, ./forwarder.toml, /etc/forwarder/forwarder.toml.",
)
"""`--config FILE`, as every command has it."""

USAGE_EXIT = 2


@click.group(
    epilog="""\b
Examples:
  forwarder config example > forwarder.toml
  forwarder config schema > forwarder.schema.json
  forwarder config show"""
)
def config() -> None:
    """Show what can be configured, and what is."""


@config.command(
    "schema",
    epilog="""\b
Examples:
  forwarder config schema > forwarder.schema.json""",
)
def show_schema() -> None:
    """Print the JSON Schema (draft 2020-12) of the file, for editors and validators."""
    click.echo(json.dumps(schema.json_schema(), indent=2, ensure_ascii=False))


@config.command(
    "example",
    epilog="""\b
Examples:
  forwarder config example > forwarder.toml""",
)
def show_example() -> None:
    """Print a commented file with every setting and its default."""
    click.echo(schema.example(), nl=False)


@config.command(
    "show",
    epilog="""\b
Examples:
  forwarder config show
  forwarder config show --config /etc/forwarder/forwarder.toml
  FORWARDER_LOG__LEVEL=debug forwarder config show --json | jq .log""",
)
@CONFIG_OPTION
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of TOML.")
def show_effective(path: Path | None, *, as_json: bool) -> None:
    """Print the configuration in force: file, environment and defaults together; secrets by reference only."""
    try:
        effective, _ = load(path)
    except ConfigurationError as exc:
        click.echo(str(exc), err=True)
        raise click.exceptions.Exit(USAGE_EXIT) from exc
    if as_json:
        click.echo(json.dumps(written.plain(effective), indent=2, ensure_ascii=False))
    else:
        click.echo(f"# From {effective.source or 'the environment alone'}, defaults filled in.")
        click.echo(written.toml(effective), nl=False)
