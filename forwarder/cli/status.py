"""`forwarder status`: am I accepting, what is queued, how old, why."""

import contextlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import msgspec
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from forwarder.cli import control_client
from forwarder.core.report import DestinationReport, Report, duration, moment
from forwarder.core.seams import LaneStatus, ListenerStatus
from forwarder.errors import DaemonUnreachable

NOT_ACCEPTING = 3
_COLOURS = {"flowing": "green", "probing": "yellow", "backing_off": "yellow", "parked": "red", "stopped": "yellow"}
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")
Row = tuple[str, Text | str]


@click.command()
@control_client.config_option
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
@click.option("-w", "--watch", is_flag=True, help="Refresh until interrupted.")
@click.option(
    "--interval", type=click.FloatRange(min=0.2), default=2.0, show_default=True, help="Seconds between refreshes."
)
@click.option(
    "--timeout",
    type=click.FloatRange(min=0.1),
    default=control_client.TIMEOUT_S,
    show_default=True,
    help="Seconds for an answer, from the control socket and then from the admin listener.",
)
@click.pass_context
def status(
    ctx: click.Context, path: Path | None, *, as_json: bool, watch: bool, interval: float, timeout: float
) -> None:
    """Show what is queued per destination, how old, and why.

    Asks the daemon of the configuration through its control socket or, where that is not permitted, its admin listener.

    \b
    Examples:
      forwarder status                        one screen
      forwarder status --watch                the same, refreshed
      forwarder status --json | jq '.destinations[] | {name, words, queued: .spool.queued_events}'

    \b
    Exit codes: 0 accepting, 2 configuration, 3 not accepting, 4 no daemon answers.
    """  # noqa: D301  click's \b marks a verbatim block
    config = control_client.load_config(path)
    if watch:
        _watch(lambda: control_client.fetch_report(config, timeout), interval, Console(highlight=False))
        return
    report = control_client.fetch_report(config, timeout)
    if as_json:
        click.echo(msgspec.json.encode(report))
    else:
        Console(highlight=False).print(screen(report))
    if not report.accepting:
        ctx.exit(NOT_ACCEPTING)


def _watch(fetch: Callable[[], Report], interval: float, console: Console) -> None:
    """Refresh until Ctrl-C; a daemon that goes away is shown as such, and again when it is back."""
    wait = threading.Event().wait
    with contextlib.suppress(KeyboardInterrupt):
        if not console.is_terminal:
            console.print(screen(fetch()))
            while not wait(interval):
                console.print(_latest(fetch))
        with Live(screen(fetch()), console=console, auto_refresh=False, screen=True) as live:
            while not wait(interval):
                live.update(_latest(fetch), refresh=True)


def _latest(fetch: Callable[[], Report]) -> RenderableType:
    try:
        return screen(fetch())
    except DaemonUnreachable as exc:
        return Text(str(exc), style="red")


def screen(report: Report) -> Group:
    """Return the whole report as one screen."""
    blocks: list[RenderableType] = [_headline(report)]
    for destination in report.destinations:
        blocks += [Text(""), _title(destination), _table(_rows(destination, report.now))]
    blocks += [Text(""), _table(_daemon_rows(report))]
    return Group(*blocks)


def _headline(report: Report) -> Text:
    up = duration(max(report.now - report.started_at, 0))
    line = Text.assemble(("forwarder ", "bold"), f"{report.version}, up {up}: ")
    if report.accepting:
        return line.append("accepting events", style="bold green")
    return line.append(f"NOT accepting events: {plain(report.not_accepting or '')}", style="bold red")


def _title(destination: DestinationReport) -> Text:
    colour = _COLOURS.get(destination.lane.state, "yellow") if destination.lane else "yellow"
    return Text.assemble((f"{destination.name}  ", "bold"), (plain(destination.words), colour))


def _table(rows: Iterator[Row]) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows:
        table.add_row(f"  {name}", value if isinstance(value, Text) else Text(value))
    return table


def _rows(found: DestinationReport, now: float) -> Iterator[Row]:
    spool, lane = found.spool, found.lane
    yield "queued", _queued(found)
    yield "rates", _rates(found, now)
    if lane is not None:
        yield from _errors(found, lane, now)
        yield from _oddities(lane)
    if found.advice:
        yield "to do", found.advice
    if spool.trouble:
        since = f", since {_at(spool.trouble_since, now)}" if spool.trouble_since else ""
        meanwhile = "" if spool.refusing else "; events are accepted meanwhile"
        yield "disk trouble", Text(f"{plain(spool.trouble)}{since}{meanwhile}", style="red")
    for first, end in spool.unreadable:
        yield "unreadable", Text(f"sequences {first} to {end - 1}", style="red")
    yield "dead letters", _dead(found)
    yield "ledger", _ledger(found)


def _queued(found: DestinationReport) -> str:
    spool = found.spool
    queued = "nothing"
    if spool.queued_events:
        queued = f"{count(spool.queued_events, 'event')}, oldest {duration(found.oldest_age_s or 0)}"
    return f"{queued}; {size(spool.bytes)} of {size(spool.limit_bytes)} on disk"


