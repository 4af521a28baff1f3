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
from forwarder.core.lane.rules import Rules
from forwarder.core.lane.settle import AMBIGUOUS_PREFIX, Moment, Role, Send, Settlement
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
        self._pacer = Pacer(events=rules.events_per_second, requests=rules.requests_per_second, now=now)
        self._queue: Batcher | Orderer = (
            Batcher(interval=rules.interval, max_events=rules.max_events, limits=self.limits, single=single)
            if rules.batched
            else Orderer(links=self.links, holds=self.holds, per_person=rules.order.per_person)
        )
        self.window = Window(self._queue)
        self._settlement = Settlement(
            rules, lane=self.lane, window=self.window, limits=self.limits, holds=self.holds, outbox=self._outbox
        )
        self._solo: Batch | None = None
        self._probe: Batch | None = None
        self._doubtful: Batch | None = None
        self._second: Batch | None = None
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
        if send.batch is self._solo:
            self._solo = None
        if send.batch is self._probe:
            self._probe = None
        if send.batch is self._doubtful:
            self._doubtful = None
        if send.batch is self._second:
            self._second = None
        return self._settlement.settle(send, result, Moment(now, jitter))

    # --- out

    def next(self, *, now: float, wall: float, cut: Cut = Cut.DUE) -> Send | None:
        """Return the next request to make now, or None."""
        while (send := self._pick(now, Cut.ALL if self.draining and cut is Cut.DUE else cut)) is not None:
            if self.ages.any_expired(send.batch.spans, wall) and self.guard.trusted(now=now, wall=wall):
                send = self._alive(send, wall)
            if send is not None:
                return self._begin(send, now)
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
        times: list[float | None] = [self._sweep_at]
        if self.lane.state is State.FLOWING:
            ready_at = self._pacer.ready_at(now)
            beside = (self._settlement.keys.due_at() if self._probe is None else None, self._suspect_at())
            times += [max(at, ready_at) for at in beside if at is not None]
            times.append(self._paced_at(now) if self.lane.room(self._ordinary) else None)
        elif self.lane.state is State.PROBING and self._beside_suspect():
            times.append(self._paced_at(now))
        elif self.lane.next_at is not None:
            times.append(
                max(self.lane.next_at, self._paced_at(now) or 0.0, self._suspect_at() or 0.0)
                if self.lane.due(now)
                else self.lane.next_at
            )
        return min(time for time in times if time is not None)

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
        self._pacer = Pacer(events=rules.events_per_second, requests=rules.requests_per_second, now=now)
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
    def _ordinary(self) -> int:
        """Return the requests that count against the concurrency.

        A suspect and a parked key's probe go beside it, one each: a request that hangs until its time-out must not take
        the place of others, least of all while a slow start allows only one.
        """
        beside = (self._solo is not None) + (self._probe is not None) + (self._doubtful is not None)
        return self.in_flight - beside

    @property
    def order_waits(self) -> int:
        """Return the records that made the lane wait because no more persons could be set aside."""
        return self._queue.waits if isinstance(self._queue, Orderer) else 0

    @property
    def set_aside(self) -> int:
        """Return the number of suspects."""
        return len(self.window.suspects) + (self._solo is not None)

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

    # --- picking

    def _pick(self, now: float, cut: Cut) -> Send | None:
        state = self.lane.state
        if self._pacer.limited and self._pacer.ready_at(now) > now:
            return None
        if state is State.FLOWING:
            return self._pick_flowing(now, cut)
        if state is State.PROBING and self._beside_suspect():
            batch = self.window.next(now, cut)
            return Send(batch, self.lane.epoch, Role.NORMAL) if batch is not None else None
        if not self.lane.due(now):
            return None
        return self._pick_parked(now) if state is State.PARKED else self._pick_probe(now, cut)

    def _beside_suspect(self) -> bool:
        """Return whether a second probe may go: the first one is a suspect that may hang, and was all there was."""
        return self._doubtful is not None and self._second is None

    def _pick_flowing(self, now: float, cut: Cut) -> Send | None:
        epoch = self.lane.epoch
        settlement = self._settlement
        if settlement.keys.parked and self._probe is None and (batch := self._due_specimen(now)) is not None:
            return Send(batch, epoch, Role.KEY)
        if self.window.suspects and self._solo is None and now >= settlement.solo_at:
            batch = self.window.suspect(now)
            if batch is not None:
                return Send(batch, epoch, Role.SOLO)
        batch = self.window.next(now, cut) if self.lane.room(self._ordinary) else None
        return Send(batch, epoch, Role.NORMAL) if batch is not None else None

    def _pick_probe(self, now: float, cut: Cut) -> Send | None:
        # Every other probe asks with the far end of the window: many bad events at its head cannot keep a lane down.
        far = self._queue.far() if self.lane.attempt % 2 == 0 else None
        batch = far or self.window.next(now, cut)
        if batch is not None:
            return Send(batch, self.lane.epoch, Role.NORMAL)
        if now < self._settlement.solo_at or (batch := self.window.suspect(now)) is None:
            return None
        return Send(batch, self.lane.epoch, Role.NORMAL, suspect=True)

    def _pick_parked(self, now: float) -> Send | None:
        batch = self.window.rotate(now)
        return Send(batch, self.lane.epoch, Role.PARKED) if batch is not None else None

    def _due_specimen(self, now: float) -> Batch | None:
        keys = self._settlement.keys
        key = keys.due(now)
        if key is None:
            return None
        batch = self.window.specimen(key)
        if batch is None:
            # Nothing of this key is leased: let the next lease bring something, and ask again later.
            self.holds.let_go_key(key)
            keys.postpone(key, now=now, jitter=0.0)
        return batch

    def _begin(self, send: Send, now: float) -> Send:
        batch = send.batch
        batch.attempts += 1
        self._settlement.in_flight.add(batch)
        if self._pacer.limited:
            self._pacer.take(batch.count)
        if send.role is Role.SOLO:
            self._solo = batch
        elif send.role is Role.KEY:
            self._probe = batch
        if send.suspect:
            self._doubtful = batch
        elif self.lane.state is State.PROBING:
            self._second = batch
        epoch = self.lane.begin(now)
        return send if epoch == send.epoch else Send(batch, epoch, send.role, send.suspect)

    def _paced_at(self, now: float) -> float | None:
        """Return when the queue has something, not before the rate limit allows it; None while only events help."""
        ready_at = self._pacer.ready_at(now)
        if ready_at > now:
            return ready_at
        return self.window.queue.due_at()

    def _suspect_at(self) -> float | None:
        at = self.window.suspect_at()
        return None if at is None or self._solo is not None else max(at, self._settlement.solo_at)

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
