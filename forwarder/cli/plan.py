"""`forwarder plan`: how much disk an outage needs, and how long the queue then takes to drain."""

import contextlib
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import click
import msgspec

from forwarder.cli.config import CONFIG_OPTION
from forwarder.config import load, quantity, source
from forwarder.config.kinds import defaults
from forwarder.config.model import Destination, SpoolConfig
from forwarder.core import report
from forwarder.errors import ConfigurationError
from forwarder.spool import space
from forwarder.vendors import VENDORS

LATE_S = 24 * 3600.0
"""TelemetryDeck counts what arrives later than this for the time of arrival."""
HEADROOM = 1.25
Kind = Literal["telemetrydeck", "encharge"]


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked: events a second of so many bytes, and a vendor that is away for so many seconds."""

    rate: float
    event_bytes: int
    outage_s: float
    latency_s: float
    """One request of the vendor, when it is back."""


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """The answer for one destination; sizes in bytes, durations in seconds. None: never."""

    destination: str
    kind: str
    queued_events: int
    disk_bytes: int
    limit_bytes: int
    fits: bool
    full_after_s: float
    when_full: str
    lost_events: int
    """Evicted or refused, if the limit stays as it is."""
    needed_bytes: int
    """A `max_size` with some headroom."""
    delivered_per_second: float
    """The most that this configuration delivers."""
    drain_s: float | None
    notes: list[str]


def reckon(destination: Destination, load: Load, max_total: int) -> Plan:
    """Return what an outage does to one destination."""
    each = space.cost(load.event_bytes, 1)  # the most that an event takes, sent in a request of its own
    events = int(load.rate * load.outage_s)
    disk = events * each
    full_after = destination.max_size / (load.rate * each)
    pace = _pace(destination, load)
    queued = min(events, destination.max_size // each)
    needed = _round_up(int(disk * HEADROOM))
    return Plan(
        destination=destination.name,
        kind=destination.kind,
        queued_events=events,
        disk_bytes=disk,
        limit_bytes=destination.max_size,
        fits=disk <= destination.max_size,
        full_after_s=full_after,
        when_full=destination.when_full,
        lost_events=events - queued,
        needed_bytes=needed,
        delivered_per_second=pace,
        drain_s=queued / (pace - load.rate) if pace > load.rate else None,
        notes=_notes(destination, load, pace, needed, max_total),
    )


def _pace(destination: Destination, load: Load) -> float:
    """Return the most events a second: all requests at once, each full, limited by `rate_limit`."""
    return min(_unlimited(destination, load), _limit(destination, load))


def _unlimited(destination: Destination, load: Load) -> float:
    return destination.concurrency / load.latency_s * _a_request(destination, load)


def _limit(destination: Destination, load: Load) -> float:
    limit = destination.rate_limit
    return min((limit.requests or math.inf) * _a_request(destination, load), limit.events or math.inf)


def _a_request(destination: Destination, load: Load) -> int:
    """Return the events of a full request."""
    flush = destination.flush
    if not VENDORS[destination.kind].batched:
        return 1
    return max(1, min(flush.max_events, flush.max_bytes // load.event_bytes))


def _remedy(destination: Destination, load: Load) -> str:
    """Return the settings that keep the pace at or below what comes in, and that this kind has."""
    own, flush = "concurrency", destination.flush
    if batched := VENDORS[destination.kind].batched:
        by_count = flush.max_events <= flush.max_bytes // load.event_bytes
        own += " or flush.max_events" if by_count else " or flush.max_bytes"
    if _limit(destination, load) > load.rate:
        return own
    if _unlimited(destination, load) > load.rate:
        return "rate_limit"
    return f"{own}, and rate_limit" if batched else f"{own} and rate_limit"


def _notes(destination: Destination, load: Load, pace: float, needed: int, max_total: int) -> list[str]:
    path = f"destinations.{destination.name}"
    notes = []
    if load.rate * space.cost(load.event_bytes, 1) * load.outage_s > destination.max_size:
        notes.append(f'set {path}.max_size = "{quantity.size_text(needed)}" (and spool.max_total above it)')
    elif destination.max_size > max_total:
        notes.append("spool.max_total is less than max_size: it is the limit that counts")
    if pace <= load.rate:
        notes.append(f"it never catches up: raise {path}.{_remedy(destination, load)}")
    if load.outage_s > destination.max_age:
        notes.append(f"events expire after {path}.max_age = {quantity.duration_text(destination.max_age)}")
    if destination.kind == "telemetrydeck" and load.outage_s > LATE_S:
        notes.append("TelemetryDeck counts what arrives more than 24 h late for the time of arrival")
    return notes


def _round_up(size: int) -> int:
    step = 64 * 1024**2
    return max(step, -(-size // step) * step)


class _Quantity(click.ParamType):  # type: ignore[type-arg]  # generic only in new releases of click
    """A duration or a size, as in the configuration."""

    def __init__(self, name: str, parse: Callable[[str], float | None], example: str) -> None:
        self.name = name
        self._parse = parse
        self._example = example

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the number, or fail with what was expected."""
        if not isinstance(value, str):
            return value
        number = self._parse(value)
        if not number:
            self.fail(f"{value!r} is no {self.name}, expected something like {self._example}", param, ctx)
        return number


