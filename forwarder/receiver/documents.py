"""Strict JSON, split into the exact bytes of its elements."""

from typing import Any

import msgspec
import orjson

_ELEMENTS = msgspec.json.Decoder(list[msgspec.Raw])
_SPACE = b" \t\r\n"


class Document(msgspec.Struct, frozen=True):
    """A body that is valid JSON: the values, and beside each the bytes as sent, without white space around them."""

    values: list[Any]
    raw: list[bytes]
    array: bool


def read(body: bytes) -> Document | str:
    """Return what `body` holds, or why it is not JSON.

    Two parsers must agree: orjson refuses NaN, bad UTF-8 and lone surrogates; msgspec tells where
    elements begin and end.
    """
    try:
        value = orjson.loads(body)
        if isinstance(value, list):
            return Document(values=value, raw=[bytes(raw) for raw in _ELEMENTS.decode(body)], array=True)
    except (orjson.JSONDecodeError, msgspec.DecodeError, RecursionError) as error:
        return f"not JSON: {error}"
    return Document(values=[value], raw=[body.strip(_SPACE)], array=False)