def _rates(found: DestinationReport, now: float) -> str:
    accepted = "…" if found.accepted_per_second is None else f"{found.accepted_per_second:,.1f}/s"
    facts = [f"{accepted} in, {found.delivered_per_second:,.1f}/s delivered"]
    if found.lane is not None:
        last = found.lane.last_delivered_at
        facts.append("none since the start" if last is None else f"the last {duration(max(now - last, 0))} ago")
    if found.seconds_to_full is not None:
        facts.append(f"full in {duration(found.seconds_to_full)}")
    if found.seconds_to_empty is not None and found.spool.queued_events:
        facts.append(f"empty in {duration(found.seconds_to_empty)}")
    return "; ".join(facts)


def _errors(found: DestinationReport, lane: LaneStatus, now: float) -> Iterator[Row]:
    if lane.last_error:
        said = ", as above" if lane.last_error in found.words else f": {plain(lane.last_error)}"
        yield "last error", f"{_at(lane.last_error_at, now)}{said}"
    for key, why in lane.parked_keys.items():
        yield "parked key", Text(f"{plain(key)}: {plain(why)}", style="red")


def _oddities(lane: LaneStatus) -> Iterator[Row]:
    if lane.late_events:
        late = f"{lane.late_events:,} arrived over 24 h late: the vendor clamps their time"
        yield "late", Text(late, style="yellow")
    if lane.set_aside:
        yield "set aside", f"{lane.set_aside:,} that failed, tried alone"
    if lane.order_waits:
        yield "order", f"waited for a person's turn {lane.order_waits:,} times: too many persons with long queues"


def _dead(found: DestinationReport) -> Text | str:
    letters = found.dead_letters
    if letters is None or not (letters.present or letters.replayed or letters.purged):
        return "none"
    facts = f"{letters.present:,} present, {letters.replayed:,} replayed, {letters.purged:,} purged"
    if not letters.present:
        return facts
    return Text.assemble((facts, "yellow"), f"   (forwarder dead ls {found.name})")


def _ledger(found: DestinationReport) -> Text:
    spool = found.spool
    given = spool.next_sequence - spool.first_sequence
    parts = [f"{spool.queued_events:,} queued"] + [f"{total:,} {word}" for word, total in spool.ledger.items() if total]
    line = Text(f"{given:,} = {' + '.join(parts)}  ")
    if spool.imbalance:
        return line.append(f"{abs(spool.imbalance):,} events unaccounted for", style="bold red")
    return line.append("balanced", style="green")


def _daemon_rows(report: Report) -> Iterator[Row]:
    if report.stuck:
        yield "stuck", Text(plain(report.stuck), style="bold red")
    for kind in dict.fromkeys(listener.kind for listener in report.listeners):
        yield kind.replace("_", " "), _listeners([each for each in report.listeners if each.kind == kind])
    for listener in report.listeners:
        yield from _unwelcome(listener, report.now)
    disk = report.disk
    used = f"{size(disk.used_bytes)} of {size(disk.limit_bytes)} used"
    yield "disk", f"{used}, {size(disk.free_bytes)} free in {disk.directory}"
    for note in report.notes:
        yield "note", Text(plain(note), style="yellow")


def _listeners(found: list[ListenerStatus]) -> Text:
    line = Text("; ").join(map(_listener, found))
    connections = sum(listener.connections for listener in found)
    return line.append(f"; {count(connections, 'connection')}") if connections else line


def _listener(found: ListenerStatus) -> Text:
    line = Text(plain(found.label.removeprefix(f"{found.kind}:")))
    if found.kernel_drops:
        line.append(f", {count(found.kernel_drops, 'datagram')} dropped by the kernel", style="red")
    if found.note:
        line.append(f", {plain(found.note)}", style="yellow")
    return line if found.accepting else line.append(", not accepting", style="red")


def _unwelcome(found: ListenerStatus, now: float) -> Iterator[Row]:
    """Tell of events that came to a listener and were not accepted."""
    for verb, reasons in (("refused", found.refused), ("shed", found.shed)):
        if not reasons:
            continue
        why = ", ".join(f"{events:,} {plain(reason)}" for reason, events in reasons.items())
        text = f"{plain(found.label)}: {sum(reasons.values()):,} of {count(found.received, 'event')} ({why})"
        if verb == "refused" and found.last_refusal:
            text += f"; the last {_at(found.last_refused_at, now)}: {plain(found.last_refusal)}"
        yield verb, Text(text, style="yellow")


def size(number: float) -> str:
    """Return bytes as people read them."""
    for unit in _UNITS:
        if number < 1024 or unit == _UNITS[-1]:  # noqa: PLR2004 (a KiB)
            return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1024
    raise AssertionError(number)


def plain(text: str) -> str:
    """Return `text` without what a terminal would obey: a vendor's words may be among it."""
    return "".join(character if character.isprintable() else "�" for character in text)


def count(number: int, noun: str) -> str:
    """Return `1 event`, `1,234 events`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def _at(at: float | None, now: float) -> str:
    return f"{moment(at, now)} ({duration(max(now - at, 0))} ago)" if at is not None else "at an unknown time"
