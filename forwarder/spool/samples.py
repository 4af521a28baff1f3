"""Samples of refused events: a bounded ring per listener in `refused/`, to answer "what is wrong with it?".

A client that resends the same bad event for ever raises a count in one sample; one that sends ever different bad events
pushes out its own older ones, at a bounded rate. Neither makes anything grow.
"""

import asyncio
import contextlib
import re
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path

import aiofiles
import msgspec
import structlog

from forwarder.core.seams import Clock
from forwarder.spool import dead_letter_line, files
from forwarder.spool.person import Person
from forwarder.vendors.base import Refusal

MAX_SAMPLES = 100
MAX_BYTES = 256 * 1024
MAX_LISTENERS = 64
"""Further listeners get no samples."""
SAMPLE_LIMIT = 2048
PER_CALL = 10
"""Refusals looked at in one request: its first ones."""
PER_SECOND = 20
"""New samples a second and listener; the rest goes by."""
WRITE_GAP_S = 2.0

log = structlog.get_logger()


class Sample(msgspec.Struct, kw_only=True):
    """One line of `refused/LISTENER.ndjson`."""

    first_at: str
    last_at: str
    times: int
    index: int
    reason: str
    error: str
    sample: str
    """At most the first 2 KiB of the event as sent; bytes that are not UTF-8 as \\xNN."""


class Ring:
    """The samples of one listener, the most recently refused last."""

    __slots__ = ("_allowance", "_refilled_at", "dirty", "loaded", "path", "samples", "size")

    def __init__(self, path: Path) -> None:
        self.path = path
        self.samples: OrderedDict[tuple[str, str], Sample] = OrderedDict()
        self.size = 0
        self.dirty = False
        self.loaded = False
        """Whether what the last process left in the file is among the samples."""
        self._allowance = float(PER_SECOND)
        self._refilled_at = 0.0

    def note(self, refusal: Refusal, wall: float, monotonic: float) -> None:
        """Count a repetition, or take a new sample if the rate allows it."""
        text = refusal.sample[:SAMPLE_LIMIT].decode("utf-8", "backslashreplace")
        if (refusal.error, text) in self.samples or self._may(monotonic):
            now = dead_letter_line.stamp(wall)
            self._take(Sample(
                first_at=now, last_at=now, times=1,
                index=refusal.index, reason=refusal.reason, error=refusal.error, sample=text,
            ))  # fmt: skip
            self.dirty = True

    def _may(self, monotonic: float) -> bool:
        self._allowance = min(PER_SECOND, self._allowance + (monotonic - self._refilled_at) * PER_SECOND)
        self._refilled_at = monotonic
        if self._allowance < 1:
            return False
        self._allowance -= 1
        return True

    def _take(self, sample: Sample) -> None:
        key = (sample.error, sample.sample)
        known = self.samples.get(key)
        if known is not None:
            known.times += sample.times
            known.last_at = sample.last_at
            self.samples.move_to_end(key)
            return
        self.samples[key] = sample
        self.size += _size(sample)
        while len(self.samples) > MAX_SAMPLES or (self.size > MAX_BYTES and len(self.samples) > 1):
            _, oldest = self.samples.popitem(last=False)
            self.size -= _size(oldest)

    async def load(self) -> None:
        """Put what the last process left before what was noted since, once. Raises OSError: the file cannot be read."""
        if self.loaded:
            return
        content = b""
        with contextlib.suppress(FileNotFoundError):
            async with aiofiles.open(self.path, "rb") as file:
                content = await file.read(2 * MAX_BYTES)
        self.loaded = True
        self._put_before(content)

    def _put_before(self, content: bytes) -> None:
        noted, self.samples, self.size = self.samples, OrderedDict(), 0
        for line in content.splitlines():
            try:
                self._take(msgspec.json.decode(line, type=Sample))
            except (msgspec.DecodeError, UnicodeDecodeError):
                self.dirty = True  # not written again: nobody can tell whom it names
        for sample in noted.values():
            self._take(sample)

    async def store(self, *, synced: bool) -> None:
        """Put the samples in the place of the file; they stay dirty when that raises OSError."""
        self.dirty = False
        content = b"".join(msgspec.json.encode(sample) + b"\n" for sample in self.samples.values())
        try:
            await asyncio.to_thread(files.replace, self.path, content, synced=synced)
        except OSError:
            self.dirty = True
            raise

    def erase(self, person: Person, *, dry_run: bool) -> int:
        """Remove the samples that name a person; return how many there are."""
        named = [key for key in self.samples if person.plainly("\n".join(key).encode("utf-8", "replace"))]
        for key in () if dry_run else named:
            self.size -= _size(self.samples.pop(key))
            self.dirty = True
        return len(named)


