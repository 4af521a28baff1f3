"""Which Encharge destination a write key belongs to. Keys are compared in constant time and never kept."""

from collections.abc import Callable, Sequence
from hmac import compare_digest

import msgspec

Secrets = Callable[[str], str | None]
"""Destination name → its write key at this moment, None while it is missing."""


class Selected(msgspec.Struct, frozen=True):
    """The destination, or None when the key is unknown or needed; `mismatch` when another key is configured."""

    destination: str | None
    mismatch: bool = False


class KeySelector:
    """Selects among the Encharge destinations that one path serves."""

    def __init__(self, destinations: Sequence[str], secret: Secrets) -> None:
        self._destinations = tuple(destinations)
        self._secret = secret

    def select(self, presented: bytes | None) -> Selected:
        """Return the destination with this key; the only destination takes any key."""
        if len(self._destinations) == 1:
            (only,) = self._destinations
            return Selected(only, mismatch=presented is not None and self._known(only, presented) is False)
        found = None
        for name in self._destinations:
            if presented is not None and self._known(name, presented):
                found = name
        return Selected(found)

    def _known(self, destination: str, presented: bytes) -> bool | None:
        """Return whether this is the destination's key, or None while it has none."""
        secret = self._secret(destination)
        return None if secret is None else compare_digest(secret.encode(), presented)
