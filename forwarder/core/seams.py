"""The seams: the protocols and values by which the layers meet. Read this file first.

    source ──submit(groups)──► Intake ──append──► Spool ──lease──► flusher ──ack──► Spool

A *source* turns bytes from a socket into groups of checked events (with the help of a vendor) and submits them. The
*intake* reserves room in every spool concerned and appends. A *flusher* leases spans of records from one spool, sends
them and acks them by outcome. A JetStream spool could stand beside the disk one behind `Spool`.
"""

import enum
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

import msgspec

from forwarder.core.joining import Joining
from forwarder.core.spool.frame import Span


class Durability(enum.IntEnum):
    """How far an event must have come before its sender is answered; ordered, weakest first."""

    MEMORY = 0
    WRITTEN = 1
    FSYNC = 2
    DELIVERED = 3

    @property
    def word(self) -> str:
        """Return the name used in configuration, queries and headers."""
        return self.name.lower()


class Outcome(enum.IntEnum):
    """How a sequence ended; the values are part of the file format (docs/FORMAT.md)."""

    DELIVERED = 1
    DIED = 2
    EXPIRED = 3
    EVICTED = 4
    UNREADABLE = 5
    ERASED = 6
    SKIPPED = 7


class Trait(msgspec.Struct, frozen=True, gc=False):
    """What the lane must know of one record without parsing it again.

    `aged` selects the age limit: 0 = `max_age`, 1 = `profile_max_age`. `order` holds up to four 64-bit keys; records
    that share any of them are delivered in sequence order (Encharge: one key per identity of the person).
    """

    aged: int = 0
    order: tuple[int, ...] = ()


class Group(msgspec.Struct, gc=False):
    """Events of one request that go to one destination under one batch key, in the sender's order.

    `events` are the bytes to store, each from `{` to `}`. `traits` has one entry an event, or is None when the vendor
    needs none (TelemetryDeck). `size` is the sum of the lengths of `events` in bytes.
    """

    destination: str
    batch_key: bytes
    events: list[bytes]
    size: int
    traits: list[Trait] | None = None
    accepted_at: float | None = None
    """Seconds since the epoch when these were accepted before (a replay that keeps the age); None: now."""


class Busy(msgspec.Struct, frozen=True):
    """Nothing was stored: which limit or fault refused it. Answered 503 with Retry-After."""

    destination: str
    limit: str
    message: str
    retry_after_s: int


class Stored(msgspec.Struct, frozen=True):
    """The events are as durable as `level` says."""

    level: Durability


class Failed(msgspec.Struct, frozen=True):
    """The commit failed (503). The events may be delivered nevertheless."""

    message: str


Done = Callable[[Stored | Failed], None]
"""Called exactly once, on the event loop, possibly before `submit` returns.

At `Durability.DELIVERED` twice, unless the commit fails: with the level reached once the events are committed (so that
the sender can be answered when its time-out passes), then with DELIVERED, or Failed if one of them ended otherwise, or
the level reached again when nothing more will be known (too many wait already, or the spool closes).
"""


class Intake(Protocol):
    """Where sources hand over checked events."""

    joining: Joining
    """Says when what is read should not be checked yet."""

    def submit(self, groups: Sequence[Group], level: Durability, done: Done) -> Busy | None:
        """Reserve room in all destinations, then append to all; `done` is called when `level` is reached.

        When this returns Busy nothing was stored and `done` is never called. `groups` is not empty.
        """


class Clock(Protocol):
    """The only way to the time; built in app.py (the one reader of the clock), faked in tests."""

    def monotonic(self) -> float:
        """Return seconds that never jump: for backoff and intervals."""

    def wall(self) -> float:
        """Return seconds since the epoch: for ages and stamps."""


class Held(Protocol):
    """What a lane does not want leased just now (parked batch keys, persons whose event is set aside)."""

    def __bool__(self) -> bool:
        """Return whether anything at all is held."""

    def key(self, batch_key: bytes) -> bool:
        """Return whether records of this batch key are held."""

    def order(self, keys: tuple[int, ...]) -> bool:
        """Return whether records with these order keys are held."""


