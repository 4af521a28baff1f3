"""Environment overrides: FORWARDER_SECTION__KEY, nested by further double underscores."""

import copy
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import msgspec

from forwarder.config import scalar
from forwarder.config.scalar import FromEnvironment
from forwarder.config.unfit import Unfit, closest
from forwarder.config.walk import SECTIONS

PREFIX = "FORWARDER_"
_KNOWN = (*SECTIONS, "destinations")


class Overrides(msgspec.Struct, frozen=True):
    """A raw configuration with the environment's settings put in."""

    raw: dict[str, Any]
    origins: Mapping[str, str]
    """Variable names by the key path that they set."""
    notes: list[str]


def apply(raw: Mapping[str, Any], environ: Mapping[str, str]) -> Overrides:
    """Return `raw` with every FORWARDER_SECTION__KEY put in; a shallow path first, so that nested keys add to it.

    Other names that begin alike are not ours (Kubernetes injects FORWARDER_PORT and the like) and are passed over,
    unless they look like a slip of the pen: those are noted.
    """
    merged = copy.deepcopy(dict(raw))
    origins: dict[str, str] = {}
    for variable, keys in sorted(_settings(environ), key=lambda setting: (len(setting[1]), setting[0])):
        path = _resolve(merged, keys)
        if keys[0] == "destinations" and path[1] not in merged.get("destinations", {}):
            origins[".".join(path[:2])] = variable  # it makes a whole destination: a misspelt name shows up so
        if _put(merged, path, FromEnvironment(environ[variable])):
            origins[".".join(path)] = variable
    return Overrides(raw=merged, origins=origins, notes=list(_slips(environ)))


def _settings(environ: Iterable[str]) -> Iterator[tuple[str, list[str]]]:
    for variable in environ:
        keys = variable.removeprefix(PREFIX).lower().split("__")
        if variable.startswith(PREFIX) and len(keys) > 1 and keys[0] in _KNOWN and all(keys):
            yield variable, keys


def _resolve(raw: Mapping[str, Any], keys: list[str]) -> list[str]:
    """Return `keys` with a destination's name as the file writes it: variables cannot hold the `-` of `my-app`."""
    names = raw.get("destinations")
    if keys[0] != "destinations" or not isinstance(names, dict) or keys[1] in names:
        return keys
    name = next((name for name in names if name.replace("-", "_") == keys[1]), keys[1])
    return ["destinations", name, *keys[2:]]


def _put(raw: dict[str, Any], path: list[str], value: FromEnvironment) -> bool:
    """Set one key, making tables on the way; a value in the way stays, to be reported by its own path."""
    for key in path[:-1]:
        try:
            raw[key] = scalar.table(raw.get(key, {}))
        except Unfit:
            return False
        raw = raw[key]
    raw[path[-1]] = value
    return True


def _slips(environ: Iterable[str]) -> Iterator[str]:
    """Yield a note for every variable that was probably meant to be a setting."""
    for variable in sorted(environ):
        rest = variable.removeprefix(PREFIX)
        if variable.startswith(PREFIX) and (meant := _meant(rest)):
            yield f"{variable} in the environment is not a setting and is ignored; did you mean {PREFIX}{meant}?"


def _meant(rest: str) -> str | None:
    section, separator, key = rest.partition("__")
    if separator and key and section.lower() not in _KNOWN:
        near = closest(section, _KNOWN)
        return f"{near.upper()}__{key}" if near else None
    if separator:
        return None
    section, _, key = rest.partition("_")
    if section == "DESTINATIONS" and key:
        return "DESTINATIONS__NAME__KEY"
    cls = SECTIONS.get(section.lower())
    keys = () if cls is None else tuple(info.name for info in msgspec.structs.fields(cls))
    return f"{section}__{key}" if key.lower() in keys else None
