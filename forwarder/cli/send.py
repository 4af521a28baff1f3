"""`forwarder send`: events from arguments, a file or stdin, to the daemon."""

import asyncio
import contextlib
import itertools
import socket
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Self

import click
import msgspec
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from forwarder.cli import entrance, feed, post
from forwarder.cli.feed import Event, Unreadable
from forwarder.cli.post import DatagramSender, HttpSender, Result, Sender
from forwarder.errors import DaemonUnreachable

NAMED_REFUSALS = 10_000
SHOWN_REFUSALS = 20
FAILED = 1
USAGE = 2
UNREACHABLE = 4


class Report(msgspec.Struct):
    """What was sent so far and what became of it. Indexes count events from 0 over the whole input."""

    sent: int = 0
    accepted: int = 0
    refused: int = 0
    ack: str | None = None
    error: str | None = None
    refusals: list[dict[str, Any]] = []
    """The first NAMED_REFUSALS."""
    exit_code: int = 0

    def add(self, batch: list[Event], result: Result) -> None:
        """Count one batch."""
        for index, error in result.refused[: NAMED_REFUSALS - len(self.refusals)]:
            self.refusals.append({"index": self.sent + index, "place": batch[index].place, "error": error})
        self.sent += len(batch)
        self.accepted += result.accepted
        self.refused += len(result.refused)
        self.ack = result.ack or self.ack
        if result.fatal or result.refused:
            self.exit_code = FAILED


class _Meter:
    """A progress bar on a terminal, nothing elsewhere. Progress is counted in bytes of input."""

    def __init__(self, *, shown: bool, total_bytes: int | None) -> None:
        self._shown = shown
        self._total = total_bytes
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TimeElapsedColumn(),
            console=Console(stderr=True),
            transient=True,
        )
        self._task: TaskID | None = None

    def __enter__(self) -> Self:
        if self._shown:
            self._progress.start()
            self._task = self._progress.add_task("sending", total=self._total)
        return self

    def __exit__(self, *_: object) -> None:
        if self._shown:
            self._progress.stop()

    def advance(self, batch: list[Event], report: Report) -> None:
        """Show one batch more."""
        if self._task is not None:
            size = sum(len(event.text) + 1 for event in batch)
            self._progress.update(self._task, advance=size, description=f"sent {report.sent:,} events")


