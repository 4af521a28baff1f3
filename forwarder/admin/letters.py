"""Dead letters for the status page: by reason, with a few samples. Loopback only: they are people's data."""

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence

import msgspec

from forwarder.core.seams import DeadLetter

LOOKED_AT = 100
SAMPLES = 5
LONGEST_EVENT = 2048

Latest = Callable[[int], Awaitable[Mapping[str, Sequence[DeadLetter]]]]
"""Returns so many of the newest letters of every destination, oldest first."""


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """One letter; times in seconds since the epoch."""

    sequence: int
    reason: str
    status: int | None
    answer: str
    attempts: int
    accepted_at: float
    died_at: float
    event: str
    """Its beginning."""


class Shown(msgspec.Struct, frozen=True, kw_only=True):
    """What the page shows of one destination."""

    looked_at: int
    reasons: Mapping[str, int]
    """Among the newest letters."""
    samples: Sequence[Sample]
    """Newest first."""


async def shown(latest: Latest) -> Mapping[str, Shown]:
    """Return what there is to show, by destination."""
    return {name: _shown(letters) for name, letters in (await latest(LOOKED_AT)).items()}


def _shown(letters: Sequence[DeadLetter]) -> Shown:
    return Shown(
        looked_at=len(letters),
        reasons=dict(Counter(letter.reason for letter in letters).most_common()),
        samples=[_sample(letter) for letter in reversed(letters[-SAMPLES:])],
    )


def _sample(letter: DeadLetter) -> Sample:
    return Sample(
        sequence=letter.sequence,
        reason=letter.reason,
        status=letter.status,
        answer=letter.answer,
        attempts=letter.attempts,
        accepted_at=letter.accepted_at,
        died_at=letter.died_at,
        event=letter.event[:LONGEST_EVENT].decode("utf-8", "replace"),
    )
