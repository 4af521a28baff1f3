"""The configuration as JSON Schema (draft 2020-12), for editors and validators."""

from importlib import resources
from typing import Any, get_args, get_origin

import msgspec

from forwarder.config import form, kinds, quantity, written
from forwarder.config.model import Address, Config, Destination, Secret
from forwarder.config.walk import DESTINATION_NAME, SECTIONS

_Schema = dict[str, Any]


def example() -> str:
    """Return the text of the full, commented example."""
    return resources.files("forwarder.config").joinpath("example.toml").read_text(encoding="utf-8")


def json_schema() -> _Schema:
    """Return the schema of the file. Bounds of durations and sizes stand in words: their forms are strings."""
    sections = {name: _section(cls) for name, cls in SECTIONS.items()}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "forwarder",
        "description": _first_line(Config),
        "type": "object",
        "additionalProperties": False,
        "required": ["destinations"],
        "properties": {
            **sections,
            "destinations": {
                "type": "object",
                "description": "[destinations.NAME]: where events go.",
                "minProperties": 1,
                "propertyNames": {"pattern": f"^{DESTINATION_NAME}$"},
                "additionalProperties": {"oneOf": [_destination(kind) for kind in kinds.KINDS]},
            },
        },
        "$defs": {"address": _address_forms(), "secret": _secret_forms(), **_quantities()},
    }


def _section(cls: type[msgspec.Struct]) -> _Schema:
    properties = {info.name: _field(info.type, info.default) for info in msgspec.structs.fields(cls)}
    return {
        "type": "object",
        "description": _first_line(cls),
        "additionalProperties": False,
        "properties": properties,
    }


def _destination(kind: str) -> _Schema:
    known = kinds.KINDS[kind]
    schema = _section(Destination)
    properties = {
        name: {**field, **({"default": _default(name, known.defaults[name])} if name in known.defaults else {})}
        for name, field in schema["properties"].items()
        if name != "name" and name not in known.foreign
    }
    properties["kind"] = {"const": kind, "description": properties["kind"]["description"]}
    properties["proxy"]["default"] = "env"
    return {**schema, "title": kind, "required": ["kind", *known.required], "properties": properties}


def _default(name: str, held: Any) -> Any:
    hint = next(info.type for info in msgspec.structs.fields(Destination) if info.name == name)
    return written.value(hint, held)


def _field(hint: Any, default: Any) -> _Schema:
    bare, meta = form.unwrap(hint)
    schema = _type(form.bare(bare), meta)
    text = meta.description or ""
    if form.of(meta) in {"duration", "size"}:
        text = f"{text} {form.expectation(bare, meta).capitalize()}."
    if text:
        schema["description"] = text
    if meta.examples:
        schema["examples"] = meta.examples
    if default is not msgspec.NODEFAULT and default not in (None, ""):
        schema["default"] = written.value(hint, default)
    return schema


def _type(base: Any, meta: msgspec.Meta) -> _Schema:
    if base is Secret or base is Address:
        return {"$ref": f"#/$defs/{base.__name__.lower()}"}
    if isinstance(base, type) and issubclass(base, msgspec.Struct):
        return _section(base)
    if get_origin(base) is tuple:
        return {"type": "array", "items": _type(get_args(base)[0], meta)}
    if get_origin(base) is dict:
        meanings = {"enum": list(form.literals(get_args(base)[1]))}
        return {"type": "object", "propertyNames": {"pattern": "^[2-5][0-9][0-9]$"}, "additionalProperties": meanings}
    if words := form.literals(base):
        return {"enum": list(words)}
    return _single(base, meta)


def _single(base: Any, meta: msgspec.Meta) -> _Schema:
    match form.of(meta):
        case "duration" | "size" as name:
            return {"$ref": f"#/$defs/{name}"}
        case "count":
            return {"type": "integer", "minimum": meta.ge, "maximum": meta.le}
        case "number":
            return {"type": "number", "minimum": meta.ge, "maximum": meta.le}
    if base is bool:
        return {"type": "boolean"}
    pattern = {} if meta.pattern is None else {"pattern": f"^{meta.pattern}$"}
    return {"type": "string", "minLength": 1, **pattern}


def _quantities() -> _Schema:
    return {
        "duration": {
            "description": "A number and a unit: ms, s, m, h, d or w.",
            "type": "string",
            "pattern": f"^{quantity.DURATION_PATTERN}$",
            "examples": ["250ms", "10s", "5m", "7d"],
        },
        "size": {
            "description": "A number and a unit (B, KiB, MiB, GiB, TiB), or a whole number of bytes.",
            "anyOf": [{"type": "string", "pattern": f"^{quantity.SIZE_PATTERN}$"}, {"type": "integer", "minimum": 0}],
            "examples": ["512KiB", "1GiB", 1048576],
        },
    }


def _address_forms() -> _Schema:
    fields = {info.name: info for info in msgspec.structs.fields(Address)}
    unix = {name: _field(fields[name].type, fields[name].default) for name in ("unix", "mode", "group")}
    unix["mode"] |= {"pattern": "^0?[0-7]{3}$", "default": "0660"}
    unix["unix"]["pattern"] = "^/"
    return {
        "description": "HOST:PORT, [IPv6]:PORT, unix:/path, systemd:NAME, or a table for a unix socket.",
        "anyOf": [
            {"type": "string", "pattern": r"^(systemd:.+|unix:/.+|[^:\[\]]+:[0-9]{1,5}|\[[^\]]+\]:[0-9]{1,5}|none)$"},
            {"type": "object", "additionalProperties": False, "required": ["unix"], "properties": unix},
        ],
        "examples": ["127.0.0.1:8765", "[::1]:8765", "systemd:forwarder-http"],
    }


def _secret_forms() -> _Schema:
    return {**_section(Secret), "minProperties": 1, "maxProperties": 1}


def _first_line(cls: type) -> str:
    return (cls.__doc__ or "").strip().partition("\n")[0]
