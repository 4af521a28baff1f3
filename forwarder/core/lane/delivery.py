"""Delivery: the pure core of one lane. Spans go in, requests to make come out, results go in, effects come out.

    add(spans) ──► window ──next()──► Send ──(the flusher makes the request)──► settle(result) ──► effects()

Nothing here waits, logs or reads a clock; a day of outage runs in a second of test.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence

from forwarder.core.lane import look_ahead
from forwarder.core.lane.batch import Batch, Batcher, Cut
from forwarder.core.lane.effect import Bury, Effect, Expired, Release, Remember
from forwarder.core.lane.expiry import Ages, ClockGuard
from forwarder.core.lane.holds import Holds, Links
from forwarder.core.lane.lane import Lane, State
from forwarder.core.lane.limit import Limits
from forwarder.core.lane.order import Orderer
from forwarder.core.lane.outcome import Judged, Result
from forwarder.core.lane.pace import Pacer
from forwarder.core.lane.picker import Picker
from forwarder.core.lane.rules import Rules
from forwarder.core.lane.settle import AMBIGUOUS_PREFIX, Moment, Send, Settlement
from forwarder.core.lane.window import Window
from forwarder.core.spool.frame import Span

SWEEP_S = 30.0


class Delivery:
    """The lane of one destination with its window. `effects` must be performed, in order, after every call."""

    def __init__(
        self, rules: Rules, *, single: Callable[[bytes], bool] = lambda _: False, now: float, wall: float
    ) -> None:
        self.rules = rules
        self.lane = Lane(policy=rules.policy, concurrency=rules.concurrency, now=now)
        self.limits = Limits(rules.max_bytes)
        self.links = Links(rules.order.links)
        self.holds = Holds(self.links, persons_limit=rules.order.persons)
        self.guard = ClockGuard(now=now, wall=wall)
        self.ages = Ages(max_age=rules.max_age, profile_max_age=rules.profile_max_age)
        self.draining = False
        self._outbox: list[Effect] = []
        self._queue: Batcher | Orderer = (
            Batcher(interval=rules.interval, max_events=rules.max_events, limits=self.limits, single=single)
            if rules.batched
            else Orderer(links=self.links, holds=self.holds, per_person=rules.order.per_person)
        )
        self.window = Window(self._queue)
        self._settlement = Settlement(
            rules, lane=self.lane, window=self.window, limits=self.limits, holds=self.holds, outbox=self._outbox
        )
        self._picker = Picker(
            lane=self.lane,
            window=self.window,
            queue=self._queue,
            settlement=self._settlement,
            holds=self.holds,
            pacer=Pacer(events=rules.events_per_second, requests=rules.requests_per_second, now=now),
        )
        self._sweep_at = now + SWEEP_S

    # --- in

    def restore(self, remembered: Mapping[str, object], *, first_sequence: int) -> None:
        """Take over what an earlier run learned; forget what concerns records that are gone."""
        self.limits.load(remembered)
        for name, count in remembered.items():
            sequence = name.removeprefix(AMBIGUOUS_PREFIX)
            if not name.startswith(AMBIGUOUS_PREFIX) or not sequence.isdecimal() or not isinstance(count, int):
                continue
            if int(sequence) >= first_sequence:
                self._settlement.ambiguous[int(sequence)] = count
            else:
                self._outbox.append(Remember(name, None))

    def wants(self) -> int:
        """Return how many bytes to lease now; 0 while the window is full enough."""
        return 0 if self.lane.state is State.STOPPED else look_ahead.step(self.window, self.rules)

    def add(self, spans: Sequence[Span], *, now: float, wall: float) -> None:
        """Take leased spans, oldest first."""
        for span in spans:
            self.guard.seen(span.frame.accepted_at)
        fresh = self._without_expired(spans, now=now, wall=wall)
        keys = self._settlement.keys
        if self.rules.batched:
            for key in {span.frame.batch_key for span in fresh}:
                self._meet(key, now)
            if keys.parked:
                fresh = self._without_parked(fresh)
        else:
            fresh = self._within_look_ahead(fresh)
        rejected = self.window.enter(fresh, now=now, wall=wall)
        if rejected:
            self._outbox.append(Release(rejected))

    def settle(self, send: Send, result: Result, *, now: float, jitter: float) -> Judged:
        """Take a request's result."""
        self._picker.ended(send.batch)
        return self._settlement.settle(send, result, Moment(now, jitter))

    # --- out

    def next(self, *, now: float, wall: float, cut: Cut = Cut.DUE) -> Send | None:
        """Return the next request to make now, or None."""
        while (send := self._picker.pick(now, Cut.ALL if self.draining and cut is Cut.DUE else cut)) is not None:
            if self.ages.any_expired(send.batch.spans, wall) and self.guard.trusted(now=now, wall=wall):
                send = self._alive(send, wall)
            if send is not None:
                return self._picker.begin(send, now)
        return None

    def effects(self) -> Sequence[Effect]:
        """Return what there is to do, once."""
        if not self._outbox:
            return ()
        effects = self._outbox.copy()
        self._outbox.clear()
        return effects

    def tidy(self, *, now: float, wall: float) -> None:
        """Bury culprits whose isolation is over; every 30 s expire what waits. To be called once a turn."""
        self._settlement.close_isolations()
        if now < self._sweep_at:
            return
        self._sweep_at = now + SWEEP_S
        if self.guard.trusted(now=now, wall=wall):
            self._expire(self.window.sweep(self.ages, now=now, wall=wall))

    def wake_at(self, now: float) -> float:
        """Return when to look again, if nothing happens before."""
        at = self._picker.wake_at(now)
        return self._sweep_at if at is None else min(at, self._sweep_at)

    @property
    def eager(self) -> bool:
        """Return whether the end of a request may let another one begin: not so if all that waits, waits for time."""
        return self.window.eager

    @property
    def restless(self) -> bool:
        """Return whether `before_lease` would ask for a rewind."""
        return self.holds.restless

    def before_lease(self) -> bool:
        """Let held persons and keys go; return whether the spool must be rewound. Call right before each lease."""
        return self.holds.settle()

    def give_back(self) -> None:
        """Release everything that is not in flight."""
        spans = self.window.clear() + [
            span for batch in self._settlement.refusals.clear() for span in self._leave(batch)
        ]
        if spans:
            self._outbox.append(Release(spans))

    def abandon(self) -> None:
        """Release what is in flight: these requests were cut off by the end of the drain."""
        in_flight = self._settlement.in_flight
        while in_flight:
            self._outbox.append(Release(self._leave(in_flight.pop())))

    # --- commands

    def park(self, cause: str, *, now: float, jitter: float) -> None:
        """Park the lane without asking the vendor (no write key)."""
        change = self.lane.park(self.lane.epoch, cause=cause, now=now, jitter=jitter)
        self._settlement.changed(change, Moment(now, jitter))

    def resume(self, now: float) -> None:
        """Probe now what is parked or backing off."""
        self.lane.resume(now)
        self._settlement.keys.resume(now)

    def retune(self, rules: Rules, *, now: float, wall: float) -> None:
        """Apply new settings without losing a lease, and probe what is parked."""
        if rules.batched != self.rules.batched:
            raise ValueError("a destination's kind cannot change while its lane runs")
        self.rules = self._settlement.rules = rules
        self.lane.policy, self.lane.concurrency = rules.policy, rules.concurrency
        self.lane.allowed = min(self.lane.allowed, rules.concurrency)
        self.limits.max_bytes = rules.max_bytes
        self._settlement.refusals.storm_min = rules.storm_min
        self.ages = Ages(max_age=rules.max_age, profile_max_age=rules.profile_max_age)
        self._picker.pacer = Pacer(events=rules.events_per_second, requests=rules.requests_per_second, now=now)
        if isinstance(self._queue, Batcher):
            self._queue.retune(interval=rules.interval, max_events=rules.max_events, now=now, wall=wall)
        else:
            self._queue.per_person = rules.order.per_person
            self.links.limit, self.holds.persons_limit = rules.order.links, rules.order.persons
        self.resume(now)

    # --- facts for status

    @property
    def in_flight(self) -> int:
        """Return the number of requests without a result."""
        return len(self._settlement.in_flight)

    @property
    def order_waits(self) -> int:
        """Return the records that made the lane wait because no more persons could be set aside."""
        return self._queue.waits if isinstance(self._queue, Orderer) else 0

    @property
    def set_aside(self) -> int:
        """Return the number of suspects."""
        return self._picker.set_aside

    @property
    def parked_keys(self) -> dict[str, str]:
        """Return the parked batch keys and why."""
        return {key.decode(errors="replace"): entry.cause for key, entry in self._settlement.keys.parked.items()}

    @property
    def pending(self) -> int:
        """Return the number of refused records that wait for a verdict."""
        return len(self._settlement.refusals)

    @property
    def idle(self) -> bool:
        """Return whether nothing is leased."""
        return self.window.records == 0

    # --- age and keys

    def _meet(self, key: bytes, now: float) -> None:
        """Take note of a batch key; one never seen may succeed where all others are parked, so ask at once."""
        keys = self._settlement.keys
        all_parked = bool(keys.parked) and keys.all_parked()
        keys.seen(key)
        if all_parked and self.lane.state is State.PARKED and not keys.all_parked():
            self.lane.resume(now)

    def _without_parked(self, spans: Iterable[Span]) -> list[Span]:
        """Give back spans of parked keys, but for one to probe with."""
        kept: list[Span] = []
        back: list[Span] = []
        for span in spans:
            key = span.frame.batch_key
            if key not in self._settlement.keys.parked:
                kept.append(span)
            elif self.window.keep_specimen(key, span):
                self.holds.hold_key(key)
            else:
                back.append(span)
                self.holds.hold_key(key)
        if back:
            self._outbox.append(Release(back))
        return kept

    def _within_look_ahead(self, spans: Sequence[Span]) -> Sequence[Span]:
        """Give back what does not fit: a lease comes in whole frames, and these may hold thousands of records."""
        kept, back = look_ahead.fitting(spans, self.window, self.rules)
        if back:
            self._outbox.append(Release(back))
            self.holds.rewind()
        return kept

    def _without_expired(self, spans: Sequence[Span], *, now: float, wall: float) -> Sequence[Span]:
        if not self.ages.any_expired(spans, wall) or not self.guard.trusted(now=now, wall=wall):
            return spans
        alive, expired = self.ages.split(spans, wall)
        self._expire(expired)
        return alive

    def _alive(self, send: Send, wall: float) -> Send | None:
        """Return the request without its expired records; None if nothing is left of it."""
        batch = send.batch
        alive, expired = self.ages.split(batch.spans, wall)
        if not expired:
            return send
        self._expire(expired)
        if alive:
            self.window.leave(expired)
            return Send(batch.part(alive), send.epoch, send.role, send.suspect)
        self.window.resolve(batch)
        if batch.isolation is not None:
            batch.isolation.closed(accepted=False)
        return None

    def _expire(self, spans: Sequence[Span]) -> None:
        """End records for their age; nothing is dropped while parked, whatever the policy."""
        if not spans:
            return
        for span in spans:
            self._settlement.forget(span)
        if self.rules.drop_expired and self.lane.parked is None and not self._settlement.keys.parked:
            self._outbox.append(Expired(spans))
        else:
            self._outbox.append(Bury(spans=spans, reason="expired"))

    def _leave(self, batch: Batch) -> Sequence[Span]:
        self.window.resolve(batch)
        return batch.spans

    def expire_in_spool(self, spans: Sequence[Span], *, now: float, wall: float) -> list[Span]:
        """Expire records that were leased only to look at their age; return those that must be released."""
        if not self.guard.trusted(now=now, wall=wall):
            return list(spans)
        alive, expired = self.ages.split(spans, wall)
        self._expire(expired)
        return alive
