"""P1, P2: power cuts under the daemon itself, with senders over HTTP, lose nothing that was answered 2xx at `fsync`.

The senders are in this process, their memory of what was acknowledged and the stand-in's store on another file system.
What may arrive twice is judged event by event in test_power_cut.py, whose processes keep a diary of their checkpoints.
"""

import os
import random
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import pytest

from tests.prove.support.volume import MIB, Volume
from tests.support.clients import Numbered, Pounder
from tests.support.processes import Daemon, ReceiverProcess

pytestmark = pytest.mark.prove

CUTS = int(os.environ.get("FORWARDER_PROVE_DAEMON_CUTS", "26"))
PATIENCE_S = 120.0
CONFIG = """
[listen]
http = ["$HTTP"]
udp = []
admin = "$ADMIN"
max_event = "32KiB"

[spool]
directory = "$PLACE/spool"
min_free = "0B"
segment_size = "64KiB"
checkpoint_interval = "100ms"

[destinations.telemetrydeck]
kind = "telemetrydeck"
url = "$UPSTREAM"
when_full = "refuse"
flush = { interval = "50ms", max_events = 10 }
concurrency = 4
retry = { initial = "50ms", max = "200ms" }

[destinations.encharge]
kind = "encharge"
concurrency = 8
url = "$UPSTREAM/v1"
write_key = { file = "$KEYFILE" }
retry = { initial = "50ms", max = "200ms" }
"""


class Cuttable(Daemon):
    """A daemon that `start` may leave while it is starting: `within_s` later."""

    within_s: float | None = None

    def _until_ready(self) -> None:
        if self.within_s is None:
            super()._until_ready()
        else:
            time.sleep(self.within_s)


class Result(msgspec.Struct, kw_only=True):
    """What came of many cuts."""

    acknowledged: set[int]
    arrivals: list[int]
    at_stake: int
    """Events acknowledged while the vendor took nothing, so that only the spool had them when the power went."""
    metrics: dict[str, float]


def senders(address: str) -> Sequence[Pounder]:
    return (
        Pounder(address, build=lambda n: Numbered.telemetrydeck(n, padding=n * 7919 % 700), batch=7),
        Pounder(address, build=Numbered.telemetrydeck, first=1_000_000_000, batch=1),
        Pounder(
            address,
            path="/v1",
            build=lambda n: Numbered.encharge(n, person=f"p{n % 50}@example.com"),
            first=2_000_000_000,
            batch=1,
        ),
    )


def known(pounders: Sequence[Pounder]) -> int:
    return sum(len(pounder.poster.acknowledged) for pounder in pounders)


def until(wanted: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not wanted():
        assert time.monotonic() < deadline, f"never {what}"
        time.sleep(0.005)


class Cuts:
    """Cuts the power of a daemon at random moments, recovery included."""

    def __init__(self, volume: Volume, daemon: Cuttable, receiver: ReceiverProcess) -> None:
        self._volume = volume
        self._daemon = daemon
        self._receiver = receiver
        self._dice = random.Random(str(volume.path))  # noqa: S311
        self.at_stake = 0

    def life(self, number: int, pounders: Sequence[Pounder]) -> None:
        dice = self._dice
        down = number % 2 == 0
        self._receiver.order(*([{"status": 503}] if down else []))
        before = known(pounders)
        wanted = 0 if self._daemon.within_s else dice.randint(50, 800)
        until(lambda: known(pounders) - before >= wanted, "acknowledged enough")
        time.sleep(dice.uniform(0.0, 0.02))
        self._daemon.pause()
        self._volume.cut_power()
        self.at_stake += (known(pounders) - before) * down
        self._daemon.kill9()
        self._volume.power_on()

    def run(self, cuts: int, pounders: Sequence[Pounder]) -> None:
        began = time.monotonic()
        self._daemon.start()
        start_s = time.monotonic() - began
        for number in range(cuts):
            self.life(number, pounders)
            early = number % 6 == 4 and number + 1 < cuts  # the next life ends while it starts
            self._daemon.within_s = self._dice.uniform(0.3, 1.0) * start_s if early else None
            self._daemon.start()


def result_of(cuts: int, tmp_path: Path, kind: str) -> Result:
    key = tmp_path / "key"
    key.write_text("key\n")
    with (
        Volume(tmp_path, kind, size=64 * MIB) as volume,
        ReceiverProcess(tmp_path) as receiver,
    ):
        daemon = Cuttable(tmp_path, CONFIG, UPSTREAM=receiver.url, PLACE=volume.path, KEYFILE=key)
        pounders = senders(daemon.http)
        one = Cuts(volume, daemon, receiver)
        for pounder in pounders:
            pounder.start()
        try:
            one.run(cuts, pounders)
            acknowledged = set().union(*(pounder.stop() for pounder in pounders))
            receiver.order()
            until(lambda: queued(daemon) == 0, "drained")
            metrics = daemon.metrics()
            assert daemon.terminate() == 0
        finally:
            for pounder in pounders:
                pounder.stop()
            daemon.kill9()
        arrivals = [Numbered.of(row.event) for row in receiver.events()]
    return Result(acknowledged=acknowledged, arrivals=arrivals, at_stake=one.at_stake, metrics=metrics)


def queued(daemon: Daemon) -> float:
    return sum(value for name, value in daemon.metrics().items() if name.startswith("forwarder_spool_events{"))


@pytest.mark.parametrize("kind", ["ext4", "xfs"])
def test_p1_power_cuts_under_the_daemon_lose_nothing_that_was_answered_with_2xx(tmp_path: Path, kind: str) -> None:
    found = result_of(CUTS, tmp_path, kind)
    lost = found.acknowledged - set(found.arrivals)
    twice = len(found.arrivals) - len(set(found.arrivals))
    print(  # noqa: T201 (the result)
        f"{kind}: {CUTS} cuts, {len(found.acknowledged)} acknowledged, {found.at_stake} only in the spool at a cut, "
        f"{len(lost)} lost, {twice} arrived twice"
    )
    assert not lost
    assert len(found.acknowledged) > CUTS * 20
    assert found.at_stake > CUTS * 5, "something was at stake"
    assert twice, "the cuts did cost acks: otherwise nothing was cut"
    for name, value in found.metrics.items():
        if name.startswith(("forwarder_ledger_imbalance_events", "forwarder_dead_letters{")):
            assert value == 0, name
