"""A lane: one destination's delivery state machine. Pure: time and chance are handed in.

flowing ──failed──► backing_off ──probe──► probing ──passed──► flowing (slow start: 1, 2, 4 … concurrency)
   │                     ▲                   │ │
   └──park──► parked ────┼──────probe────────┘ └─failed──► backing_off, or parked again if it was parked
                         └── a failure says something about the destination, so it moves the whole lane
"""

import enum
from collections.abc import Mapping

import msgspec

from forwarder.core import report
from forwarder.core.lane.retry import RetryPolicy

PARKED_PROBE_FIRST_S = 60.0
PARKED_PROBE_LAST_S = 900.0
"""A parked destination is asked once a minute at first, then ever more rarely, down to once in 15 minutes."""


class State(enum.Enum):
    """Where a lane stands; the values are the words of status and metrics."""

    FLOWING = "flowing"
    BACKING_OFF = "backing_off"
    PROBING = "probing"
    PARKED = "parked"
    STOPPED = "stopped"


class Signal(enum.Enum):
    """What moves a lane."""

    PASSED = "passed"  # the vendor took the events, or refused them by their content: it is there
    FAILED = "failed"  # something about the destination: wait
    PARK = "park"  # our configuration is wrong: hold
    UNPROVEN = "unproven"  # the probe of a parked lane came back without showing that the cause is gone
    PROBE = "probe"  # the one request that decides is on its way
    STOP = "stop"
    START = "start"


TRANSITIONS: Mapping[tuple[State, Signal], State] = {
    (State.FLOWING, Signal.PASSED): State.FLOWING,
    (State.FLOWING, Signal.FAILED): State.BACKING_OFF,
    (State.FLOWING, Signal.PARK): State.PARKED,
    (State.FLOWING, Signal.STOP): State.STOPPED,
    (State.BACKING_OFF, Signal.PROBE): State.PROBING,
    (State.BACKING_OFF, Signal.PARK): State.PARKED,
    (State.BACKING_OFF, Signal.STOP): State.STOPPED,
    (State.PROBING, Signal.PASSED): State.FLOWING,
    (State.PROBING, Signal.FAILED): State.BACKING_OFF,
    (State.PROBING, Signal.PARK): State.PARKED,
    (State.PROBING, Signal.UNPROVEN): State.PARKED,
    (State.PROBING, Signal.STOP): State.STOPPED,
    (State.PARKED, Signal.PROBE): State.PROBING,
    (State.PARKED, Signal.PARK): State.PARKED,
    (State.PARKED, Signal.STOP): State.STOPPED,
    (State.STOPPED, Signal.STOP): State.STOPPED,
    (State.STOPPED, Signal.START): State.FLOWING,
}


class IllegalTransition(AssertionError):
    """A signal that cannot come in this state: a bug, never an answer of the vendor."""


class Change(msgspec.Struct, frozen=True):
    """The lane moved; `first` marks the beginning of an episode (the first failure, the first park)."""

    old: State
    new: State
    first: bool = False


