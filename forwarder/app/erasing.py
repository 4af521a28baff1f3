"""Erasing one person's events everywhere: every spool with its quarantine, dead letters, samples. Returns a receipt."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Literal, Protocol

import msgspec

from forwarder import __version__
from forwarder.config.model import DeadLetterLimits
from forwarder.core.seams import Clock
from forwarder.metrics import Metrics
from forwarder.spool.dead_letter_line import stamp
from forwarder.spool.dead_letters import DiskDeadLetters
from forwarder.spool.directory import SpoolDirectory
from forwarder.spool.erasure import SpoolErased
from forwarder.spool.person import By, Person
from forwarder.spool.samples import RefusedSamples
from forwarder.spool.spool import DiskSpool, SpoolSettings

_NO_LIMIT = 1 << 62


class Open(Protocol):
    """A destination whose files are open already."""

    spool: DiskSpool
    dead_letters: DiskDeadLetters


class Erased(msgspec.Struct, frozen=True, kw_only=True):
    """What was erased of one destination."""

    destination: str
    queued: int
    in_flight: int
    ended: int
    segments: int
    quarantined_files: int
    dead_letters: int
    untouched: list[str]


class Receipt(msgspec.Struct, frozen=True, kw_only=True):
    """What `forwarder erase` prints: what was looked for, when, and what was removed where."""

    by: By
    value: str
    dry_run: bool
    at: str
    version: str
    directory: str
    destinations: list[Erased]
    samples: int
    complete: bool
    """False: some files cannot be read by this version; they are named under `untouched`."""


class _Request(msgspec.Struct, frozen=True):
    by: Literal["email", "user-id", "client-user"]


def person_of(by: str, value: str) -> Person:
    """Return the person; a ValueError says what is wrong with the request."""
    try:
        kind = msgspec.convert({"by": by}, _Request).by
    except msgspec.ValidationError as exc:
        raise ValueError(f"by: expected email, user-id or client-user, got {by!r}") from exc
    if not value.strip():
        raise ValueError("value: expected whom to erase, got nothing")
    return Person(kind, value)


class Erasing:
    """Goes through everything in a spool directory whose lock we hold; what is not open is opened meanwhile."""

    def __init__(
        self,
        *,
        directory: SpoolDirectory,
        live: Mapping[str, Open],
        samples: RefusedSamples,
        clock: Clock,
    ) -> None:
        self._directory = directory
        self._live = live
        self._samples = samples
        self._clock = clock

    async def run(self, person: Person, *, dry_run: bool) -> Receipt:
        """Erase; raises DiskTrouble when the disk does not take it: then run it again."""
        destinations = []
        for name in sorted({*self._live, *self._directory.orphans(()), *_names(self._directory.root / "dead")}):
            async with self._opened(name) as (spool, letters), letters.moving:
                # nothing goes from one to the other meanwhile; what waits to become a dead letter is withdrawn
                found = await spool.erase(person, dry_run=dry_run)
                died = await letters.erase(person, dry_run=dry_run)
            destinations.append(_line(name, found, died))
        return Receipt(
            by=person.by,
            value=person.value,
            dry_run=dry_run,
            at=stamp(self._clock.wall()),
            version=__version__,
            directory=str(self._directory.root),
            destinations=destinations,
            samples=await self._samples.erase(person, dry_run=dry_run),
            complete=not any(one.untouched for one in destinations),
        )

    @asynccontextmanager
    async def _opened(self, name: str) -> AsyncIterator[tuple[DiskSpool, DiskDeadLetters]]:
        live = self._live.get(name)
        if live is not None:
            yield live.spool, live.dead_letters
            return
        spool = DiskSpool(
            directory=self._directory.spool(name),
            quarantine=self._directory.quarantine / name,
            destination=name,
            settings=SpoolSettings(max_size=_NO_LIMIT),
            clock=self._clock,
            metrics=Metrics(),
        )
        limits = DeadLetterLimits(max_size=_NO_LIMIT, max_age=_NO_LIMIT)
        async with DiskDeadLetters(self._directory.dead(name), name, limits, self._clock) as letters, spool:
            yield spool, letters


def _names(directory: Path) -> list[str]:
    return [path.name for path in directory.iterdir() if path.is_dir()] if directory.is_dir() else []


def _line(name: str, found: SpoolErased, died: int) -> Erased:
    return Erased(
        destination=name,
        queued=found.queued,
        in_flight=found.in_flight,
        ended=found.ended,
        segments=found.files,
        quarantined_files=found.quarantined_files,
        dead_letters=died,
        untouched=found.untouched,
    )
