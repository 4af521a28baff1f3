"""Virtual time: a clock, and a simulation that drives the pure lane against a scripted vendor without waiting."""

from collections.abc import Callable, Coroutine, Iterator, Sequence
from heapq import heappop, heappush
from itertools import count
from typing import Any, TypeVar

from forwarder.core.lane.batch import Batch, Cut
from forwarder.core.lane.delivery import Delivery
from forwarder.core.lane.effect import Bury, Delivered, Effect, Expired, Release, Remember, Report
from forwarder.core.lane.outcome import Result
from forwarder.core.lane.rules import Rules
from forwarder.core.lane.settle import Send
from forwarder.core.seams import Outcome
from tests.support.fake_spool import FakeSpool

T = TypeVar("T")


class VirtualClock:
    """Stands still until it is moved."""

    def __init__(self, wall: float = 1_780_000_000.0) -> None:
        self.now = 0.0
        self.offset = wall

    def monotonic(self) -> float:
        return self.now

    def wall(self) -> float:
        return self.offset + self.now


class Request:
    """One request that was made: when, which sequences, and what came of it."""

    def __init__(self, at: float, batch: Batch, result: Result) -> None:
        self.at = at
        self.batch = batch
        self.sequences = [seq for span in batch.spans for seq in range(span.first, span.end)]
        self.result = result


Vendor = Callable[[Batch, float], tuple[Result, float]]
"""From a batch and the time to (result, seconds it takes)."""


def run_now(coroutine: Coroutine[Any, Any, T]) -> T:
    """Return the result of a coroutine that never waits."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]
    raise AssertionError("it waited")


def jitters() -> Iterator[float]:
    """Yield chances spread over [0, 1), always the same."""
    return ((n * 0.618034) % 1.0 for n in count(1))


class Simulation:
    """Plays spool, flusher and vendor for one Delivery in virtual time."""

    def __init__(self, rules: Rules, vendor: Vendor, *, single: Callable[[bytes], bool] = lambda _: False) -> None:
        self.clock = VirtualClock()
        self.spool = FakeSpool(self.clock)
        self.vendor = vendor
        self.delivery = Delivery(rules, single=single, now=self.clock.now, wall=self.clock.wall())
        self.requests: list[Request] = []
        self.reports: list[Report] = []
        self.buried: list[Bury] = []
        self.effects: list[Effect] = []
        self.turns = 0
        self._jitter = jitters()
        self._results: list[tuple[float, int, Send, Result]] = []
        self._order = count()

    @property
    def state(self) -> str:
        return self.delivery.lane.state.value

    def reported(self, event: str) -> list[Report]:
        return [report for report in self.reports if report.event == event]

    def run(self, seconds: float, *, until: Callable[[], bool] = lambda: False) -> None:
        """Let virtual time pass, until `until` says so or nothing can happen any more within `seconds`."""
        end = self.clock.now + seconds
        while not until():
            self.turn()
            at = self._results[0][0] if self._results else float("inf")
            at = min(at, max(self.delivery.wake_at(self.clock.now), self.clock.now + 0.001))
            if at > end:
                self.clock.now = end
                return
            self.clock.now = at
            while self._results and self._results[0][0] <= self.clock.now:
                _, _, send, result = heappop(self._results)
                self.delivery.settle(send, result, now=self.clock.now, jitter=next(self._jitter))
                self.perform()
            if self.spool.queued == 0 and not self._results and self.delivery.idle:
                return

    def turn(self) -> None:
        self.turns += 1
        more = self.lease()
        while (send := self._next(more=more)) is not None:
            result, seconds = self.vendor(send.batch, self.clock.now)
            self.requests.append(Request(self.clock.now, send.batch, result))
            heappush(self._results, (self.clock.now + seconds, next(self._order), send, result))
        self.delivery.tidy(now=self.clock.now, wall=self.clock.wall())
        self.perform()

    def lease(self) -> bool:
        while size := self.delivery.wants():
            if self.delivery.before_lease():
                self.spool.rewind()
            spans = run_now(self.spool.lease(size, self.delivery.holds))
            if not spans:
                return False
            self.delivery.add(spans, now=self.clock.now, wall=self.clock.wall())
            self.perform()
        return False

    def perform(self) -> None:
        for effect in self.delivery.effects():
            self.effects.append(effect)
            match effect:
                case Delivered(spans=spans):
                    self.spool.ack(spans, Outcome.DELIVERED)
                case Expired(spans=spans):
                    self.spool.ack(spans, Outcome.EXPIRED)
                case Bury(spans=spans):
                    self.spool.ack(spans, Outcome.DIED)
                    self.buried.append(effect)
                case Release(spans=spans):
                    self.spool.release(spans)
                case Remember(name=name, value=value):
                    self.spool.remember(name, value)
                case Report():
                    self.reports.append(effect)

    def buried_sequences(self, reason: str) -> list[int]:
        return sorted(s.first for order in self.buried if order.reason == reason for s in _singles(order.spans))

    def _next(self, *, more: bool) -> Send | None:
        cut = Cut.FULL if more else Cut.DUE
        return self.delivery.next(now=self.clock.now, wall=self.clock.wall(), cut=cut)


def _singles(spans: Sequence[Any]) -> list[Any]:
    return [single for span in spans for single in span.singles()]
