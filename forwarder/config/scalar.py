"""Single values: from what TOML, JSON or an environment variable gave to what the model holds. Each raises Unfit."""

import json
import math
import os
import re
from pathlib import Path
from typing import Any

import msgspec

from forwarder.config import form, quantity, upstream
from forwarder.config.unfit import Unfit, closest, shown


class FromEnvironment(str):
    """A string that came from an environment variable: numbers, lists and tables are still to be read from it."""

    __slots__ = ()


def boolean(raw: object) -> bool:
    """Return a bool; an environment variable says `true` or `false`."""
    if isinstance(raw, FromEnvironment):
        raw = {"true": True, "false": False}.get(raw.lower(), raw)
    if isinstance(raw, bool):
        return raw
    words = {"yes": "true", "on": "true", "1": "true", "true": "true", "no": "false", "off": "false", "0": "false"}
    raise Unfit("true or false", words.get(str(raw).lower(), "false" if str(raw).lower() == "false" else None))


def word(raw: object, words: tuple[str, ...]) -> str:
    """Return one of `words`."""
    if isinstance(raw, str) and raw in words:
        return str(raw)
    expected = "one of " + ", ".join(f'"{known}"' for known in words)
    near = closest(raw, words) if isinstance(raw, str) else None
    raise Unfit(expected, f'"{near}"' if near else None)


def table(raw: object, expected: str = "a table") -> dict[str, Any]:
    """Return a table; an environment variable holds it as JSON."""
    value = _structure(raw, expected)
    if not isinstance(value, dict):
        raise Unfit(expected)
    return value


def array(raw: object, expected: str) -> list[Any]:
    """Return a list; an environment variable holds it as JSON."""
    meant = f"[{shown(raw)}]" if isinstance(raw, str) else None
    value = _structure(raw, expected, meant)
    if not isinstance(value, list):
        raise Unfit(expected, meant)
    return value


def amount(raw: object, hint: Any, meta: msgspec.Meta) -> float:
    """Return a duration in seconds, a size in bytes, a count or a number, inside its bounds."""
    value, meant = _AMOUNTS[form.of(meta)](raw)
    if value is None or not form.within(meta, value):
        raise Unfit(form.expectation(hint, meta), meant)
    return value


def string(raw: object, meta: msgspec.Meta, base: Path, home: str | None) -> str:
    """Return a string that passes the check its form names; relative paths are completed with `base`."""
    if not isinstance(raw, str):
        raise Unfit("a string")
    if not raw:
        raise Unfit("a string that is not empty")
    match form.of(meta):
        case "path":
            return _path(raw, base, home)
        case "url":
            return upstream.url(str(raw))
        case "proxy":
            return upstream.proxy(str(raw))
        case "origin":
            return _origin(str(raw))
        case "host":
            return _host(str(raw))
    return _matching(str(raw), meta)


def matches(pattern: str, text: str) -> bool:
    """Return whether the whole of `text` fits `pattern`, by ASCII's idea of letters and digits."""
    return re.fullmatch(pattern, text, re.ASCII) is not None


def _structure(raw: object, expected: str, meant: str | None = None) -> object:
    if not isinstance(raw, FromEnvironment):
        return raw
    try:
        return json.loads(raw)
    except (ValueError, RecursionError) as exc:
        raise Unfit(f"{expected} as JSON", meant) from exc


def _matching(raw: str, meta: msgspec.Meta) -> str:
    if meta.pattern is not None and not matches(meta.pattern, raw):
        example = f' such as "{meta.examples[0]}"' if meta.examples else ""
        raise Unfit(f"a name{example}")
    if not raw.isprintable():
        raise Unfit("a string without control characters")
    return raw


def _duration(raw: object) -> tuple[float | None, str | None]:
    value = quantity.seconds(raw) if isinstance(raw, str) else None
    return value, _quoted(quantity.guess_duration(raw)) if value is None else None


def _size(raw: object) -> tuple[float | None, str | None]:
    value = quantity.size(raw) if isinstance(raw, str) else _whole(raw)
    if value is None and isinstance(raw, FromEnvironment):
        value = _whole(raw)
    return value, _quoted(quantity.guess_size(raw)) if value is None else None


def _count(raw: object) -> tuple[float | None, str | None]:
    value = _whole(raw)
    digits = isinstance(raw, str) and re.fullmatch(r"[0-9]{1,18}", raw)
    return value, str(raw) if value is None and digits else None


def _number(raw: object) -> tuple[float | None, str | None]:
    digits = isinstance(raw, str) and re.fullmatch(r"[0-9]{1,12}(\.[0-9]{1,9})?", raw)
    if isinstance(raw, FromEnvironment) and digits:
        return float(raw), None
    if isinstance(raw, bool) or not isinstance(raw, int | float) or not math.isfinite(raw):
        return None, str(raw) if digits else None
    return float(raw), None


_AMOUNTS = {"duration": _duration, "size": _size, "count": _count, "number": _number}


def _whole(raw: object) -> int | None:
    if isinstance(raw, FromEnvironment) and re.fullmatch(r"[0-9]{1,18}", raw):
        return int(raw)
    if not isinstance(raw, int) or isinstance(raw, bool):
        return None
    return raw if abs(raw) <= quantity.LARGEST else None


def _quoted(guess: str | None) -> str | None:
    return None if guess is None else f'"{guess}"'


def _path(raw: str, base: Path, home: str | None) -> str:
    if not raw.isprintable():
        raise Unfit("a path without control characters")
    if raw.startswith("~/") and home:
        return os.path.normpath(Path(home) / raw[2:])
    return os.path.normpath(base / raw)


def _origin(raw: str) -> str:
    if raw == "null":
        return raw
    expected = 'an origin such as "https://app.example.com", or "null"'
    if raw == "*":
        raise Unfit(f'{expected}; "*" would let every web page send')
    match = re.fullmatch(r"([a-z][a-z0-9+.-]*)://([^/?#@\s]*)(/?.*)", raw, re.IGNORECASE)
    if match is None:
        raise Unfit(
            expected, f'"https://{raw}"' if re.fullmatch(r"[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+(:\d+)?", raw) else None
        )
    exact = f"{match[1].lower()}://{match[2].lower()}"
    if raw != exact:
        raise Unfit(f"{expected}, lower case and without a path", json.dumps(exact))
    return raw


def _host(raw: str) -> str:
    expected = 'a host name or IP address without a port, such as "forwarder.internal"'
    if re.fullmatch(r"\[?[0-9a-fA-F]*:[0-9a-fA-F:.]*\]?", raw):
        return raw.strip("[]").lower()
    match = re.fullmatch(r"(?:[a-z]+://)?([A-Za-z0-9._-]+)(:\d+)?/?", raw)
    if match is None:
        raise Unfit(expected)
    if match[0] != match[1]:
        raise Unfit(expected, f'"{match[1]}"')
    return raw.lower()
