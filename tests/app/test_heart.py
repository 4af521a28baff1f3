"""The watchdog is fed by progress, and by nothing else; the status line says what an operator asks first."""

import asyncio
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from forwarder.app.heart import QUIET_BEATS, Heart
from forwarder.app.systemd import Notifier
from forwarder.core.report import Reporter
from tests.support.fake_view import NOW, FakeDaemon, lane, spool

WATCHDOG_S = 60.0


class Bench:
    """A heart whose every surrounding a test can set, and what it said."""

    def __init__(self, directory: Path, watchdog_s: float | None) -> None:
        path = str(directory / "notify")
        self.manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.manager.bind(path)
        self.manager.setblocking(False)  # noqa: FBT003  the standard library's signature
        self.view = FakeDaemon()
        self.stale_s = 0.0
        self.accepted = 0
        environ = {"NOTIFY_SOCKET": path} | ({"WATCHDOG_USEC": f"{watchdog_s * 1e6:.0f}"} if watchdog_s else {})
        self.heart = Heart(
            wedged=lambda limit_s: "the writer thread is stuck" if self.stale_s > limit_s else None,
            measure=self.measure,
            moved=lambda: self.accepted,
            reporter=Reporter(self.view, self.view.clock),
            sample=lambda: None,
            notifier=Notifier(environ),
            clock=self.view.clock,
            secrets_changed=lambda: None,
        )

    async def measure(self) -> None:
        await asyncio.Event().wait()  # a disk that does not answer

    def beat(self) -> list[str]:
        self.heart.beat()
        heard = []
        while True:
            try:
                heard += self.manager.recv(65536).decode().split("\n")
            except BlockingIOError:
                return heard


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path, WATCHDOG_S)
    yield bench
    bench.manager.close()


def test_the_watchdog_is_fed_while_there_is_progress(bench: Bench) -> None:
    assert "WATCHDOG=1" in bench.beat()


@pytest.mark.parametrize("state", ["backing_off", "probing", "parked"])
def test_a_vendor_outage_does_not_starve_the_watchdog(bench: Bench, state: str) -> None:
    bench.view.lane_list = [lane(state=state, reason="after 503", next_try_at=NOW + 300)]
    assert "WATCHDOG=1" in bench.beat()


def test_a_wedged_part_starves_the_watchdog_after_half_of_its_interval_and_feeds_it_again_when_it_moves(
    bench: Bench,
) -> None:
    bench.stale_s = WATCHDOG_S / 2 - 1
    assert "WATCHDOG=1" in bench.beat()
    bench.stale_s = WATCHDOG_S / 2 + 1
    assert "WATCHDOG=1" not in bench.beat()
    bench.stale_s = 0.0
    assert "WATCHDOG=1" in bench.beat()


async def test_a_disk_that_never_answers_starves_the_watchdog_but_not_the_status_line(bench: Bench) -> None:
    looking = asyncio.ensure_future(bench.heart.look())
    await asyncio.sleep(0)
    bench.view.clock.advance(WATCHDOG_S / 2 - 1)
    assert "WATCHDOG=1" in bench.beat(), "it may still answer"
    bench.view.clock.advance(2)
    heard = bench.beat()
    looking.cancel()
    assert "WATCHDOG=1" not in heard
    assert any(line.startswith("STATUS=") for line in heard)


def test_the_disk_is_measured_at_every_beat_while_events_move_and_seldom_while_they_do_not(bench: Bench) -> None:
    quiet = [bench.heart.beat() for _ in range(2 * QUIET_BEATS)]
    assert quiet == ([False] * (QUIET_BEATS - 1) + [True]) * 2
    for _ in range(3):
        bench.accepted += 1
        assert bench.heart.beat()


async def test_the_disk_is_not_asked_again_while_it_has_not_answered(bench: Bench) -> None:
    looking = asyncio.ensure_future(bench.heart.look())
    await asyncio.sleep(0)
    bench.accepted += 1
    assert not any(bench.heart.beat() for _ in range(2 * QUIET_BEATS))
    looking.cancel()


def test_without_a_watchdog_nothing_is_fed(tmp_path: Path) -> None:
    bench = Bench(tmp_path, None)
    assert "WATCHDOG=1" not in bench.beat()
    bench.manager.close()


def test_the_status_line_says_what_is_queued_how_old_it_is_and_why(bench: Bench) -> None:
    bench.view.spool_list = [spool(queued_events=90, oldest_accepted_at=NOW - 125)]
    bench.view.lane_list = [lane(state="backing_off", reason="after 503", next_try_at=NOW + 42)]
    expected = "telemetrydeck: 90 queued, oldest 2 min 5 s, backing off after 503, next try in 42 s"
    assert f"STATUS=accepting; {expected}" in bench.beat()


def test_the_status_line_says_why_nothing_is_accepted(bench: Bench) -> None:
    bench.view.refusal = "telemetrydeck: the disk is full"
    status = next(line for line in bench.beat() if line.startswith("STATUS="))
    assert status.startswith("STATUS=not accepting: telemetrydeck: the disk is full; ")


def test_a_line_break_in_a_reason_cannot_become_an_assignment(bench: Bench) -> None:
    bench.view.refusal = "odd\nMAINPID=1"
    assert not any(line.startswith("MAINPID") for line in bench.beat())
