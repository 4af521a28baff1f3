"""The learned size limit of each batch key: halved by a 413, cautiously raised again."""

from collections.abc import Mapping

GROWTH = 1.25
PATIENCE = 100
"""So many batches near the limit must pass before it is raised: one refused batch in a hundred is a fair price."""
PREFIX = "limit:"


class Limits:
    """Bytes a request may have, by batch key; `max_bytes` where nothing was learned."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self._learned: dict[bytes, int] = {}
        self._good: dict[bytes, int] = {}
        self._passed: dict[bytes, int] = {}

    def size(self, key: bytes) -> int:
        """Return the limit of one batch key."""
        return min(self._learned.get(key, self.max_bytes), self.max_bytes) if self._learned else self.max_bytes

    def load(self, remembered: Mapping[str, object]) -> None:
        """Take over what an earlier run learned."""
        for name, value in remembered.items():
            key = _key(name)
            if key is not None and isinstance(value, int) and value > 0:
                self._learned[key] = value

    def shrink(self, key: bytes, size: int) -> tuple[str, int]:
        """Take note of a 413 for `size` bytes; return what to remember."""
        good = self._good.get(key, 0)
        learned = max(1, size // 2, good if good < size else 0)
        self._learned[key] = min(learned, self.size(key))
        self._passed[key] = 0
        return remembered_name(key), self._learned[key]

    def passed(self, key: bytes, size: int) -> tuple[str, int | None] | None:
        """Take note of an accepted batch; return what to remember when the limit is raised (None: forget)."""
        learned = self._learned.get(key)
        if learned is None or size * 2 < learned:
            return None
        self._good[key] = max(size, self._good.get(key, 0))
        self._passed[key] = self._passed.get(key, 0) + 1
        if self._passed[key] < PATIENCE:
            return None
        self._passed[key] = 0
        raised = int(learned * GROWTH) + 1
        if raised < self.max_bytes:
            self._learned[key] = raised
            return remembered_name(key), raised
        for table in (self._learned, self._good, self._passed):
            table.pop(key, None)
        return remembered_name(key), None


def remembered_name(key: bytes) -> str:
    """Return the name under which a key's limit is kept with the checkpoint."""
    return PREFIX + key.hex()


def _key(name: str) -> bytes | None:
    """Return the batch key of a remembered name; None if the name is not one of ours."""
    try:
        return bytes.fromhex(name.removeprefix(PREFIX)) if name.startswith(PREFIX) else None
    except ValueError:
        return None