class Lane:
    """State, next try, and how many requests may be in flight.

    Every request carries the `epoch` at which it began. What a request of an older epoch says comes too late to move
    the lane (the request beside it has already done so): thirty time-outs of one outage are one failure.
    """

    def __init__(self, *, policy: RetryPolicy, concurrency: int, now: float) -> None:
        self.policy = policy
        self.concurrency = concurrency
        self.state = State.FLOWING
        self.since = now
        self.cause = ""
        self.next_at: float | None = None
        self.epoch = 0
        self.attempt = 0
        self.allowed = 1
        self.episode_since: float | None = None
        self.parked: str | None = None
        self.parked_since: float | None = None
        self.storm = False
        self._probes = 0

    @property
    def standing_since(self) -> float:
        """When it was parked, or began to fail, or to flow; the probes between change nothing."""
        begun = self.parked_since if self.parked is not None else self.episode_since
        return self.since if begun is None or self.state is State.STOPPED else begun

    def room(self, in_flight: int) -> int:
        """Return how many more requests may begin now without a probe."""
        return max(0, min(self.allowed, self.concurrency) - in_flight) if self.state is State.FLOWING else 0

    def due(self, now: float) -> bool:
        """Return whether a probe may begin."""
        return self.state in (State.BACKING_OFF, State.PARKED) and self.next_at is not None and now >= self.next_at

    def begin(self, now: float) -> int:
        """Return the epoch for a request that begins now; in backoff or parked it becomes the probe."""
        if self.state not in (State.FLOWING, State.PROBING):
            self._move(Signal.PROBE, now)
            self.next_at = None
        return self.epoch

    def passed(self, epoch: int, *, now: float) -> Change | None:
        """Take note that the vendor is there: a probe reopens the lane, and each answer widens it by one."""
        if epoch != self.epoch or self.state is State.STOPPED:
            return None
        if self.state is State.FLOWING:
            self.allowed = min(self.concurrency, self.allowed + 1)
            self.attempt = 0
            return None
        change = self._move(Signal.PASSED, now)
        self.parked, self.storm, self.cause, self.next_at = None, False, "", None
        self.allowed, self.attempt, self._probes, self.episode_since = 1, 0, 0, None
        return change

    def failed(
        self,
        epoch: int,
        *,
        cause: str,
        now: float,
        jitter: float,
        retry_after_s: float | None = None,
        grows: bool = True,
    ) -> Change | None:
        """Back off; `grows` is False for a suspect's failure, which says little about the destination."""
        if epoch != self.epoch or self.state is State.STOPPED:
            self._extend(now, retry_after_s)
            return None
        if self.parked is not None:
            return self._park_again(Signal.UNPROVEN, now, jitter, retry_after_s)
        if grows or self.attempt == 0:
            self.attempt += 1
        change = self._move(Signal.FAILED, now, first=self.episode_since is None)
        self.cause = cause
        self.episode_since = now if self.episode_since is None else self.episode_since
        self.next_at = now + max(retry_after_s or 0.0, self.policy.delay(self.attempt, jitter))
        return change

    def unproven(self, epoch: int, *, now: float, jitter: float) -> Change | None:
        """Go back to parked: the probe's answer does not show that the cause is gone."""
        if epoch != self.epoch or self.state is not State.PROBING:
            return None
        return self._park_again(Signal.UNPROVEN, now, jitter, None)

    def park(
        self,
        epoch: int,
        *,
        cause: str,
        now: float,
        jitter: float,
        retry_after_s: float | None = None,
        storm: bool = False,
    ) -> Change | None:
        """Hold everything until the configuration is put right."""
        if epoch != self.epoch or self.state is State.STOPPED:
            self._extend(now, retry_after_s)
            return None
        self.cause, self.storm = cause, storm
        if self.parked is None:
            self._probes = 0
            self.parked_since = now
            self.episode_since = now if self.episode_since is None else self.episode_since
        first, self.parked = self.parked is None, cause
        return self._park_again(Signal.PARK, now, jitter, retry_after_s, first=first)

    def resume(self, now: float) -> None:
        """Let the next probe begin now (`forwarder resume`, a new secret, a reload)."""
        self._probes = 0
        if self.state in (State.BACKING_OFF, State.PARKED):
            self.next_at = now

    def postpone(self, now: float, jitter: float) -> None:
        """Skip a due probe that could not tell anything (the write key is still missing)."""
        self.next_at = now + self._parked_delay(jitter)

    def stop(self, cause: str, now: float) -> Change:
        """End: nothing begins any more."""
        change = self._move(Signal.STOP, now)
        self.cause, self.next_at = cause, None
        return change

    def start(self, now: float) -> Change:
        """Begin again after `stop`."""
        change = self._move(Signal.START, now)
        self.cause, self.parked, self.allowed, self.attempt, self.episode_since = "", None, 1, 0, None
        return change

    def words(self, now: float) -> str:
        """Return the reason that status shows; empty while all is well."""
        if self.state is State.FLOWING:
            return ""
        if self.state is State.STOPPED:
            return self.cause
        shown = self.parked if self.parked is not None else f"after {self.cause}"
        if self.state is State.PROBING:
            return f"{shown}; one request is trying it"
        if self.next_at is None:
            return shown
        if now >= self.next_at:
            return f"{shown}, next try with the next event"
        return f"{shown}, next try in {report.duration(self.next_at - now)}"

    def _extend(self, now: float, retry_after_s: float | None) -> None:
        if self.state is State.BACKING_OFF and retry_after_s and self.next_at is not None:
            self.next_at = max(self.next_at, now + retry_after_s)

    def _park_again(
        self, signal: Signal, now: float, jitter: float, retry_after_s: float | None, *, first: bool = False
    ) -> Change:
        change = self._move(signal, now, first=first)
        self.next_at = now + max(retry_after_s or 0.0, self._parked_delay(jitter))
        return change

    def _parked_delay(self, jitter: float) -> float:
        delay = parked_delay(self._probes, jitter)
        self._probes += 1
        return delay

    def _move(self, signal: Signal, now: float, *, first: bool = False) -> Change:
        target = TRANSITIONS.get((self.state, signal))
        if target is None:
            raise IllegalTransition(f"{signal.value} while {self.state.value}")
        change = Change(self.state, target, first)
        self.epoch += 1
        self.since = now
        self.state = target
        return change


def parked_delay(probes: int, jitter: float) -> float:
    """Return the seconds until the next gentle probe after `probes` of them: 1 → 15 minutes, spread by a tenth."""
    delay = min(PARKED_PROBE_LAST_S, PARKED_PROBE_FIRST_S * 2.0 ** min(probes, 10))
    return delay * (0.9 + 0.1 * jitter)
