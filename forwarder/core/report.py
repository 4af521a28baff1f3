"""What an operator wants to know, as one value: built by the daemon, read by `forwarder status` and the status page.

Times are seconds since the epoch, durations seconds, sizes bytes.
"""

from collections import deque
from collections.abc import Sequence
from datetime import UTC, datetime, tzinfo

import msgspec

from forwarder.core.lane.outcome import UNREACHABLE
from forwarder.core.seams import (
    Clock,
    DaemonView,
    DeadLetterStatus,
    DiskStatus,
    LaneStatus,
    ListenerStatus,
    SpoolStats,
)

WINDOW_S = 60.0
"""Rates are means over this time, or over the time since the start."""
SAMPLE_GAP_S = 5.0
_NO_ANSWER = tuple(f"after {word}" for word in UNREACHABLE.values())


class DestinationReport(msgspec.Struct, frozen=True, kw_only=True):
    """One destination. `lane` is None for a spool that no configured destination uses."""

    name: str
    words: str
    """The state of the lane in words: "backing off after 503, next try in 42 s"."""
    advice: str
    """What to do about it; empty while there is nothing to do or to know."""
    oldest_age_s: float | None
    accepted_per_second: float | None
    """None until two samples are there."""
    delivered_per_second: float
    seconds_to_full: float | None
    """When the spool reaches its limit at the present rate; None when it does not grow."""
    seconds_to_empty: float | None
    """When the queue is empty at the present rate; None when it does not shrink."""
    spool: SpoolStats
    lane: LaneStatus | None
    dead_letters: DeadLetterStatus | None
    dead_letter_imbalance: int
    """died − present − replayed − purged; negative for a moment while letters are written and not yet acked."""


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """The daemon at one moment."""

    version: str
    started_at: float
    now: float
    accepting: bool
    not_accepting: str | None
    stuck: str | None
    listeners: Sequence[ListenerStatus]
    destinations: Sequence[DestinationReport]
    disk: DiskStatus
    notes: Sequence[str]


class _Point(msgspec.Struct, frozen=True):
    next_sequence: int
    queued: int


class Reporter:
    """Builds reports and remembers a minute of samples for the rates; whoever has a timer calls `sample`."""

    def __init__(self, view: DaemonView, clock: Clock) -> None:
        self._view = view
        self._clock = clock
        self._samples: deque[tuple[float, dict[str, _Point]]] = deque()

    def sample(self) -> None:
        """Remember where every spool stands."""
        now = self._clock.monotonic()
        if self._samples and now - self._samples[-1][0] < SAMPLE_GAP_S:
            return
        points = {stats.destination: _Point(stats.next_sequence, stats.queued_events) for stats in self._view.spools()}
        self._samples.append((now, points))
        while now - self._samples[0][0] > WINDOW_S:
            self._samples.popleft()

    def report(self) -> Report:
        """Return the present state."""
        view = self._view
        refusal = view.not_accepting()
        lanes = {lane.destination: lane for lane in view.lanes()}
        letters = {found.destination: found for found in view.dead_letters()}
        return Report(
            version=view.version,
            started_at=view.started_at,
            now=self._clock.wall(),
            accepting=refusal is None,
            not_accepting=refusal,
            stuck=view.stuck(),
            listeners=view.listeners(),
            destinations=[
                self._destination(stats, lanes.get(stats.destination), letters.get(stats.destination))
                for stats in view.spools()
            ],
            disk=view.disk(),
            notes=view.notes(),
        )

    def _destination(
        self, stats: SpoolStats, lane: LaneStatus | None, letters: DeadLetterStatus | None
    ) -> DestinationReport:
        now = self._clock.wall()
        accepted, growth = self._rates(stats)
        oldest = stats.oldest_accepted_at
        return DestinationReport(
            name=stats.destination,
            words=words(lane, now),
            advice=advice(lane),
            oldest_age_s=None if oldest is None else max(now - oldest, 0.0),
            accepted_per_second=accepted,
            delivered_per_second=lane.delivered_per_second if lane else 0.0,
            seconds_to_full=_to_full(stats, growth),
            seconds_to_empty=stats.queued_events / -growth if growth < 0 else None,
            spool=stats,
            lane=lane,
            dead_letters=letters,
            dead_letter_imbalance=_letters_missing(stats, letters),
        )

    def _rates(self, stats: SpoolStats) -> tuple[float | None, float]:
        """Return (accepted a second or None, growth of the queue in events a second)."""
        now = self._clock.monotonic()
        for at, points in self._samples:
            before = points.get(stats.destination)
            if before is not None and now - at >= 1.0:
                elapsed = now - at
                accepted = max(stats.next_sequence - before.next_sequence, 0) / elapsed
                return accepted, (stats.queued_events - before.queued) / elapsed
        return None, 0.0


def words(lane: LaneStatus | None, now: float, zone: tzinfo | None = None) -> str:
    """Return the state of a lane as one would say it; times of day in `zone`, None: this machine's."""
    if lane is None:
        return "no such destination is configured: its events stay on disk"
    state = lane.state.replace("_", " ")
    waits = lane.next_try_at is not None and "next try" not in lane.reason
    reason = ", ".join(filter(None, (lane.reason, _next_try(lane.next_try_at, now) if waits else "")))
    if lane.state == "parked":
        return f"parked since {moment(lane.since, now, zone)}: {reason}"
    return f"{state} {reason}".strip()


def advice(lane: LaneStatus | None) -> str:
    """Return what a person can do about the state of a lane."""
    if lane is None or lane.state in ("flowing", "stopped"):
        return ""
    if not lane.reason.startswith("after "):  # parked, or a parked one's probe
        return f"events are kept; put it right, then: forwarder resume {lane.destination}"
    if lane.reason.startswith(_NO_ANSWER):
        return f"events are kept; if it goes on, check network, DNS, proxy and destinations.{lane.destination}.url"
    return "nothing: events are kept, and go out by themselves when the vendor takes them again"


def _next_try(at: float | None, now: float) -> str:
    return "" if at is None else f"next try in {duration(max(at - now, 0.0))}"


def moment(at: float, now: float, zone: tzinfo | None = None) -> str:
    """Return a time of day, with its date when that is not the day of `now`: `10:02`, `2026-05-28 10:02`."""
    then, today = (datetime.fromtimestamp(each, UTC).astimezone(zone) for each in (at, now))
    return f"{then:%H:%M}" if then.date() == today.date() else f"{then:%Y-%m-%d %H:%M}"


def duration(seconds: float) -> str:
    """Return seconds in the two largest units: `42 s`, `3 min 5 s`, `2 d 4 h`."""
    whole = round(seconds)
    if whole < 60:  # noqa: PLR2004 (a minute)
        return f"{whole} s"
    for size, name, smaller, smaller_name in ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= size:
            rest = whole % size // smaller
            return f"{whole // size} {name} {rest} {smaller_name}" if rest else f"{whole // size} {name}"
    raise AssertionError(seconds)


def _to_full(stats: SpoolStats, growth: float) -> float | None:
    if growth <= 0 or not stats.queued_events:
        return None
    event_size = stats.bytes / stats.queued_events
    return max(stats.limit_bytes - stats.bytes, 0) / (growth * event_size) if event_size else None


def _letters_missing(stats: SpoolStats, letters: DeadLetterStatus | None) -> int:
    if letters is None:
        return 0
    return stats.ledger.get("died", 0) - letters.present - letters.replayed - letters.purged
