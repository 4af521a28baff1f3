"""Performs what the lane decides: acks, dead letters, releases, reports. Every way out of the lane is here."""

import asyncio
from collections.abc import Sequence

import msgspec
import structlog

from forwarder.core.lane.delivery import Delivery
from forwarder.core.lane.effect import Ambiguous, Bury, Delivered, Effect, Expired, Release, Remember, Report, Split
from forwarder.core.seams import Clock, DeadLetters, Outcome, Spool
from forwarder.core.spool.frame import Span
from forwarder.errors import DiskTrouble
from forwarder.flusher.books import Books
from forwarder.flusher.herald import Herald
from forwarder.flusher.undertaker import Undertaker
from forwarder.spool.episode import Episode

TROUBLE_PAUSE_S = 5.0


class Effects:
    """Owner of what is decided but not done: acks that the disk did not take, burials under way."""

    def __init__(
        self,
        *,
        delivery: Delivery,
        spool: Spool,
        dead_letters: DeadLetters,
        books: Books,
        herald: Herald,
        clock: Clock,
        wake: asyncio.Event,
    ) -> None:
        self._delivery = delivery
        self._spool = spool
        self._books = books
        self._herald = herald
        self._clock = clock
        self._wake = wake
        self._log = structlog.get_logger().bind(destination=spool.destination)
        self._state = delivery.lane.state
        self._unacked: list[tuple[Sequence[Span], Outcome]] = []
        self._again_at = 0.0
        self._expiry = Episode(
            begins=lambda events: self._log.warning("events_expiring", events=events),
            ends=lambda events: self._log.warning("events_expired", events=events),
        )
        self.undertaker = Undertaker(
            dead_letters, clock=clock, herald=herald, buried=self._buried, unerased=spool.unerased
        )

    def perform(self) -> None:
        """Do what was decided, in order; what was delivered one after another is acked in one."""
        delivered: list[Span] = []
        for effect in self._delivery.effects():
            if isinstance(effect, Delivered):
                delivered += effect.spans
                continue
            self._deliver(delivered)
            delivered = []
            self._perform(effect)
        self._deliver(delivered)
        lane = self._delivery.lane
        if lane.state is not self._state:
            self._log.debug("lane_moved", old=self._state.value, new=lane.state.value, reason=lane.cause)
            self._state = lane.state

    def close(self) -> None:
        """Log the total of what is expiring."""
        self._expiry.close()

    def stuck(self, now: float) -> bool:
        """Return whether so much is decided and not done that no more may be leased."""
        return self.undertaker.full or bool(self._unacked) or now < self._again_at

    @property
    def trouble_in_words(self) -> str:
        """Return what status says of a disk that holds up delivery."""
        return "dead letters cannot be written: check the disk" if self.undertaker.full else ""

    def ack_again(self) -> None:
        """Try the acks again that the disk did not take."""
        if self._unacked and self._clock.monotonic() >= self._again_at:
            waiting, self._unacked = self._unacked, []
            for spans, outcome in waiting:
                self._ack(spans, outcome)

    def trouble(self, event: str, trouble: DiskTrouble) -> None:
        """Report what the disk did not do, and leave it alone for a while."""
        self._again_at = self._clock.monotonic() + TROUBLE_PAUSE_S
        self._herald.tell(Report("error", event, {"reason": trouble.reason, "path": trouble.path}))

    def _deliver(self, spans: Sequence[Span]) -> None:
        if spans:
            self._ack(spans, Outcome.DELIVERED)
            self._books.delivered_spans(spans)

    def _perform(self, effect: Effect) -> None:
        match effect:
            case Bury():
                spans = self._spool.unerased(effect.spans)
                if spans:
                    self.undertaker.bury(msgspec.structs.replace(effect, spans=spans))
            case Release(spans=spans):
                self._spool.release(spans)
            case Expired(spans=spans):
                self._ack(spans, Outcome.EXPIRED)
                self._expiry.count(sum(span.count for span in spans))
            case Remember(name=name, value=value):
                self._spool.remember(name, value)
            case Report():
                self._herald.tell(effect)
            case Split():
                self._books.split()
            case Ambiguous():
                self._books.ambiguous()

    def _ack(self, spans: Sequence[Span], outcome: Outcome) -> None:
        try:
            self._spool.ack(spans, outcome)
        except DiskTrouble as trouble:
            # The records are resolved, only not written down: no more are leased until they are.
            self.trouble("ack_not_written", trouble)
            self._unacked.append((spans, outcome))

    def _buried(self, spans: Sequence[Span], reason: str) -> None:
        self._ack(spans, Outcome.DIED)
        self._books.died(spans, reason)
        self._wake.set()
