"""As much of JSON Schema 2020-12 as our schema uses. An unknown keyword raises, so that nothing goes unchecked."""

import re
from collections.abc import Callable, Mapping
from typing import Any

_ANNOTATIONS = {"$schema", "$defs", "title", "description", "default", "examples"}
_TYPES: Mapping[str, Callable[[Any], bool]] = {
    "object": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list),
    "string": lambda value: isinstance(value, str),
    "boolean": lambda value: isinstance(value, bool),
    "integer": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "number": lambda value: isinstance(value, int | float) and not isinstance(value, bool),
}
_SIMPLE: Mapping[str, Callable[[Any, Any], bool]] = {
    "type": lambda wanted, value: _TYPES[wanted](value),
    "enum": lambda wanted, value: value in wanted,
    "const": lambda wanted, value: bool(value == wanted),
    "pattern": lambda wanted, value: not isinstance(value, str) or re.search(wanted, value) is not None,
    "minLength": lambda wanted, value: not isinstance(value, str) or len(value) >= wanted,
    "minimum": lambda wanted, value: not _TYPES["number"](value) or value >= wanted,
    "maximum": lambda wanted, value: not _TYPES["number"](value) or value <= wanted,
    "required": lambda wanted, value: not isinstance(value, dict) or all(key in value for key in wanted),
    "minProperties": lambda wanted, value: not isinstance(value, dict) or len(value) >= wanted,
    "maxProperties": lambda wanted, value: not isinstance(value, dict) or len(value) <= wanted,
}


class Validator:
    """Validates values against one schema document."""

    def __init__(self, root: Mapping[str, Any]) -> None:
        self._root = root

    def valid(self, value: Any) -> bool:
        """Return whether `value` fits the whole document."""
        return self.fits(self._root, value)

    def fits(self, schema: Mapping[str, Any], value: Any) -> bool:
        """Return whether `value` fits one schema of the document."""
        return all(self._keyword(schema, word, value) for word in schema if word not in _ANNOTATIONS)

    def _keyword(self, schema: Mapping[str, Any], word: str, value: Any) -> bool:
        wanted = schema[word]
        if word in _SIMPLE:
            return _SIMPLE[word](wanted, value)
        match word:
            case "$ref":
                return self.fits(self._root["$defs"][wanted.removeprefix("#/$defs/")], value)
            case "anyOf":
                return any(self.fits(option, value) for option in wanted)
            case "oneOf":
                return sum(self.fits(option, value) for option in wanted) == 1
            case "items":
                return not isinstance(value, list) or all(self.fits(wanted, item) for item in value)
        return not isinstance(value, dict) or self._object(schema, word, value)

    def _object(self, schema: Mapping[str, Any], word: str, value: dict[str, Any]) -> bool:
        wanted = schema[word]
        match word:
            case "properties":
                return all(self.fits(wanted[key], value[key]) for key in value if key in wanted)
            case "additionalProperties":
                rest = [key for key in value if key not in schema.get("properties", {})]
                return not rest if wanted is False else all(self.fits(wanted, value[key]) for key in rest)
            case "propertyNames":
                return all(self.fits(wanted, key) for key in value)
        raise AssertionError(f"unknown keyword {word}")