@click.command()
@click.argument("events", nargs=-1, metavar="[EVENT_JSON]...")
@click.option(
    "--file",
    "file",
    metavar="FILE",
    help="A JSON array, an object, or NDJSON; - is stdin (the default without events).",
)
@click.option(
    "--to",
    metavar="ADDRESS",
    help="http://HOST:PORT, udp://HOST:PORT, unix:/PATH (HTTP) or unixgram:/PATH. "
    f"[default: what the configuration listens on, else {entrance.DEFAULT}]",
)
@click.option(
    "-c",
    "--config",
    type=click.Path(path_type=Path),
    envvar="FORWARDER_CONFIG",
    help="The daemon's TOML file, for its address.",
)
@click.option("--path", default="/events", show_default=True, metavar="PATH", help="HTTP path.")
@click.option(
    "--form", type=click.Choice(["ndjson", "array", "single"]), help="Body form. [default: what the path takes]"
)
@click.option(
    "--batch", type=click.IntRange(1, 10_000), default=100, show_default=True, metavar="N", help="Events a request."
)
@click.option(
    "--ack",
    type=click.Choice(["memory", "written", "fsync", "delivered"]),
    help="Wait until the events are as safe as this.",
)
@click.option("--strict", is_flag=True, help="Each batch all or nothing.")
@click.option("--header", "headers", multiple=True, metavar="'NAME: VALUE'", help="A further header. Repeatable.")
@click.option(
    "--retries",
    type=click.IntRange(0, 100),
    default=5,
    show_default=True,
    metavar="N",
    help="How often to wait and try again on 429 and 503.",
)
@click.option(
    "--timeout", type=click.FloatRange(0.1), default=30.0, show_default=True, metavar="SECONDS", help="For one answer."
)
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
@click.pass_context
def send(
    ctx: click.Context,
    /,
    events: tuple[str, ...],
    file: str | None,
    *,
    config: Path | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Send events from arguments, a file or stdin.

    \b
    Examples:
      forwarder send '{"appID":"…","clientUser":"…","type":"signup"}'
      forwarder send '{"name":"Signed up","user":{"email":"a@example.com"}}'
      forwarder send --file events.ndjson --ack fsync
      zcat old.ndjson.gz | forwarder send --batch 1000 --json
      forwarder send --config /etc/forwarder/forwarder.toml --file events.json
      forwarder send --to udp://127.0.0.1:8765 --file events.json
      forwarder send --to unix:/run/forwarder/http.sock --path /v2/ --file signals.json

    \b
    Exit codes: 0 all accepted, 1 some refused or failed, 2 usage or
    unreadable input, 4 nobody answers.
    """  # noqa: D301  click's \b marks a verbatim block
    if events and file is not None:
        raise click.UsageError("give events as arguments or by --file, not both")
    options["to"] = options["to"] or entrance.address(config)
    sender = _sender(options)
    with contextlib.ExitStack() as stack:
        feed_, total = _feed(events, file, stack)
        meter = stack.enter_context(_Meter(shown=sys.stderr.isatty() and not as_json, total_bytes=total))
        report = asyncio.run(_send_all(sender, feed_, meter))
    _print(report, as_json=as_json, answered=sender.answered)
    ctx.exit(report.exit_code)


async def _send_all(sender: Sender, events: Iterable[Event], meter: _Meter) -> Report:
    """Send everything, one batch after the other; stop when nobody answers or the answer concerns all that follow."""
    report = Report()
    try:
        async with sender:
            for batch in _batches(events, sender.batch):
                result = await sender.send(batch)
                if result.fatal:
                    report.error, report.exit_code = result.fatal, FAILED
                    break
                report.add(batch, result)
                meter.advance(batch, report)
    except Unreadable as error:
        report.error, report.exit_code = str(error), USAGE
    except DaemonUnreachable as error:
        report.error, report.exit_code = str(error), UNREACHABLE
    return report


def _batches(events: Iterable[Event], size: int) -> Iterator[list[Event]]:
    iterator = iter(events)
    while batch := list(itertools.islice(iterator, size)):
        yield batch


def _feed(
    arguments: tuple[str, ...], file: str | None, stack: contextlib.ExitStack
) -> tuple[Iterable[Event], int | None]:
    """Return the events and how many bytes they are, if that is known."""
    if arguments:
        return feed.from_arguments(arguments), sum(map(len, arguments))
    if file in (None, "-"):
        if sys.stdin.isatty():
            raise click.UsageError("no events: give them as arguments, by --file, or on stdin")
        return feed.from_file(sys.stdin.buffer, "stdin"), None
    path = Path(str(file))
    try:
        opened = stack.enter_context(path.open("rb"))
        size = path.stat().st_size
    except OSError as error:
        raise click.BadParameter(f"cannot read {file}: {error.strerror}", param_hint="--file") from error
    return feed.from_file(opened, str(file)), size or None


def _sender(options: dict[str, Any]) -> Sender:
    try:
        kind, where = post.split(options["to"])
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--to") from error
    if kind in ("udp", "unixgram"):
        return _datagram_sender(kind, where, options)
    path = options["path"]
    if not path.startswith("/"):
        raise click.BadParameter(f"expected a path such as /events or /v2/, got {path!r}", param_hint="--path")
    query = {"strict": "1"} if options["strict"] else {}
    if options["ack"]:
        query["ack"] = options["ack"]
    return HttpSender(
        "http://localhost" if kind == "unix" else where,
        path,
        unix=where if kind == "unix" else None,
        form=options["form"] or post.default_form(path),
        batch=options["batch"],
        query=query,
        headers=dict(map(_header, options["headers"])),
        retries=options["retries"],
        timeout_s=options["timeout"],
    )


def _datagram_sender(kind: str, where: Any, options: dict[str, Any]) -> DatagramSender:
    for name in ("ack", "strict", "form", "headers"):
        if options[name]:
            raise click.UsageError(f"--{name.removesuffix('s')} needs HTTP: nobody answers a datagram")
    if kind == "unixgram":
        return DatagramSender(socket.AF_UNIX, where, options["to"])
    try:
        family, *_, address = socket.getaddrinfo(where[0], where[1], type=socket.SOCK_DGRAM)[0]
    except OSError as error:
        raise click.BadParameter(f"cannot resolve {where[0]}: {error}", param_hint="--to") from error
    return DatagramSender(family, (str(address[0]), int(address[1])), options["to"])


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon or not name.strip():
        raise click.BadParameter(f"expected 'NAME: VALUE', got {name!r}", param_hint="--header")
    return name.strip(), value.strip()


def _print(report: Report, *, as_json: bool, answered: bool) -> None:
    if as_json:
        document = {**msgspec.structs.asdict(report), "accepted": report.accepted if answered else None}
        del document["exit_code"]
        click.echo(msgspec.json.encode(document))
        return
    for row in report.refusals[:SHOWN_REFUSALS]:
        click.echo(f"refused: event {row['index']} ({row['place']}): {row['error']}", err=True)
    if report.refused > SHOWN_REFUSALS:
        click.echo(f"… and {report.refused - SHOWN_REFUSALS:,} more refused", err=True)
    if answered:
        level = f" ({report.ack})" if report.ack and report.accepted else ""
        click.echo(f"{report.accepted:,} accepted{level}, {report.refused:,} refused")
    else:
        click.echo(f"{report.sent - report.refused:,} sent as datagrams; nobody answers those: see `forwarder status`")
    if report.error:
        click.echo(f"forwarder: {report.error}", err=True)
