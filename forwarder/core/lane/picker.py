"""Picking: which request a lane makes next, and when to look again. Pure; `Delivery` asks after every change."""

from forwarder.core.lane.batch import Batch, Batcher, Cut
from forwarder.core.lane.holds import Holds
from forwarder.core.lane.lane import Lane, State
from forwarder.core.lane.order import Orderer
from forwarder.core.lane.pace import Pacer
from forwarder.core.lane.settle import Role, Send, Settlement
from forwarder.core.lane.window import Window


class Picker:
    """Knows the requests that go beside the ordinary ones: a suspect, a parked key's probe, a second probe."""

    def __init__(
        self,
        *,
        lane: Lane,
        window: Window,
        queue: Batcher | Orderer,
        settlement: Settlement,
        holds: Holds,
        pacer: Pacer,
    ) -> None:
        self.lane = lane
        self.window = window
        self.holds = holds
        self.pacer = pacer
        self._queue = queue
        self._settlement = settlement
        self._solo: Batch | None = None
        self._probe: Batch | None = None
        self._doubtful: Batch | None = None
        self._second: Batch | None = None

    def ended(self, batch: Batch) -> None:
        """Take note that a request has a result."""
        if batch is self._solo:
            self._solo = None
        if batch is self._probe:
            self._probe = None
        if batch is self._doubtful:
            self._doubtful = None
        if batch is self._second:
            self._second = None

    @property
    def set_aside(self) -> int:
        """Return the number of suspects."""
        return len(self.window.suspects) + (self._solo is not None)

    def wake_at(self, now: float) -> float | None:
        """Return when to look again, if nothing happens before; None while only events help."""
        times: list[float | None] = []
        if self.lane.state is State.FLOWING:
            ready_at = self.pacer.ready_at(now)
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
        return min((time for time in times if time is not None), default=None)

    def pick(self, now: float, cut: Cut) -> Send | None:
        """Return the request that is next, not begun yet; None while there is none."""
        state = self.lane.state
        if self.pacer.limited and self.pacer.ready_at(now) > now:
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

    def begin(self, send: Send, now: float) -> Send:
        """Take note that it is made; return it with the epoch that it belongs to."""
        batch = send.batch
        batch.attempts += 1
        self._settlement.in_flight.add(batch)
        if self.pacer.limited:
            self.pacer.take(batch.count)
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
        ready_at = self.pacer.ready_at(now)
        if ready_at > now:
            return ready_at
        return self.window.queue.due_at()

    def _suspect_at(self) -> float | None:
        at = self.window.suspect_at()
        return None if at is None or self._solo is not None else max(at, self._settlement.solo_at)

    @property
    def _ordinary(self) -> int:
        """Return the requests that count against the concurrency.

        A suspect and a parked key's probe go beside it, one each: a request that hangs until its time-out must not take
        the place of others, least of all while a slow start allows only one.
        """
        beside = (self._solo is not None) + (self._probe is not None) + (self._doubtful is not None)
        return len(self._settlement.in_flight) - beside
