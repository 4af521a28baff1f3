"""A value that cannot be used: what was expected instead, and perhaps what was meant."""

import difflib
import json
from collections.abc import Iterable

_LONGEST = 80


class Unfit(ValueError):
    """Raised by the readers of single values; the walker adds the key path and what was found."""

    def __init__(self, expected: str, meant: str | None = None, *, found: str | None = None) -> None:
        super().__init__(expected)
        self.expected = expected
        self.meant = meant
        """The value that was probably meant, as it would be written."""
        self.found = found
        """What to show instead of the value (a secret is never shown)."""


def closest(word: str, known: Iterable[str]) -> str | None:
    """Return the known word nearest to `word`, or None when none is near."""
    words = {candidate.lower(): candidate for candidate in known}
    near = difflib.get_close_matches(word.lower(), words, n=1, cutoff=0.6)
    return words[near[0]] if near else None


def shown(raw: object) -> str:
    """Return `raw` as an operator would recognise it, shortened."""
    if isinstance(raw, dict | list):
        return "a table" if isinstance(raw, dict) else "a list"
    if isinstance(raw, bool | int | float | str) or raw is None:
        text = json.dumps(raw, ensure_ascii=False)
        return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
    return str(raw)  # TOML's dates and times
