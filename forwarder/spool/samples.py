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

    __slots__ = ("_allowance", "_refilled_at", "dirty", "path", "samples", "size")

    def __init__(self, path: Path) -> None:
        self.path = path
        self.samples: OrderedDict[tuple[str, str], Sample] = OrderedDict()
        self.size = 0
        self.dirty = False
        self._allowance = float(PER_SECOND)
        self._refilled_at = 0.0

    def note(self, refusal: Refusal, wall: float, monotonic: float) -> None:
        """Count a repetition, or take a new sample if the rate allows it."""
        text = refusal.sample[:SAMPLE_LIMIT].decode("utf-8", "backslashreplace")
        known = self.samples.get((refusal.error, text))
        if known is not None:
            known.times += 1
            known.last_at = dead_letter_line.stamp(wall)
            self.samples.move_to_end((refusal.error, text))
            self.dirty = True
        elif self._may(monotonic):
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
        self.samples[(sample.error, sample.sample)] = sample
        self.size += _size(sample)
        while len(self.samples) > MAX_SAMPLES or (self.size > MAX_BYTES and len(self.samples) > 1):
            _, oldest = self.samples.popitem(last=False)
            self.size -= _size(oldest)

    def load(self) -> None:
        """Go on where the last process stopped, as far as its file can be read."""
        with contextlib.suppress(OSError), self.path.open("rb") as file:
            for line in file.read(2 * MAX_BYTES).splitlines():
                with contextlib.suppress(msgspec.DecodeError, UnicodeDecodeError):
                    self._take(msgspec.json.decode(line, type=Sample))

    def erase(self, person: Person, *, dry_run: bool) -> int:
        """Remove the samples that name a person; return how many there are."""
        named = [key for key in self.samples if person.plainly("\n".join(key).encode("utf-8", "replace"))]
        for key in () if dry_run else named:
            self.size -= _size(self.samples.pop(key))
            self.dirty = True
        return len(named)

    def lines(self) -> bytes:
        """Return the file's content."""
        self.dirty = False
        return b"".join(msgspec.json.encode(sample) + b"\n" for sample in self.samples.values())


class RefusedSamples:
    """Call it with what a listener refused: it only notes; `run` writes, off the loop, at most every other second."""

    def __init__(self, directory: Path, clock: Clock, *, write_gap_s: float = WRITE_GAP_S) -> None:
        self._directory = directory
        self._clock = clock
        self._write_gap_s = write_gap_s
        self._rings: dict[str, Ring] = {}
        self._wake = asyncio.Event()

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
        contents = [(ring.path, ring.lines()) for ring in self._rings.values() if ring.dirty]
        if contents:
            await asyncio.shield(asyncio.to_thread(_write, contents))

    async def erase(self, person: Person, *, dry_run: bool) -> int:
        """Remove the samples that name a person from memory and files; return how many. Raises DiskTrouble."""
        rings = {ring.path: ring for ring in self._rings.values()}
        for path in await asyncio.to_thread(lambda: list(self._directory.glob("*.ndjson"))):
            if path not in rings:
                rings[path] = Ring(path)
                await asyncio.to_thread(rings[path].load)
        count = 0
        for ring in rings.values():
            named = ring.erase(person, dry_run=dry_run)
            count += named
            if named and not dry_run:
                with files.trouble("erase samples of", ring.path):
                    await asyncio.to_thread(files.replace, ring.path, ring.lines())
        return count

    def _new_ring(self, label: str) -> Ring | None:
        if len(self._rings) >= MAX_LISTENERS:
            return None
        ring = self._rings[label] = Ring(self._directory / f"{_file_name(label)}.ndjson")
        ring.load()
        return ring


def _write(contents: list[tuple[Path, bytes]]) -> None:
    for path, data in contents:
        try:
            files.replace(path, data, synced=False)
        except OSError as exc:
            log.warning("samples_not_written", path=str(path), error=exc.strerror)


def _file_name(label: str) -> str:
    """Return a listener's label as a file name: `http:127.0.0.1:8765` → `http_127.0.0.1_8765`."""
    return re.sub(r"[^A-Za-z0-9.-]+", "_", label).strip("_.")[:100] or "listener"


def _size(sample: Sample) -> int:
    return len(msgspec.json.encode([sample.sample, sample.error])) + 200
