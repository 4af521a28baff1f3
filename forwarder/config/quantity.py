"""Durations and sizes as operators write them: `10s`, `512KiB`."""

import re
from collections.abc import Mapping

DURATION_PATTERN = r"[0-9]{1,12}(\.[0-9]{1,6})?(ms|s|m|h|d|w)"
SIZE_PATTERN = r"[0-9]{1,19}(\.[0-9]{1,6})?(B|KiB|MiB|GiB|TiB)"

LARGEST = (1 << 63) - 1
"""The largest integer that TOML guarantees."""

_SECONDS = {"w": 604800.0, "d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
_BYTES = {"TiB": 1 << 40, "GiB": 1 << 30, "MiB": 1 << 20, "KiB": 1 << 10, "B": 1}
_DURATION_WORDS = {
    "ms": ("ms", "msec", "msecs", "milli", "millis", "millisecond", "milliseconds"),
    "s": ("", "s", "sec", "secs", "second", "seconds"),
    "m": ("m", "min", "mins", "minute", "minutes"),
    "h": ("h", "hr", "hrs", "hour", "hours"),
    "d": ("d", "day", "days"),
    "w": ("w", "wk", "week", "weeks"),
}
_SIZE_WORDS = {
    "B": ("", "b", "byte", "bytes"),
    "KiB": ("k", "kb", "ki", "kib"),
    "MiB": ("m", "mb", "mi", "mib"),
    "GiB": ("g", "gb", "gi", "gib"),
    "TiB": ("t", "tb", "ti", "tib"),
}
_LOOSE = re.compile(r"\s*([0-9]{1,15}(?:\.[0-9]{1,6})?)\s*([A-Za-z]*)\s*", re.ASCII)


def seconds(text: str) -> float | None:
    """Return the seconds that `text` (`250ms`, `10s`, `5m`, `12h`, `7d`, `2w`) stands for, or None."""
    if not re.fullmatch(DURATION_PATTERN, text):
        return None
    number, unit = _split(text)
    if unit == "ms":  # divided, because 0.001 has no exact float: 250 / 1000 is exactly 0.25
        return float(number) / 1000
    return float(number) * _SECONDS[unit]


def size(text: str) -> int | None:
    """Return the bytes that `text` (`512KiB`, `1.5GiB`) stands for, or None when it is no whole number of bytes."""
    if not re.fullmatch(SIZE_PATTERN, text):
        return None
    number, unit = _split(text)
    count = float(number) * _BYTES[unit] if "." in number else int(number) * _BYTES[unit]
    return int(count) if count == int(count) and count <= LARGEST else None


def duration_text(value: float) -> str:
    """Return `value` seconds in the largest unit that divides it: `7d`, `90s`, `250ms`."""
    if value == 0:
        return "0s"
    for unit, factor in _SECONDS.items():
        if unit != "w" and value % factor == 0 and value >= factor:
            return f"{value / factor:.0f}{unit}"
    return f"{value * 1000:.6f}".rstrip("0").rstrip(".") + "ms"


def size_text(value: int) -> str:
    """Return `value` bytes in the largest unit that divides it: `1GiB`, `1536MiB`."""
    for unit, factor in _BYTES.items():
        if value % factor == 0 and value >= factor:
            return f"{value // factor}{unit}"
    return f"{value}B"


def size_words(value: float) -> str:
    """Return `value` bytes rounded for reading: `1.4GiB`."""
    for unit, factor in _BYTES.items():
        if value >= factor:
            return f"{value / factor:.1f}".removesuffix(".0") + unit
    return "0B"


def guess_duration(raw: object) -> str | None:
    """Return the duration somebody probably meant by `raw` (`10`, `"10 sec"`), or None."""
    return _guess(raw, _DURATION_WORDS)


def guess_size(raw: object) -> str | None:
    """Return the size somebody probably meant by `raw` (`"64MB"`, `"64 mib"`), or None."""
    return _guess(raw, _SIZE_WORDS)


def _guess(raw: object, words: Mapping[str, tuple[str, ...]]) -> str | None:
    if isinstance(raw, bool) or not isinstance(raw, int | float | str):
        return None
    match = _LOOSE.fullmatch(str(raw))
    if match is None:
        return None
    number, word = match.groups()
    return next((f"{number}{unit}" for unit, known in words.items() if word.lower() in known), None)


def _split(text: str) -> tuple[str, str]:
    number = text.rstrip("BGKMTabcdefghijklmnopqrstuvwxyz")
    return number, text[len(number) :]