_DURATION = _Quantity("duration", quantity.seconds, "250ms, 90s or 6h")
_SIZE = _Quantity("size", quantity.size, "600B or 2KiB")


@click.command(
    epilog="""\b
Examples:
  forwarder plan --rate 500 --outage 6h
  forwarder plan --rate 20 --outage 2d --event-size 2KiB --kind encharge
  forwarder plan --rate 500 --outage 6h --json | jq '.[].needed_bytes'"""
)
@CONFIG_OPTION
@click.option(
    "--rate", type=click.FloatRange(min=0, min_open=True), required=True, help="Events a second, per destination."
)
@click.option("--outage", type=_DURATION, required=True, help="How long the vendor is away.")
@click.option("--event-size", type=_SIZE, default="600B", show_default=True, help="Bytes of a usual event.")
@click.option(
    "--latency", type=_DURATION, default="200ms", show_default=True, help="Time of one request to the vendor."
)
@click.option("--kind", type=click.Choice(sorted(VENDORS)), help="Reckon with the defaults of a kind, without a file.")
@click.option("--json", "as_json", is_flag=True, help="Print the plans as JSON.")
def plan(
    path: Path | None, *, rate: float, outage: float, event_size: int, latency: float, kind: Kind | None, as_json: bool
) -> None:
    """Say how much disk an outage of the vendor needs, and how long the queue takes to drain afterwards.

    It reckons with the configuration in force (without one: with the defaults of both kinds), and at the safe side:
    every event sent in a request of its own.
    """
    spool, destinations = _chosen(path, kind)
    asked = Load(rate=rate, event_bytes=event_size, outage_s=outage, latency_s=latency)
    plans = [reckon(destination, asked, spool.max_total) for destination in destinations]
    if as_json:
        click.echo(msgspec.json.encode(plans))
        return
    for found in plans:
        click.echo(_words(found, asked))


def _chosen(path: Path | None, kind: Kind | None) -> tuple[SpoolConfig, list[Destination]]:
    if kind is not None:
        return SpoolConfig(), [_usual(kind)]
    if path is None and source.find(None, os.environ) is None:
        with contextlib.suppress(ConfigurationError):  # perhaps the environment holds all that is needed
            config, _ = load(None)
            return config.spool, list(config.destinations)
        click.echo("no configuration was found: this reckons with the defaults of both kinds", err=True)
        return SpoolConfig(), [_usual(each) for each in VENDORS]
    config, _ = load(path)
    return config.spool, list(config.destinations)


def _usual(kind: str) -> Destination:
    """Return a destination with the defaults of its kind."""
    return Destination(name=kind, kind=kind, **defaults(kind, SpoolConfig()))  # type: ignore[arg-type]


def _words(found: Plan, asked: Load) -> str:
    verdict = "fits" if found.fits else f"does not fit: full after {report.duration(found.full_after_s)}, then "
    if not found.fits:
        gone = "the oldest are evicted" if found.when_full == "evict_oldest" else "senders get 503"
        verdict += f"{gone} ({found.lost_events:,} events)"
    drain = "never" if found.drain_s is None else f"in {report.duration(found.drain_s)}"
    rows = [
        f"{found.destination} ({found.kind}): {asked.rate:g} events/s, away for {report.duration(asked.outage_s)}",
        f"  queued   {found.queued_events:,} events",
        f"  disk     {quantity.size_words(found.disk_bytes)} of {quantity.size_words(found.limit_bytes)}: {verdict}",
        f"  drains   {drain}, at up to {found.delivered_per_second:,.0f} events/s while new ones come in",
    ]
    return "\n".join([*rows, *(f"  note     {note}" for note in found.notes)])
