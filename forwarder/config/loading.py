"""Loading a configuration: file, environment, defaults, judgement; every problem at once."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from forwarder.config import directory, environment, judge, source, upstream
from forwarder.config.address import is_loopback
from forwarder.config.model import Config, Destination, Findings
from forwarder.config.report import Report
from forwarder.config.secret import Secrets
from forwarder.config.unfit import Unfit
from forwarder.config.walk import Walker
from forwarder.errors import ConfigurationError


def load(
    path: Path | None, *, environ: Mapping[str, str] = os.environ, search: Sequence[Path] = source.SEARCH
) -> tuple[Config, Findings]:
    """Return the configuration and the notes about it; raises ConfigurationError with every problem.

    `path` is what the command line named. Without it FORWARDER_CONFIG is read, else the first file of `search`.
    """
    config, findings = examine(path, environ=environ, search=search)
    if config is None:
        raise ConfigurationError(findings.problems)
    return config, findings


def examine(
    path: Path | None, *, environ: Mapping[str, str] = os.environ, search: Sequence[Path] = source.SEARCH
) -> tuple[Config | None, Findings]:
    """Do the same without raising: None instead of a configuration when there are problems, notes in any case."""
    file = source.find(path, environ, search)
    try:
        raw = source.read(file) if file is not None else {}
    except ConfigurationError as exc:
        return None, Findings(problems=exc.problems)
    overrides = environment.apply(raw, environ)
    report = Report(overrides.origins)
    report.findings.notes += overrides.notes
    base = file.absolute().parent if file is not None else Path.cwd()
    config = Walker(report, base=base, home=environ.get("HOME")).config(overrides.raw, str(file) if file else None)
    if not config.destinations and report.clean("destinations", "destination"):
        report.findings.problems.append(source.nothing_to_do(file, search))
    judge.judge(config, overrides.raw, report)
    config = _resolved(config, environ, report)
    if report.findings.problems:
        return None, report.findings
    report.findings.notes += Secrets(config, environ).notes()
    return config, report.findings


def _resolved(config: Config, environ: Mapping[str, str], report: Report) -> Config:
    """Return `config` with what depends on this machine and its environment filled in."""
    spool = config.spool
    if not spool.directory and report.clean("spool.directory"):
        found = directory.default(environ)
        if found is None:
            text = 'no default (neither STATE_DIRECTORY nor HOME is set), expected a path such as "/var/lib/forwarder"'
            report.problem("spool.directory", text)
        spool = msgspec.structs.replace(spool, directory=str(found or ""))
    destinations = tuple(_connected(destination, environ, report) for destination in config.destinations)
    return msgspec.structs.replace(config, spool=spool, destinations=destinations)


def _connected(destination: Destination, environ: Mapping[str, str], report: Report) -> Destination:
    path = f"destinations.{destination.name}"
    for key in ("ca_file", "client_cert"):
        file = getattr(destination, key)
        if file is not None and not os.access(file, os.R_OK) and report.clean(f"{path}.{key}"):
            report.problem(f"{path}.{key}", f"{file} cannot be read, expected a PEM file")
    return msgspec.structs.replace(destination, proxy=_proxy(destination, environ, report))


def _proxy(destination: Destination, environ: Mapping[str, str], report: Report) -> str | None:
    """Return the proxy's URL, or None to connect directly. Loopback is never proxied."""
    path = f"destinations.{destination.name}.proxy"
    host = urlsplit(destination.url).hostname or ""
    if destination.proxy == "none" or is_loopback(host):
        return None
    if destination.proxy != "env":
        return destination.proxy
    found = upstream.proxy_from(environ, destination.url)
    if found is None:
        return None
    variable, value = found
    try:
        return upstream.proxy(value)
    except Unfit as unfit:
        report.problem(path, f"{variable} in the environment is {unfit.found}, expected {unfit.expected}")
        return None
