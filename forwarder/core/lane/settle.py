"""What follows from one request's result: the only place that decides it. Pure; effects go to the outbox."""

import enum
from collections import deque
from collections.abc import Sequence

import msgspec

from forwarder.core.lane.batch import Batch
from forwarder.core.lane.bisect import Isolation
from forwarder.core.lane.effect import Ambiguous, Bury, Delivered, Effect, Release, Remember, Report, Split
from forwarder.core.lane.holds import Holds
from forwarder.core.lane.keys import Keys
from forwarder.core.lane.lane import Change, Lane, State
from forwarder.core.lane.limit import Limits
from forwarder.core.lane.outcome import Judged, Result, Verdict
from forwarder.core.lane.refusals import Culprit, Refusals
from forwarder.core.lane.rules import Rules
from forwarder.core.lane.window import ASIDE_LIMIT, Window
from forwarder.core.spool.frame import Span

SUSPICIOUS = 2
"""Failures after which a batch is set aside, so that the next probe asks with another one."""
DNS_PATIENCE_S = 900.0
SPECIMENS = 64
"""Records of a parked key that stay in memory, so that each probe may ask with another one."""
AMBIGUOUS_PREFIX = "ambiguous:"


class Role(enum.StrEnum):
    """Why a request is sent."""

    NORMAL = "normal"  # ordinary traffic; also the probe after a backoff
    SOLO = "solo"  # a suspect, alone beside the traffic
    KEY = "key"  # one record of a parked batch key
    PARKED = "parked"  # one record of a parked lane


class Send(msgspec.Struct, frozen=True, gc=False):
    """One request to make."""

    batch: Batch
    epoch: int
    role: Role
    suspect: bool = False


class Moment(msgspec.Struct, frozen=True, gc=False):
    """When a result came, and the chance drawn for it."""

    now: float
    jitter: float


