"""`forwarder receive`: the stand-in for both vendors on a port of this machine."""

import asyncio
import contextlib
import random
import signal
import ssl
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from forwarder.config import address
from forwarder.config.unfit import Unfit
from forwarder.receiver import Faults, Journal, Receiver, Seen
from forwarder.receiver.control import request_line
from forwarder.receiver.faults import MOMENTS, NONE, duration, size
from forwarder.receiver.routes import VENDORS

LINES_A_SECOND = 50
SHOWN_TYPES = 4
SHOWN_LETTERS = 200
CLOSED = 0
CLIENT_ERROR = 400
SERVER_ERROR = 500


class _Quantity(click.ParamType):  # type: ignore[type-arg]  # generic only in new releases of click
    """A duration or a size, as in the configuration."""

    def __init__(self, name: str, parse: Callable[[str], float]) -> None:
        self.name = name
        self._parse = parse

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the number, or fail with what was expected."""
        if not isinstance(value, str):
            return value
        try:
            return self._parse(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


DURATION = _Quantity("duration", duration)
SIZE = _Quantity("size", size)


class _Reporter:
    """Prints a line a request; at more than LINES_A_SECOND the rest of the second is summed up in one line."""

    def __init__(self, *, as_json: bool, wall: Callable[[], float]) -> None:
        self._as_json = as_json
        self._wall = wall
        self._second = 0
        self._lines = 0
        self._unseen = 0
        self._unseen_events = 0

    def __call__(self, seen: Seen) -> None:
        """Print one finished request; a reader that went away (`| head`) is no reason to stop receiving."""
        with contextlib.suppress(BrokenPipeError):
            self._print(seen)

    def rest(self) -> None:
        """Print what was left out so far."""
        if self._unseen:
            click.echo(f"… and {self._unseen:,} more requests with {self._unseen_events:,} events")
            self._unseen = self._unseen_events = 0

    def _print(self, seen: Seen) -> None:
        if self._as_json:
            click.echo(request_line(seen), nl=False)
        elif self._may_print():
            click.echo(readable(seen))
        else:
            self._unseen += 1
            self._unseen_events += seen.events

    def _may_print(self) -> bool:
        second = int(self._wall())
        if second != self._second:
            self._second, self._lines = second, 0
            self.rest()
        self._lines += 1
        return self._lines <= LINES_A_SECOND


def readable(seen: Seen) -> str:
    """Return one request as people read it."""
    at = time.strftime("%H:%M:%S", time.localtime(seen.at)) + f".{int(seen.at % 1 * 1000):03d}"
    status = click.style(str(seen.status) if seen.status else "cut", fg=_colour(seen.status), bold=True)
    types = ", ".join(f"{name} ×{n}" if n > 1 else name for name, n in list(seen.types.items())[:SHOWN_TYPES])
    types += ", …" if len(seen.types) > SHOWN_TYPES else ""
    facts = [f"{seen.events} events"] if seen.events != 1 else ["1 event"]
    facts += [f"{seen.size:,} bytes", _harmless(types), _harmless(seen.error)]
    if seen.unstamped:
        facts.append(click.style(f"{seen.unstamped} without receivedAt", fg="yellow"))
    if seen.fault:
        facts.append(click.style(f"[{seen.fault}]", fg="magenta"))
    who = seen.vendor or "?"
    return f"{at}  {status}  {who:<13}  {seen.method} {_harmless(seen.path)}  {'  '.join(filter(None, facts))}"


def _harmless(text: str) -> str:
    """Return foreign text without what a terminal would act on, shortened."""
    return "".join(letter if letter.isprintable() else "�" for letter in text[:SHOWN_LETTERS])


def _colour(status: int) -> str:
    if status == CLOSED or status >= SERVER_ERROR:
        return "red"
    return "yellow" if status >= CLIENT_ERROR else "green"


@click.command()
@click.option(
    "--http",
    default="127.0.0.1:8770",
    show_default=True,
    metavar="HOST:PORT",
    help="Where to listen; port 0 takes a free one.",
)
@click.option("--vendor", type=click.Choice(VENDORS), help="Stand in for one vendor only. [default: both]")
@click.option(
    "--key",
    envvar="FORWARDER_RECEIVE_KEY",
    metavar="KEY",
    help="Encharge write key to demand; without it any key passes. [env: FORWARDER_RECEIVE_KEY]",
)
@click.option(
    "--require-received-at",
    is_flag=True,
    help="Refuse TelemetryDeck signals without receivedAt (the vendor would stamp its own time).",
)
@click.option(
    "--tls-cert",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Speak HTTPS with this certificate (PEM).",
)
@click.option(
    "--tls-key",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Its private key, if not in the same file.",
)
@click.option(
    "--store",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help='Append every event: {"at":…,"vendor":…,"path":…,"event":…} a line.',
)
@click.option(
    "--store-bodies",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Keep every request body as it came, one file a request.",
)
@click.option(
    "--keep",
    type=click.IntRange(min=0),
    default=100_000,
    show_default=True,
    metavar="N",
    help="Events to keep in memory for GET /_receiver/received.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON lines.")
@click.option("--quiet", is_flag=True, help="Print the address and the totals at the end only.")
@click.option("--fast", is_flag=True, help="For benchmarks: check nothing, keep nothing, only count.")
@click.option("--status", type=click.IntRange(200, 599), metavar="CODE", help="Fault: answer every request with this.")
@click.option(
    "--fail-rate",
    type=click.FloatRange(0, 1),
    default=0.0,
    metavar="SHARE",
    help="Fault: answer this share of the requests with --fail-status.",
)
@click.option(
    "--fail-status",
    type=click.IntRange(200, 599),
    default=503,
    show_default=True,
    metavar="CODE",
    help="What --fail-rate answers.",
)
@click.option("--seed", type=int, metavar="N", help="Make --fail-rate draw the same lots every time.")
@click.option(
    "--retry-after",
    metavar="VALUE",
    help="Fault: send Retry-After (seconds or an HTTP date) with every failure ordered.",
)
@click.option("--answer", metavar="TEXT", help="Fault: the body of every answer that a fault brings about.")
@click.option(
    "--latency",
    type=DURATION,
    default=0.0,
    metavar="DURATION",
    help="Fault: store the events, then answer so much later.",
)
@click.option(
    "--refuse-type",
    "refuse_types",
    multiple=True,
    metavar="TYPE",
    help="Fault: refuse any request that holds an event of this type or name. Repeatable.",
)
@click.option(
    "--refuse-user",
    "refuse_users",
    multiple=True,
    metavar="USER",
    help="Fault: the same for clientUser, email or userId. Repeatable.",
)
@click.option(
    "--refuse-app", "refuse_apps", multiple=True, metavar="APPID", help="Fault: the same for appID. Repeatable."
)
@click.option(
    "--refuse-status",
    type=click.IntRange(200, 599),
    default=400,
    show_default=True,
    metavar="CODE",
    help="What the three above answer.",
)
@click.option("--reset", type=click.Choice(MOMENTS), help="Fault: reset the connection at this moment.")
@click.option("--hang", type=click.Choice(MOMENTS), help="Fault: never answer, from this moment on.")
@click.option("--max-body", type=SIZE, metavar="SIZE", help="Fault: 413 for a larger body.")
@click.option("--max-events", type=click.IntRange(min=1), metavar="N", help="Fault: 413 for a longer array.")
@click.option("--only-path", metavar="PREFIX", help="Faults concern only requests whose path begins so.")
@click.option("--only-vendor", type=click.Choice(VENDORS), help="Faults concern only this vendor.")
@click.option("--for", "requests", type=click.IntRange(min=1), metavar="N", help="Faults end after N requests.")
def receive(**options: Any) -> None:
    """Stand in for TelemetryDeck and Encharge, with faults to order.

    Serves both vendors' ingest paths as strictly as they are documented, prints what arrives, and fails on demand.
    Point a destination's url at it: http://127.0.0.1:8770 for TelemetryDeck, http://127.0.0.1:8770/v1 for Encharge.

    \b
    Examples:
      forwarder receive                                    print what arrives
      forwarder receive --store got.ndjson --quiet         keep it
      forwarder receive --status 503 --retry-after 5       down
      forwarder receive --fail-rate 0.2 --latency 200ms    flaky and slow
      forwarder receive --refuse-type Bad.event            one bad event sinks its batch
      forwarder receive --reset after-storing --for 3      three answers get lost
      forwarder receive --only-vendor encharge --status 401

    \b
    While it runs (paths of its own, no vendor has them):
      curl -X PUT 127.0.0.1:8770/_receiver/faults -d '{"status":503,"requests":10}'
      curl -X PUT 127.0.0.1:8770/_receiver/faults \\
           -d '[{"vendor":"encharge","hang":"after-body"},{"latency":"200ms"}]'
      curl -X DELETE 127.0.0.1:8770/_receiver/faults       all is well again
      curl 127.0.0.1:8770/_receiver/received               counts
      curl '127.0.0.1:8770/_receiver/received?events=all'  the events, as NDJSON
      curl -X DELETE 127.0.0.1:8770/_receiver/received     forget them
      curl 127.0.0.1:8770/_receiver/requests               the last requests, as NDJSON

    Ends with SIGINT or SIGTERM, exit code 0.
    """  # noqa: D301  click's \b marks a verbatim block
    reporter = _Reporter(as_json=options["as_json"], wall=time.time)
    receiver = _build(options, None if options["quiet"] else reporter)
    try:
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            runner.run(_run(receiver, as_json=options["as_json"], rest=reporter.rest))
    except BrokenPipeError:
        raise  # click ends quietly when nobody reads the output any more
    except OSError as error:
        raise click.ClickException(f"cannot stand in at {options['http']}: {error}") from error


def _build(options: dict[str, Any], on_request: Callable[[Seen], None] | None) -> Receiver:
    host, port = _host_and_port(options["http"])
    journal = Journal(keep_events=options["keep"], store=options["store"], bodies=options["store_bodies"])
    faults = _faults(options)
    if options["fast"] and (options["store"] or faults.looks_inside):
        raise click.UsageError("--fast looks into no event: --store, --refuse-… and --max-events do not go with it")
    return Receiver(
        host=host,
        port=port,
        key=options["key"],
        vendors=(options["vendor"],) if options["vendor"] else VENDORS,
        require_received_at=options["require_received_at"],
        faults=() if faults == NONE else faults,
        fast=options["fast"],
        journal=journal,
        ssl_context=_tls(options["tls_cert"], options["tls_key"]),
        on_request=on_request,
        chance=random.Random(options["seed"]).random,  # noqa: S311  lots, not secrets
    )


def _faults(options: dict[str, Any]) -> Faults:
    renamed = {"vendor": options["only_vendor"], "path": options["only_path"]}
    fields = {name: options[name] for name in Faults.__struct_fields__ if name not in renamed}
    order = Faults(**fields, **renamed)
    idle = Faults(**renamed, requests=options["requests"])
    if order == idle and idle != NONE:
        raise click.UsageError("--only-vendor, --only-path and --for need a fault to limit, such as --status 503")
    return order


def _host_and_port(text: str) -> tuple[str, int]:
    try:
        bound = address.parse(text, address.TCP)
    except Unfit as unfit:
        raise click.BadParameter(str(unfit), param_hint="--http") from unfit
    if bound.host is None:
        raise click.BadParameter(f"expected {address.TCP}, got {text!r}", param_hint="--http")
    return bound.host, bound.port


def _tls(cert: Path | None, key: Path | None) -> ssl.SSLContext | None:
    if cert is None:
        if key is not None:
            raise click.UsageError("--tls-key needs --tls-cert")
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(cert, key)
    except (ssl.SSLError, OSError) as error:
        raise click.BadParameter(
            f"no usable certificate and key in {cert}: {error}", param_hint="--tls-cert"
        ) from error
    return context


async def _run(receiver: Receiver, *, as_json: bool, rest: Callable[[], None]) -> None:
    ended = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    async with receiver:
        click.echo(f'{{"event":"listening","url":"{receiver.url}"}}' if as_json else f"listening on {receiver.url}")
        await ended.wait()
    rest()
    counts = receiver.journal.counts()
    if as_json:
        return
    click.echo(
        f"{counts['events']:,} events in {counts['requests']:,} requests: "
        f"{counts['telemetrydeck']:,} telemetrydeck, {counts['encharge']:,} encharge"
    )


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Return uvloop's, where it installs."""
    if sys.platform == "win32" or sys.implementation.name != "cpython":
        return None
    import uvloop  # noqa: PLC0415  not on every platform

    return uvloop.new_event_loop