class SpoolStats(msgspec.Struct, frozen=True, kw_only=True):
    """One spool at one moment. Sizes in bytes on disk, times in seconds since the epoch."""

    destination: str
    first_sequence: int
    next_sequence: int
    queued_events: int
    bytes: int
    limit_bytes: int
    segments: int
    oldest_accepted_at: float | None
    ledger: Mapping[str, int]
    """Events by outcome word (`delivered`, `died`, …), all-time totals of this spool."""
    imbalance: int
    """next − first − queued − Σ ledger; anything but 0 is a bug or a file that somebody deleted."""
    trouble: str | None
    trouble_since: float | None
    refusing: bool = False
    """The trouble keeps events from being accepted; otherwise it hurts reading or checkpoints only."""
    unreadable: Sequence[tuple[int, int]] = ()
    """Ranges [first, next) that recovery could not read."""
    dead_letters: int = 0
    commits: int = 0
    last_progress: float = 0.0
    """Monotonic time at which the writer thread last finished a step (or was idle)."""


class Spool(Protocol):
    """The disk-backed queue of one destination, as lanes and the intake see it. All calls are made on the loop."""

    destination: str

    def reserve(self, size: int, events: int) -> Busy | None:
        """Set room aside for an append that follows at once, evicting if the policy says so."""

    def cancel(self, size: int, events: int) -> None:
        """Give back a reservation whose append will not come (another destination was busy)."""

    def append(self, group: Group, level: Durability, done: Done) -> None:
        """Take a reserved group into the next commit."""

    def unerased(self, spans: Sequence[Span]) -> Sequence[Span]:
        """Return leased spans without the records that were erased meanwhile: those must not be sent or kept."""

    @property
    def flood(self) -> float:
        """Return the bytes a second that come in, if it is a flood that delivery has fallen behind; else 0.

        Then it may send less, so that the door can take the flood in.
        """

    def on_arrival(self, callback: Callable[[], None]) -> None:
        """Call `callback` on the loop whenever records became leasable after there were none."""

    async def lease(self, max_bytes: int, held: Held) -> list[Span]:
        """Return committed, unacked, unleased spans, oldest first, about `max_bytes` in all; empty when there are none.

        Records that `held` names are passed over; they come back after `rewind`.
        """

    def ack(self, spans: Sequence[Span], outcome: Outcome) -> None:
        """End these records; journalled (not synced) when this returns, so it survives SIGKILL."""

    def release(self, spans: Sequence[Span]) -> None:
        """Give leased records back; they are leased again, in order, after `rewind`."""

    def rewind(self) -> None:
        """Let `lease` start over at the oldest record that is neither acked nor leased."""

    def remember(self, key: str, value: object) -> None:
        """Keep a small JSON value (a learned limit, say) with the next checkpoint; None forgets it."""

    def recall(self) -> Mapping[str, object]:
        """Return what was remembered, this run or before."""

    def stats(self) -> SpoolStats:
        """Return what `status` and the metrics show."""


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True):
    """One event that will not be retried; times in seconds since the epoch."""

    sequence: int
    event: bytes
    batch_key: bytes
    reason: str
    """`refused`, `poison`, `too_large`, `ambiguous`, `expired`."""
    status: int | None
    answer: str
    """The vendor's answer, at most 2 KiB; may echo personal data, so it is never logged."""
    attempts: int
    accepted_at: float
    died_at: float


class DeadLetters(Protocol):
    """The dead-letter file of one destination."""

    @property
    def moving(self) -> AbstractAsyncContextManager[object]:
        """Held while events go from the spool to the letters or back, and while a person is erased from both."""

    async def add(self, letters: Sequence[DeadLetter]) -> None:
        """Write and sync; raises DiskTrouble when the disk does not take it (then nothing may be acked)."""


class DeadLetterStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The dead letters of one destination; died = present + replayed + purged."""

    destination: str
    present: int
    replayed: int
    purged: int
    bytes: int
    oldest_died_at: float | None


class LaneStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One lane at one moment, as `status` shows it; times in seconds since the epoch."""

    destination: str
    state: str
    """`flowing`, `backing_off`, `probing`, `parked`, `stopped`."""
    since: float
    reason: str
    """In words: "after 503, next try in 42 s", "401, check write key"; empty while all is well."""
    next_try_at: float | None
    in_flight: int
    concurrency: int
    """Requests allowed at once right now (slow start), not the setting."""
    parked_keys: Mapping[str, str]
    """Parked batch keys and why."""
    set_aside: int
    """Suspect events or batches retrying alone."""
    delivered_per_second: float
    """Over the last minute."""
    last_error: str | None
    last_error_at: float | None
    last_delivered_at: float | None
    last_progress: float
    """Monotonic time of the loop's last turn."""
    late_events: int = 0
    """TelemetryDeck events delivered more than 24 h after acceptance since the start: the vendor clamps their time."""
    order_waits: int = 0
    """Records since the start that made the lane wait because no more persons could be set aside."""


class ListenerStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One bound listener."""

    label: str
    kind: str
    """`http`, `udp`, `unix_datagram`."""
    accepting: bool
    connections: int = 0
    inflight_bytes: int = 0
    receive_buffer: int = 0
    """What the kernel granted (UDP)."""
    kernel_drops: int = 0
    note: str = ""
    received: int = 0
    """Events since the start, refused ones included."""
    refused: Mapping[str, int] = {}
    """Events not accepted since the start, by reason; the sender was told."""
    shed: Mapping[str, int] = {}
    """The same, but nobody could be told."""
    last_refusal: str = ""
    """What was wrong with the last event of which a sample was kept."""
    last_refused_at: float | None = None


class DiskStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The volume under the spool directory, in bytes."""

    directory: str
    free_bytes: int
    used_bytes: int
    """All of the spool directory, dead letters and quarantine included."""
    limit_bytes: int


class DaemonView(Protocol):
    """What the admin listener, the control socket and sd_notify may see of the daemon. Built in app.py."""

    version: str
    started_at: float

    def not_accepting(self) -> str | None:
        """Return why events cannot be accepted locally, or None; never about vendors."""

    def degraded(self) -> str | None:
        """Return what is wrong with a disk though events are accepted (an old segment cannot be read, say), or None."""

    def stuck(self) -> str | None:
        """Return what has made no progress for 60 s (loop, writer thread), or None."""

    def listeners(self) -> Sequence[ListenerStatus]:
        """Return every bound listener."""

    def spools(self) -> Sequence[SpoolStats]:
        """Return every spool, spools without a configured destination included."""

    def lanes(self) -> Sequence[LaneStatus]:
        """Return every lane."""

    def dead_letters(self) -> Sequence[DeadLetterStatus]:
        """Return the dead letters of every destination."""

    def disk(self) -> DiskStatus:
        """Return the state of the volume."""

    def notes(self) -> Sequence[str]:
        """Return standing remarks: orphaned spools, key mismatches, quarantined files."""


class Controls(Protocol):
    """What changes something; reachable through the control socket only."""

    async def resume(self, destination: str) -> str:
        """Probe a parked lane now; return one line that says what happens. Raises KeyError for an unknown name."""

    def log_level(self, level: str) -> str:
        """Set the level; return one line."""

    async def reload(self) -> list[str]:
        """Read the configuration again; return the problems (then the old one stays in force)."""

    async def replay(self, destination: str, sequences: Sequence[int], *, keep_age: bool) -> int:
        """Put dead letters back through the spool; return how many."""

    async def purge(self, destination: str, sequences: Sequence[int]) -> int:
        """Delete dead letters for good; return how many."""

    async def erase(self, by: str, value: str, *, dry_run: bool) -> Mapping[str, object]:
        """Remove one person's events everywhere; return the receipt. Raises ValueError for an unknown `by`."""
