"""The last hour, bounded: rates are differences, destinations come and go, and letters are shown by reason."""

from collections.abc import Mapping, Sequence

import msgspec

from forwarder.admin import History, letters
from forwarder.admin.history import GAP_S, POINTS
from forwarder.core.seams import DeadLetter
from forwarder.metrics import Metrics
from tests.support.fake_view import NOW, FakeDaemon, spool


class Hour:
    def __init__(self) -> None:
        self.daemon = FakeDaemon()
        self.metrics = Metrics()
        self.history = History(self.daemon, self.metrics, self.daemon.clock)
        self.history.sample()

    def later(self, *, accepted: int = 0, delivered: int = 0, queued: int = 0, seconds: float = GAP_S) -> None:
        before = self.daemon.spool_list[0]
        self.daemon.spool_list[0] = spool(
            next_sequence=before.next_sequence + accepted,
            queued_events=queued,
            ledger={**before.ledger, "delivered": before.ledger["delivered"] + delivered},
        )
        self.daemon.clock.advance(seconds)
        self.history.sample()


def test_a_point_holds_rates_the_queue_and_the_mean_latency_since_the_one_before() -> None:
    hour = Hour()
    hour.metrics.delivery_latency.at("telemetrydeck").observe(3.0, times=2)
    hour.later(accepted=50, delivered=20, queued=120)
    hour.later()
    first, second = hour.history.series()["telemetrydeck"]
    assert msgspec.to_builtins(first) == [NOW + GAP_S, 5.0, 2.0, 120, 3.0]
    assert msgspec.to_builtins(second) == [NOW + 2 * GAP_S, 0.0, 0.0, 0, None]


def test_samples_in_quick_succession_make_one_point() -> None:
    hour = Hour()
    for _ in range(10):
        hour.later(accepted=1, seconds=GAP_S / 5)
    assert len(hour.history.series()["telemetrydeck"]) == 2


def test_no_more_than_an_hour_is_kept() -> None:
    hour = Hour()
    for _ in range(POINTS + 50):
        hour.later()
    points = hour.history.series()["telemetrydeck"]
    assert len(points) == POINTS
    assert points[-1].at - points[0].at == 3600 - GAP_S


def test_a_destination_that_is_gone_is_forgotten_and_a_new_one_begins_empty() -> None:
    hour = Hour()
    hour.later()
    hour.daemon.spool_list = [spool("other")]
    hour.daemon.clock.advance(GAP_S)
    hour.history.sample()
    assert hour.history.series() == {}
    hour.daemon.clock.advance(GAP_S)
    hour.history.sample()
    assert list(hour.history.series()) == ["other"]


async def test_letters_are_counted_by_reason_and_the_newest_are_shown_first() -> None:
    async def latest(most: int) -> Mapping[str, Sequence[DeadLetter]]:
        assert most == letters.LOOKED_AT
        return {"encharge": [_letter(n, "poison" if n % 4 == 0 else "refused") for n in range(20)]}

    found = (await letters.shown(latest))["encharge"]
    assert found.reasons == {"refused": 15, "poison": 5}
    assert [sample.sequence for sample in found.samples] == [19, 18, 17, 16, 15]
    assert found.samples[0].event == '{"name":"x\ufffd"}'


def _letter(sequence: int, reason: str) -> DeadLetter:
    return DeadLetter(
        sequence=sequence,
        event=b'{"name":"x\xff"}',
        batch_key=b"k",
        reason=reason,
        status=400,
        answer="no",
        attempts=1,
        accepted_at=NOW,
        died_at=NOW,
    )
