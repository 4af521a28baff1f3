"""What the flusher has to do: effects decided by the pure core, performed in the order given."""

from collections.abc import Sequence
from typing import Any, Literal

import msgspec

from forwarder.core.spool.frame import Span


class Delivered(msgspec.Struct, frozen=True, gc=False):
    """Ack these as delivered."""

    spans: Sequence[Span]


class Expired(msgspec.Struct, frozen=True):
    """Ack these as expired (the policy is to drop)."""

    spans: Sequence[Span]


class Bury(msgspec.Struct, frozen=True, kw_only=True):
    """Make these dead letters, synced, and only then ack them as died."""

    spans: Sequence[Span]
    reason: Literal["refused", "poison", "too_large", "ambiguous", "expired"]
    status: int | None = None
    answer: str = ""
    attempts: int = 0


class Release(msgspec.Struct, frozen=True):
    """Give these back to the spool."""

    spans: Sequence[Span]


class Remember(msgspec.Struct, frozen=True):
    """Keep a value with the checkpoint; None forgets it."""

    name: str
    value: int | None


class Split(msgspec.Struct, frozen=True):
    """Count a refused batch that is split."""


class Ambiguous(msgspec.Struct, frozen=True):
    """Count a request that was sent and not answered."""


class Report(msgspec.Struct, frozen=True):
    """Log one line."""

    level: Literal["info", "warning", "error"]
    event: str
    facts: dict[str, Any]


Effect = Delivered | Expired | Bury | Release | Remember | Split | Ambiguous | Report
