"""`forwarder check`: says whether a configuration is right, and what would run."""

import json
import os
import shutil
from collections.abc import Callable, Mapping
from itertools import zip_longest
from pathlib import Path
from typing import Any

import click
import msgspec

from forwarder.cli.config import CONFIG_OPTION, USAGE_EXIT
from forwarder.config import certificates, examine, mask, quantity, source, written
from forwarder.config.model import Config, Destination

LEAST_FREE_SHARE = 0.05
"""`spool.min_free` never asks for more than this share of the volume."""

Extra = Callable[[Config], list[str]]
"""A further check, of what the configuration layer cannot know: returns problems."""


class Volume(msgspec.Struct, frozen=True):
    """The file system under the spool directory, in bytes."""

    path: str
    total: int
    free: int
    writable: bool


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What `check` prints."""

    valid: bool
    source: str | None
    problems: list[str]
    notes: list[str]
    summary: dict[str, list[str]]
    """What would run: lines by listener, spool and destination."""


@click.command(
    epilog="""\b
Examples:
  forwarder check
  forwarder check --config /etc/forwarder/forwarder.toml
  forwarder check --json | jq -r '.problems[]'"""
)
@CONFIG_OPTION
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def check(path: Path | None, *, as_json: bool) -> None:
    """Check the configuration without starting anything: every problem at once, then what would run.

    Exits with 0 if it can be used (notes are no problems), else with 2.
    """
    verdict = judge(path, extra=_further_problems)
    click.echo(json.dumps(msgspec.to_builtins(verdict), indent=2, ensure_ascii=False) if as_json else render(verdict))
    raise click.exceptions.Exit(0 if verdict.valid else USAGE_EXIT)


def judge(path: Path | None, *, environ: Mapping[str, str] = os.environ, extra: Extra = lambda _: []) -> Verdict:
    """Return everything that is to say about the configuration at `path`."""
    config, findings = examine(path, environ=environ)
    problems, notes, summary = list(findings.problems), list(findings.notes), {}
    if config is not None:
        problems += extra(config)
        volume = survey(Path(config.spool.directory))
        notes += disk_notes(config, volume)
        summary = summarize(config, volume)
    file = source.find(path, environ)
    return Verdict(
        valid=not problems, source=str(file) if file else None, problems=problems, notes=notes, summary=summary
    )


def render(verdict: Verdict) -> str:
    """Return the verdict for people."""
    lines = [f"problem: {problem}" for problem in verdict.problems]
    lines += [f"note: {note}" for note in verdict.notes]
    if lines:
        lines.append("")
    where = verdict.source or "environment"
    if not verdict.valid:
        count = len(verdict.problems)
        return "\n".join([*lines, f"{where}: cannot be used, {count} problem{'s' if count > 1 else ''}"])
    width = max(map(len, verdict.summary))
    for what, facts in verdict.summary.items():
        lines += [f"{label:<{width}}  {fact}" for label, fact in zip_longest([what], facts, fillvalue="")]
    return "\n".join([*lines, "", f"{where}: valid"])


def survey(directory: Path) -> Volume:
    """Return the volume that `directory` is on, or will be on once it is made."""
    existing = next(parent for parent in (directory, *directory.parents) if parent.exists())
    usage = shutil.disk_usage(existing)
    writable = existing.is_dir() and os.access(existing, os.W_OK | os.X_OK)
    return Volume(path=str(existing), total=usage.total, free=usage.free, writable=writable)


def disk_notes(config: Config, volume: Volume) -> list[str]:
    """Return what the volume and the limits say to each other."""
    spool = config.spool
    least = min(spool.min_free, int(volume.total * LEAST_FREE_SHARE))
    words = quantity.size_words
    notes = []
    if not volume.writable:
        notes.append(f"spool.directory: this user cannot write to {volume.path}; does the daemon run as another one?")
    if spool.max_total > volume.total - least:
        fit = max(1, int((volume.total - least) * 0.8) >> 20)
        notes.append(
            f"spool.max_total: {words(spool.max_total)} is more than the volume of {volume.path} holds "
            f"({words(volume.total)}, {words(least)} of it kept free): the disk's limit comes first; "
            f'set it to "{fit}MiB" or less'
        )
    elif (together := sum(one.max_size for one in config.destinations)) > volume.total - least:
        notes.append(
            f"destinations: their max_size add up to {words(together)}, more than the volume of {volume.path} holds "
            f"({words(volume.total)}, {words(least)} of it kept free): in a long outage of all of them the largest "
            "queue gives way; lower them"
        )
    if volume.free <= least:
        notes.append(
            f"spool.min_free: {volume.path} has {words(volume.free)} free and {words(least)} must stay free: "
            "as it is no event would be accepted; free some space or lower min_free"
        )
    return notes


def summarize(config: Config, volume: Volume) -> dict[str, list[str]]:
    """Return what would run."""
    listen, spool = config.listen, config.spool
    listeners = {"http": listen.http, "udp": listen.udp, "unix_datagram": listen.unix_datagram}
    lines = {kind: [", ".join(item.label for item in addresses)] for kind, addresses in listeners.items() if addresses}
    lines["admin"] = [listen.admin.label if listen.admin else "none"]
    limit, free = quantity.size_text(spool.max_total), quantity.size_words(volume.free)
    lines["spool"] = [f"{spool.directory}, {spool.durability}, at most {limit} ({free} free on the volume)"]
    return lines | {item.name: _delivery(item) for item in config.destinations}


def _delivery(destination: Destination) -> list[str]:
    facts: dict[str, Any] = written.table(destination)
    parts = [f"{destination.kind} at {mask.redacted(destination.url)}"]
    if destination.write_key is not None:
        parts.append(f"write key from {written.secret_text(destination.write_key)}")
    if destination.kind == "telemetrydeck":
        flush = facts["flush"]
        parts.append(f"up to {flush['max_events']} events or {flush['max_bytes']} a request, every {flush['interval']}")
    parts.append(f"at most {destination.concurrency} requests at once")
    full = "senders get 503" if destination.when_full == "refuse" else "the oldest events are dropped"
    parts.append(f"queue of at most {facts['max_size']}, then {full}")
    old = "become dead letters" if destination.expired == "dead_letter" else "are dropped"
    parts.append(f"events older than {facts['max_age']} {old}")
    if destination.proxy is not None:
        parts.append(f"through {mask.redacted(destination.proxy)}")
    return parts


def _further_problems(config: Config) -> list[str]:
    """Return destinations that could take the same request, and certificates that TLS cannot use."""
    from forwarder.vendors import router  # noqa: PLC0415 - vendor decoders are needed by no other command of this file

    return [*router.find_conflicts(config.destinations), *certificates.problems(config)]
