"""The way back: a configuration as it would be written in the file, defaults spelled out, secrets by reference."""

import json
import re
from collections.abc import Callable, Mapping
from typing import Any, get_args, get_origin

import msgspec

from forwarder.config import form, kinds, mask, quantity
from forwarder.config.model import Address, Config, Destination, Secret

_WAYS_BACK: Mapping[form.Form, Callable[[Any], Any]] = {
    "duration": quantity.duration_text,
    "size": quantity.size_text,
    "proxy": mask.redacted,
    "statuses": dict,
}
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")


def plain(config: Config) -> dict[str, Any]:
    """Return the tables of a file that says all of `config`. Passwords in proxy URLs are hidden."""
    tables: dict[str, Any] = {name: table(getattr(config, name)) for name in ("listen", "spool")}
    tables["destinations"] = {item.name: _destination(item) for item in config.destinations}
    return tables | {name: table(getattr(config, name)) for name in ("log", "drain")}


def toml(config: Config) -> str:
    """Return the same as TOML; loading it gives `config` again."""
    lines: list[str] = []
    tables = plain(config)
    destinations = tables.pop("destinations")
    for name in ("listen", "spool"):
        lines += _section(name, tables[name])
    for name, keys in destinations.items():
        lines += _section(f"destinations.{name}", keys)
    for name in ("log", "drain"):
        lines += _section(name, tables[name])
    return "\n".join(lines).strip() + "\n"


def table(section: msgspec.Struct) -> dict[str, Any]:
    """Return one section with its values as they are written; keys without a value are left out."""
    pairs = ((info.name, value(info.type, getattr(section, info.name))) for info in msgspec.structs.fields(section))
    return {name: written for name, written in pairs if written is not None}


def value(hint: Any, held: Any) -> Any:
    """Return one value as it is written; None when there is nothing to write."""
    hint, meta = form.unwrap(hint)
    base = form.bare(hint)
    if base is Address:
        return "none" if held is None else _address(held)
    if get_origin(base) is tuple:
        return [value(get_args(base)[0], item) for item in held]
    if isinstance(held, msgspec.Struct):
        return table(held)
    convert = _WAYS_BACK.get(form.of(meta))
    return held if held is None or convert is None else convert(held)


def _destination(destination: Destination) -> dict[str, Any]:
    foreign = {**kinds.KINDS[destination.kind].foreign, **kinds.KINDS[destination.kind].idle}
    keys = {name: written for name, written in table(destination).items() if name != "name" and name not in foreign}
    return {**keys, "proxy": keys.get("proxy", "none")}


def _address(held: Address) -> Any:
    if held.unix is None:
        return held.label
    group = {} if held.group is None else {"group": held.group}
    return {"unix": held.unix, "mode": f"{held.mode:04o}", **group}


def _section(name: str, keys: dict[str, Any]) -> list[str]:
    return [f"[{name}]", *(f"{_key(key)} = {toml_value(written)}" for key, written in keys.items()), ""]


def toml_value(written: Any) -> str:
    """Return a written value as TOML."""
    if isinstance(written, dict):
        inside = ", ".join(f"{_key(key)} = {toml_value(item)}" for key, item in written.items())
        return f"{{ {inside} }}" if inside else "{}"
    if isinstance(written, list):
        return f"[{', '.join(toml_value(item) for item in written)}]"
    return json.dumps(written, ensure_ascii=False)


def _key(key: str) -> str:
    return key if _BARE_KEY.fullmatch(key) else json.dumps(key)


def secret_text(secret: Secret) -> str:
    """Return where a secret is, in words."""
    if secret.file is not None:
        return f"file {secret.file}"
    return f"environment variable {secret.env}" if secret.env is not None else f"credential {secret.credential}"
