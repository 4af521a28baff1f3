"""Contradictions: settings that are right one by one and wrong together. Each rule adds what it finds to the report."""

from collections.abc import Iterable, Mapping
from itertools import combinations
from typing import Any
from urllib.parse import urlsplit

from forwarder.config import address, kinds, mask, quantity
from forwarder.config.model import KIB, Address, Config, Destination
from forwarder.config.report import Report


def judge(config: Config, raw: Mapping[str, Any], report: Report) -> None:
    """Report every contradiction in `config`; `raw` tells what was given from what is a default."""
    _remote_listeners(config, report)
    _shared_addresses(config, report)
    _door_limits(config, report)
    _spool_limits(config, report)
    tables = raw.get("destinations")
    for destination in config.destinations:
        table = tables.get(destination.name) if isinstance(tables, dict) else None
        given = table if isinstance(table, dict) else {}
        _kind_keys(destination, given, report)
        _namespace(destination, report)
        _upstream(destination, report)
        _pacing(destination, report)
        _room(config, destination, given, report)


def _remote_listeners(config: Config, report: Report) -> None:
    listen = config.listen
    if not report.clean("listen.allow_remote", "listen.auth_token"):
        return
    groups: tuple[tuple[str, Iterable[Address]], ...] = (
        ("http", listen.http),
        ("udp", listen.udp),
        ("admin", [listen.admin] if listen.admin else []),
    )
    for kind, addresses in groups:
        far = [item.label for item in addresses if item.host is not None and not address.is_loopback(item.host)]
        open_anyway = kind in listen.allow_remote or (kind == "http" and listen.auth_token is not None)
        if far and not open_anyway and report.clean(f"listen.{kind}"):
            report.problem(f"listen.{kind}", f"{', '.join(far)} is reachable from other machines; {_remedy(kind)}")


def _remedy(kind: str) -> str:
    allow = f'allow it with listen.allow_remote = ["{kind}"]'
    match kind:
        case "http":
            return f"set listen.auth_token, or {allow}"
        case "udp":
            return f"datagrams carry no token: listen on 127.0.0.1, or {allow}"
        case _:
            return f"health and metrics would be open to all: listen on 127.0.0.1, or {allow}"


def _shared_addresses(config: Config, report: Report) -> None:
    listen = config.listen
    stream = [(f"listen.http[{index}]", item) for index, item in enumerate(listen.http)]
    stream += [("listen.admin", listen.admin)] if listen.admin else []
    datagram = [(f"listen.udp[{index}]", item) for index, item in enumerate(listen.udp)]
    local = [(f"listen.unix_datagram[{index}]", item) for index, item in enumerate(listen.unix_datagram)]
    pairs = [*combinations(stream, 2), *combinations(datagram, 2), *combinations(local, 2)]
    pairs += [(one, two) for one in stream for two in local if one[1].unix]
    for (where, one), (other, two) in pairs:
        paths = (where.partition("[")[0], other.partition("[")[0])
        if address.overlap(one, two) and report.clean(*paths):
            report.problem(other, f"{two.label} cannot be bound beside {where} ({one.label})")
    if not (listen.http or listen.udp or listen.unix_datagram):
        report.note("listen", "no listener takes events; only what is queued already is delivered")


def _door_limits(config: Config, report: Report) -> None:
    listen = config.listen
    _at_most(report, "listen.max_event", listen.max_event, "listen.max_body", listen.max_body)
    _at_most(report, "listen.max_body", listen.max_body, "listen.max_inflight", listen.max_inflight)


def _spool_limits(config: Config, report: Report) -> None:
    spool = config.spool
    _at_most(report, "listen.max_event", config.listen.max_event, "spool.segment_size", spool.segment_size)
    _at_most(report, "spool.segment_size", spool.segment_size, "spool.max_total", spool.max_total)
    total = sum(destination.max_size for destination in config.destinations)
    if total > spool.max_total and report.clean("spool.max_total", "spool.max_size", "destinations"):
        together, limit = quantity.size_words(total), quantity.size_text(spool.max_total)
        text = (
            f"the destinations' max_size add up to {together}, more than {limit}: at that the largest queue gives way"
        )
        report.note("spool.max_total", text)


def _at_most(report: Report, path: str, value: int, other: str, limit: int) -> None:
    if value > limit and report.clean(path, other):
        text = f"{quantity.size_text(value)} is more than {other} ({quantity.size_text(limit)}); lower it or raise that"
        report.problem(path, text)


def _kind_keys(destination: Destination, table: Mapping[str, Any], report: Report) -> None:
    path = f"destinations.{destination.name}"
    if not report.clean(path, f"{path}.kind"):
        return
    kind = kinds.KINDS[destination.kind]
    for key in table:
        if key in kind.foreign:
            report.problem(f"{path}.{key}", f"means nothing to {destination.kind}: {kind.foreign[key]}; remove it")
        elif key in kind.idle:
            report.note(f"{path}.{key}", f"has no effect on {destination.kind}: {kind.idle[key]}")
    for key, example in kind.required.items():
        if key not in table:
            report.problem(f"{path}.{key}", f"missing, expected {key} = {example}")


def _namespace(destination: Destination, report: Report) -> None:
    if destination.namespace == "w":
        text = '"w" is the web SDK\'s path, whose events cannot be relayed; use your own namespace'
        report.problem(f"destinations.{destination.name}.namespace", text)


def _upstream(destination: Destination, report: Report) -> None:
    path = f"destinations.{destination.name}.url"
    if not report.clean(path, f"destinations.{destination.name}.kind"):
        return
    parts = urlsplit(destination.url)
    loopback = address.is_loopback(parts.hostname or "")
    shown = mask.redacted(destination.url)
    if parts.scheme == "http" and not loopback and not destination.allow_insecure:
        text = f"{shown} would send events in clear; use https://, or set allow_insecure = true"
        report.problem(path, text)
    version = parts.path.strip("/").partition("/")[0]
    if destination.kind == "telemetrydeck" and version in {"v1", "v2", "v3", "api"}:
        root = f"{parts.scheme}://{parts.netloc}"
        report.problem(path, f'found {shown}, expected it without the path that each request brings; use "{root}"')


def _pacing(destination: Destination, report: Report) -> None:
    path = f"destinations.{destination.name}"
    retry, flush = destination.retry, destination.flush
    if retry.initial > retry.max and report.clean(f"{path}.retry.initial", f"{path}.retry.max"):
        first, longest = quantity.duration_text(retry.initial), quantity.duration_text(retry.max)
        report.problem(f"{path}.retry.initial", f"{first} is more than retry.max ({longest}); lower it or raise that")
    if flush.interval >= destination.max_age and report.clean(f"{path}.flush.interval", f"{path}.max_age"):
        interval, age = quantity.duration_text(flush.interval), quantity.duration_text(destination.max_age)
        text = f"{interval} is not less than max_age ({age}): events would expire before they are sent"
        report.problem(f"{path}.flush.interval", text)


def _room(config: Config, destination: Destination, table: Mapping[str, Any], report: Report) -> None:
    path = f"destinations.{destination.name}.max_size" if "max_size" in table else "spool.max_size"
    segment = config.spool.segment_size
    if segment <= destination.max_size or not report.clean("spool.segment_size", path):
        return
    fit = quantity.size_text(max(64 * KIB, destination.max_size // (8 * KIB) * KIB))
    text = f"{quantity.size_text(segment)} is more than {path} ({quantity.size_text(destination.max_size)})"
    report.problem("spool.segment_size", f'{text}; set segment_size = "{fit}" or raise that')
