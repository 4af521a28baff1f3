"""Every `forwarder …` that the pages tell to type is one that the command line takes."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from forwarder.cli import cli

ROOT = Path(__file__).parents[2]
DOCS = ("DEPLOY", "RUNBOOK", "DELIVERY", "CONFIGURATION", "TUNING")
PAGES = ("README.md", *(f"docs/{name}.md" for name in DOCS))
PROMPT = re.compile(r"^(?:\$ |# )?forwarder (.+)$")
QUOTED = re.compile(r"`forwarder ([a-z][^`]*)`")
SPEAKS_OF = re.compile(r"forwarder ([a-z]+(?: [a-z]+)?)")
PLACEHOLDERS = {"SEQUENCE": "812"}
LETTERS = {"--reason", "--status", "--since", "--type", "--where", "--sequence", "--all"}
WHICH = {"dead replay": LETTERS, "dead purge": LETTERS, "erase": {"--email", "--user-id", "--client-user"}}
"""What these ask for when they run; the parser does not."""


def blocks(text: str) -> Iterator[str]:
    """Yield the commands of fenced blocks, one a line or joined by `&&`."""
    for block in re.findall(r"^```\w*\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        for line in block.splitlines():
            for part in line.partition("  #")[0].split("&&"):
                if found := PROMPT.match(part.strip()):
                    yield found[1]


def to_type(text: str) -> Iterator[str]:
    """Yield what stands in blocks, tables and lists: there a command is meant to be typed as it stands."""
    yield from blocks(text)
    outside = re.sub(r"^```\w*\n.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    for line in outside.splitlines():
        if line.startswith(("| ", "- ", "  ")):
            yield from QUOTED.findall(line)


def spoken_of(text: str) -> set[str]:
    return {found for found in QUOTED.findall(text) if SPEAKS_OF.fullmatch(f"forwarder {found}")}


def take(command: str) -> None:
    """Parse as the command line would, run nothing; raises what it would complain of."""
    words = [PLACEHOLDERS.get(word, word) for word in shlex.split(re.split(r" [|>] ", command)[0])]
    context = click.Context(cli, info_name="forwarder")
    group: click.Command = cli
    while isinstance(group, click.Group):
        name, found, words = group.resolve_command(context, words)
        assert found is not None
        assert name is not None
        group, context = found, click.Context(found, info_name=name, parent=context)
    group.make_context(context.info_name, list(words), parent=context.parent)
    which = WHICH.get(context.command_path.removeprefix("forwarder "))
    if which and not which & set(words):
        raise click.UsageError(f"say which: {', '.join(sorted(which))}")


@pytest.mark.parametrize("page", PAGES)
def test_every_command_in_a_block_a_table_or_a_list_has_the_arguments_it_needs(page: str) -> None:
    complaints = []
    for command in to_type((ROOT / page).read_text()):
        try:
            take(command)
        except click.ClickException as exc:
            complaints.append(f"forwarder {command}: {exc.format_message()}")
    assert complaints == []


def test_every_command_that_is_spoken_of_exists() -> None:
    complaints = []
    for page in PAGES:
        for found in spoken_of((ROOT / page).read_text()):
            try:
                take(found)
            except click.UsageError as exc:
                complaints.append(exc.format_message())
    assert [said for said in complaints if "No such" in said] == []  # a sentence may leave the arguments to --help


def test_what_is_no_command_is_noticed() -> None:
    for wrong in ("dead ls", "dead show NAME", "dead bury NAME", "plan --outage 6h", "dead purge NAME"):
        with pytest.raises(click.ClickException):
            take(wrong)