class Settlement:
    """Judges results; owns who is suspect, guilty or parked, on behalf of Delivery."""

    def __init__(
        self, rules: Rules, *, lane: Lane, window: Window, limits: Limits, holds: Holds, outbox: list[Effect]
    ) -> None:
        self.rules = rules
        self.lane = lane
        self.window = window
        self.limits = limits
        self.holds = holds
        self.outbox = outbox
        self.keys = Keys()
        self.refusals = Refusals(rules.storm_min)
        self.in_flight: set[Batch] = set()
        self.delivered = 0
        """Batches delivered, the evidence that others succeed."""
        self.episode_failures = 0
        """Requests that failed since the lane last flowed, parked or backing off."""
        self.ambiguous: dict[int, int] = {}
        """Ambiguous sends by sequence, remembered over restarts; only of events not yet resolved."""
        self.solo_at = 0.0
        self._solo_streak = 0
        self._dns_since: float | None = None
        self._dns_told = False

    def settle(self, send: Send, result: Result, at: Moment) -> Judged:
        """Decide what follows from `result`."""
        judged = self._watch_dns(self.rules.answers.judge(result), at)
        self.in_flight.discard(send.batch)
        if judged.ambiguous:
            self.outbox.append(Ambiguous())
        match judged.verdict:
            case Verdict.DELIVERED:
                self._deliver(send, at)
            case Verdict.ISOLATE | Verdict.TOO_LARGE:
                self._isolate(send, judged, at)
            case Verdict.PARK:
                self._give_back(send)
                self._park(send.epoch, judged, at)
            case Verdict.PARK_KEY:
                self._park_key(send, judged, at)
            case Verdict.BACK_OFF:
                self._back_off(send, judged, at)
        if judged.retry_after_s and judged.verdict is not Verdict.BACK_OFF and self.lane.state is State.FLOWING:
            self._fail_lane(self.lane.epoch, judged, at)  # "not before then" is meant, whatever the status
        self.episode_failures += judged.verdict is not Verdict.DELIVERED and self.lane.episode_since is not None
        return judged

    def close_isolations(self) -> None:
        """Bury culprits of isolations that are over and were no storm."""
        if len(self.refusals):
            self._bury_culprits(self.refusals.settled(self._busy))

    def changed(self, change: Change | None, at: Moment) -> None:
        """Report a move of the lane that begins or ends an episode."""
        if change is None:
            return
        lane = self.lane
        if change.new is State.PARKED and change.first:
            self._report(
                "error", "delivery_parked", reason=lane.cause, until="the cause is gone, or `forwarder resume`"
            )
        elif change.new is State.BACKING_OFF and change.first:
            wait = round((lane.next_at or at.now) - at.now, 1)
            self._report("warning", "delivery_failing", reason=lane.cause, retry_in_s=wait)

    # --- delivered

    def _deliver(self, send: Send, at: Moment) -> None:
        batch = send.batch
        self.outbox.append(Delivered(batch.spans))
        self._resolve(batch, accepted=True)
        self.delivered += 1
        self._solo_streak, self.solo_at = 0, at.now
        self._passed(send.epoch, at)
        if self.keys.parked:
            self._unpark_key(batch.key)
        self._bury_culprits(self.refusals.accepted(batch.key))
        raised = self.limits.passed(batch.key, batch.size)
        if raised is not None:
            self.outbox.append(Remember(*raised))

    def _passed(self, epoch: int, at: Moment) -> None:
        since, cause = self.lane.episode_since, self.lane.cause
        change = self.lane.passed(epoch, now=at.now)
        if change is None:
            return
        outage = round(at.now - (since if since is not None else at.now), 1)
        failures, self.episode_failures = self.episode_failures, 0
        self._report("info", "delivery_recovered", after=cause, outage_s=outage, failed_requests=failures)
        self.window.hurry_suspects(at.now)
        self.keys.resume(at.now)

    def _resolve(self, batch: Batch, *, accepted: bool) -> None:
        self.window.resolve(batch)
        if batch.isolation is not None:
            batch.isolation.closed(accepted=accepted)
        if self.ambiguous:
            self.forget(batch.spans[0])

    def forget(self, span: Span) -> None:
        """Forget the ambiguous sends of a record that is resolved."""
        if self.ambiguous and self.ambiguous.pop(span.first, None) is not None:
            self.outbox.append(Remember(f"{AMBIGUOUS_PREFIX}{span.first}", None))

    # --- refused

    def _isolate(self, send: Send, judged: Judged, at: Moment) -> None:
        batch = send.batch
        if judged.verdict is Verdict.TOO_LARGE and batch.count > 1:
            self.outbox.append(Remember(*self.limits.shrink(batch.key, batch.size)))
        if self._storm_goes_on(send, at):
            return
        self._passed(send.epoch, at)
        if self.keys.parked:
            self._unpark_key(batch.key)
        if batch.count > 1:
            self._split(batch)
        else:
            self._accuse(batch, judged, at)

    def _storm_goes_on(self, send: Send, at: Moment) -> bool:
        """Return whether a refusal only shows that the storm that parked this is not over."""
        entry = self.keys.parked.get(send.batch.key)
        storm_key = entry is not None and entry.storm
        storm_lane = self.lane.parked is not None and self.lane.storm
        if not (storm_key or storm_lane):
            return False
        self._give_back(send)
        if entry is not None and send.role is Role.KEY:
            self.keys.postpone(send.batch.key, now=at.now, jitter=at.jitter)
        if send.role is Role.PARKED:
            self.lane.unproven(send.epoch, now=at.now, jitter=at.jitter)
        return True

    def _split(self, batch: Batch) -> None:
        left, right = batch.halves()
        if batch.isolation is None:
            left.isolation = right.isolation = Isolation()
        for half in (left, right):
            half.failures = half.solo = 0
        isolation = left.isolation
        if isolation is not None:
            isolation.halved()
        self.window.pieces += [right, left]
        self.outbox.append(Split())

    def _accuse(self, batch: Batch, judged: Judged, at: Moment) -> None:
        reason = "too_large" if judged.verdict is Verdict.TOO_LARGE else "refused"
        culprit = Culprit(batch, reason, judged.status, judged.answer)
        isolation = batch.isolation
        if isolation is not None and isolation.accepted:
            self._bury_culprits([culprit])
            return
        if isolation is not None:
            isolation.closed(accepted=False)
            batch.isolation = None
        if self.refusals.refused(culprit):
            self._storm(batch.key, judged, at)

    def _storm(self, key: bytes, judged: Judged, at: Moment) -> None:
        acquitted = self.refusals.acquit(key)
        count = self.rules.storm_min
        cause = f"refusal storm: {count} events in a row refused with {judged.status}, none accepted"
        name = self.rules.answers.name
        advice = f"{cause}; check destinations.{name} (url, namespace, storm.min) and what the applications send"
        self.window.returned.extend(acquitted)
        if not self.rules.batched:
            change = self.lane.park(self.lane.epoch, cause=advice, now=at.now, jitter=at.jitter, storm=True)
            self.changed(change, at)
            return
        self._set_key_aside(key, advice, at, storm=True)
        if self.keys.all_parked():
            change = self.lane.park(self.lane.epoch, cause=advice, now=at.now, jitter=at.jitter, storm=True)
            self.changed(change, at)

    def _busy(self, key: bytes) -> bool:
        """Return whether anything may still prove the pending culprits of a key guilty."""
        if any(batch.key == key for batch in self.in_flight):
            return True
        return any(batch.key == key for batch in (*self.window.pieces, *self.window.returned))

    def _bury_culprits(self, culprits: Sequence[Culprit]) -> None:
        for culprit in culprits:
            self._bury(culprit.batch, culprit.reason, culprit.status, culprit.answer)

    def _bury(self, batch: Batch, reason: str, status: int | None, answer: str) -> None:
        self._resolve(batch, accepted=False)
        self.outbox.append(
            Bury(spans=batch.spans, reason=reason, status=status, answer=answer, attempts=batch.attempts)  # type: ignore[arg-type]
        )

    # --- our configuration is wrong

    def _park(self, epoch: int, judged: Judged, at: Moment) -> None:
        change = self.lane.park(
            epoch, cause=judged.reason, now=at.now, jitter=at.jitter, retry_after_s=judged.retry_after_s
        )
        self.changed(change, at)

    def _park_key(self, send: Send, judged: Judged, at: Moment) -> None:
        self._give_back(send)
        if not self.rules.batched:
            self._park(send.epoch, judged, at)
            return
        if self.keys.full and self.lane.parked is not None:
            self.lane.unproven(send.epoch, now=at.now, jitter=at.jitter)
            return
        self._set_key_aside(send.batch.key, judged.reason, at, storm=False)
        if self.keys.all_parked():
            self._park(send.epoch, judged, at)
        elif self.lane.parked is not None:
            self.lane.unproven(send.epoch, now=at.now, jitter=at.jitter)
        else:
            self._passed(send.epoch, at)

    def _set_key_aside(self, key: bytes, cause: str, at: Moment, *, storm: bool) -> None:
        """Park a key: some records of it stay to probe with, the rest goes back to the spool."""
        if not self.keys.park(key, cause, storm=storm, now=at.now, jitter=at.jitter):
            return
        self._report("error", "batch_key_parked", batch_key=key.decode(errors="replace"), reason=cause)
        self.holds.hold_key(key)
        kept: deque[Batch] = deque()
        spans: list[Span] = []
        for batch in self.window.take_key(key):
            if sum(map(_count, kept)) < SPECIMENS:
                kept.append(batch)
            else:
                spans += batch.spans
        if kept:
            self.window.specimens[key] = kept
        if spans:
            self.window.leave(spans)
            self.outbox.append(Release(spans))

    def _unpark_key(self, key: bytes) -> None:
        if not self.keys.unpark(key):
            return
        self.window.returned.extend(self.window.specimens.pop(key, ()))
        self.holds.let_go_key(key)
        self._report("info", "batch_key_resumed", batch_key=key.decode(errors="replace"))

    # --- the destination fails

    def _back_off(self, send: Send, judged: Judged, at: Moment) -> None:
        batch = send.batch
        resolved = judged.ambiguous and not self.rules.batched and self._count_ambiguous(batch)
        alone = send.role is Role.SOLO or send.suspect
        if resolved:
            self._bury(batch, "ambiguous", None, judged.reason)
        elif alone and judged.blames:
            self._fail_suspect(batch, judged, at)
        else:
            batch.failures += judged.blames
            self._give_back(send, at)
        if send.role is Role.KEY and send.batch.key in self.keys.parked:
            self.keys.postpone(send.batch.key, now=at.now, jitter=at.jitter)
        if send.role not in (Role.SOLO, Role.KEY) or not judged.blames:
            self._fail_lane(send.epoch, judged, at, grows=not send.suspect)

    def _fail_lane(self, epoch: int, judged: Judged, at: Moment, *, grows: bool = True) -> None:
        change = self.lane.failed(
            epoch,
            cause=judged.reason,
            now=at.now,
            jitter=at.jitter,
            retry_after_s=judged.retry_after_s,
            grows=grows,
        )
        self.changed(change, at)

    def _count_ambiguous(self, batch: Batch) -> bool:
        """Count a send that was not answered; return whether it was the last allowed."""
        count = self.ambiguous.get(batch.first, 0) + 1
        self.ambiguous[batch.first] = count
        if count >= self.rules.max_ambiguous:
            return True
        self.outbox.append(Remember(f"{AMBIGUOUS_PREFIX}{batch.first}", count))
        return False

    def _give_back(self, send: Send, at: Moment | None = None) -> None:
        """Put an unresolved batch where it is tried again."""
        batch, window = send.batch, self.window
        if batch.key in self.keys.parked:
            window.specimens.setdefault(batch.key, deque()).append(batch)
        elif at is not None and batch.failures >= SUSPICIOUS and len(window.suspects) < ASIDE_LIMIT:
            batch.mark = self.delivered
            batch.retry_at = at.now + self.rules.policy.delay(batch.failures, at.jitter)
            window.suspects.append(batch)
        elif send.role is Role.SOLO or send.suspect:
            window.suspects.append(batch)
        else:
            window.returned.append(batch)

    def _fail_suspect(self, batch: Batch, judged: Judged, at: Moment) -> None:
        """Count a lone failure against a suspect, but only if others succeeded meanwhile."""
        policy = self.rules.policy
        batch.failures += 1
        batch.retry_at = at.now + policy.delay(batch.failures, at.jitter)
        if self.delivered == batch.mark:
            # Nothing shows yet who is to blame. Halving is right all the same: if it is one event, the others need not
            # wait for traffic that proves it; and in an outage each half costs one request, within the same backoff.
            self._solo_streak += 1
            self.solo_at = at.now + policy.delay(self._solo_streak, at.jitter)
            self.window.suspects.extend(self._suspect_halves(batch, at) if batch.count > 1 else (batch,))
            return
        self._solo_streak, batch.mark = 0, self.delivered
        batch.solo += 1
        if batch.count > 1:
            self.window.suspects.extend(self._suspect_halves(batch, at))
        elif batch.solo >= self.rules.max_attempts:
            self._bury(batch, "poison", judged.status, judged.answer or judged.reason)
        else:
            self.window.suspects.append(batch)

    def _suspect_halves(self, batch: Batch, at: Moment) -> tuple[Batch, Batch]:
        halves = batch.halves()
        if batch.isolation is not None:
            batch.isolation.halved()
        for half in halves:
            half.failures, half.retry_at = SUSPICIOUS, at.now
        self.outbox.append(Split())
        return halves

    def _watch_dns(self, judged: Judged, at: Moment) -> Judged:
        """Say so when a name has not resolved for so long that it is probably misspelt."""
        if not judged.dns:
            self._dns_since = None
            return judged
        if self._dns_since is None:
            self._dns_since, self._dns_told = at.now, False
        if at.now - self._dns_since < DNS_PATIENCE_S:
            return judged
        reason = f"{judged.reason}; check configuration: destinations.{self.rules.answers.name}.url"
        if not self._dns_told:
            self._dns_told = True
            self._report("error", "name_does_not_resolve", reason=reason)
        return msgspec.structs.replace(judged, reason=reason)

    def _report(self, level: str, event: str, **facts: object) -> None:
        self.outbox.append(Report(level, event, facts))  # type: ignore[arg-type]


def _count(batch: Batch) -> int:
    return batch.count