class RefusedSamples:
    """Call it with what a listener refused: it only notes; `run` writes, off the loop, at most every other second."""

    def __init__(self, directory: Path, clock: Clock, *, write_gap_s: float = WRITE_GAP_S) -> None:
        self._directory = directory
        self._clock = clock
        self._write_gap_s = write_gap_s
        self._rings: dict[str, Ring] = {}
        self._wake = asyncio.Event()
        self._files = asyncio.Lock()
        """Held while files are read and written: an older content must not take the place of a newer one."""

    def __call__(self, label: str, refusals: Sequence[Refusal]) -> None:
        """Note the first few of `refusals` by the listener `label`; never waits, never raises."""
        ring = self._rings.get(label) or self._new_ring(label)
        if ring is None or not refusals:
            return
        wall, monotonic = self._clock.wall(), self._clock.monotonic()
        for refusal in refusals[:PER_CALL]:
            ring.note(refusal, wall, monotonic)
        self._wake.set()

    def latest(self, label: str) -> Sample | None:
        """Return the most recently refused sample of a listener."""
        ring = self._rings.get(label)
        return next(reversed(ring.samples.values()), None) if ring is not None else None

    async def run(self) -> None:
        """Write what was noted, until cancelled; then once more."""
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                await self.write()
                await asyncio.sleep(self._write_gap_s)
        finally:
            await self.write()

    async def write(self) -> None:
        """Write the rings that changed. Not synced: samples are a convenience. A failing disk costs a warning."""
        await asyncio.shield(self._write())  # a cancelled wait stops no thread

    async def _write(self) -> None:
        async with self._files:
            for ring in [ring for ring in self._rings.values() if ring.dirty]:
                with contextlib.suppress(OSError):
                    await ring.load()
                ring.loaded = True  # as far as it could be read
                try:
                    await ring.store(synced=False)
                except OSError as exc:
                    log.warning("samples_not_written", path=str(ring.path), error=exc.strerror)

    async def erase(self, person: Person, *, dry_run: bool) -> int:
        """Remove the samples that name a person from memory and files; return how many. Raises DiskTrouble."""
        return await asyncio.shield(self._erase(person, dry_run=dry_run))

    async def _erase(self, person: Person, *, dry_run: bool) -> int:
        async with self._files:
            rings = [*self._rings.values()]  # two labels may have one file
            noted = {ring.path for ring in rings}
            found = await asyncio.to_thread(lambda: list(self._directory.glob("*.ndjson")))
            rings += [Ring(path) for path in found if path not in noted]
            if not dry_run:
                with files.trouble("erase half-written samples in", self._directory):
                    await asyncio.to_thread(_delete_half_written, self._directory)
            return sum([await _erase(ring, person, dry_run=dry_run) for ring in rings])

    def _new_ring(self, label: str) -> Ring | None:
        if len(self._rings) >= MAX_LISTENERS:
            return None
        ring = self._rings[label] = Ring(self._directory / f"{_file_name(label)}.ndjson")
        return ring


def _delete_half_written(directory: Path) -> None:
    for path in directory.glob(".*.ndjson.new"):  # left by a process that was killed
        files.delete(path)


async def _erase(ring: Ring, person: Person, *, dry_run: bool) -> int:
    with files.trouble("erase samples of", ring.path):
        await ring.load()
        named = ring.erase(person, dry_run=dry_run)
        if ring.dirty and not dry_run:  # also when an earlier erasure could not write
            await ring.store(synced=True)
    return named


def _file_name(label: str) -> str:
    """Return a listener's label as a file name: `http:127.0.0.1:8765` → `http_127.0.0.1_8765`."""
    return re.sub(r"[^A-Za-z0-9.-]+", "_", label).strip("_.")[:100] or "listener"


def _size(sample: Sample) -> int:
    return len(msgspec.json.encode([sample.sample, sample.error])) + 200
