"""P9: disk trouble is a mode. Real full, failing and read-only file systems under a real daemon, never restarted."""

import http.client
import resource
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from signal import SIGINT

import pytest

from tests.prove.support.volume import MIB, Volume
from tests.support.clients import Numbered, Poster
from tests.support.processes import Daemon, ReceiverProcess

pytestmark = pytest.mark.prove

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
flush = { interval = "100ms" }
retry = { initial = "50ms", max = "200ms" }

[drain]
timeout = "5s"
"""
LABEL = '{destination="telemetrydeck"}'
PATIENCE_S = 30.0


class Bench:
    """A daemon on a spool directory, its stand-in vendor, a poster, and an admin connection opened beforehand."""

    def __init__(self, daemon: Daemon, receiver: ReceiverProcess, poster: Poster) -> None:
        self.daemon = daemon
        self.receiver = receiver
        self.poster = poster
        self.pid = daemon.pid
        host, _, port = daemon.admin.rpartition(":")
        self.admin = http.client.HTTPConnection(host, int(port), timeout=10)
        self._next = 0

    def post(self, padding: int = 0) -> int:
        numbers = range(self._next, self._next + 20)
        self._next = numbers.stop
        return self.poster.post("/v2/", numbers, lambda n: Numbered.telemetrydeck(n, padding=padding))

    def readiness(self) -> tuple[int, str]:
        self.admin.request("GET", "/readyz")
        answer = self.admin.getresponse()
        return answer.status, answer.read().decode()

    def until(self, wanted: Callable[[], bool], what: str) -> None:
        """Return once it is so. Polls: the daemon tries its disk again by its own clock."""
        deadline = time.monotonic() + PATIENCE_S
        while not wanted():
            assert time.monotonic() < deadline, f"never {what}\n{self.daemon.output()[-3000:]}"
            time.sleep(0.05)

    def assert_refusing(self, reason: str) -> None:
        """Post until refused; /readyz must say why and since when."""
        self.until(lambda: self.post(padding=3000) == http.client.SERVICE_UNAVAILABLE, "refused")
        status, text = self.readiness()
        assert status == http.client.SERVICE_UNAVAILABLE
        assert reason in text
        assert "since 20" in text

    def assert_accepting_again(self) -> None:
        """It returns by itself, nothing acknowledged is lost, the ledger is balanced."""
        self.until(lambda: self.post() == http.client.OK, "accepted again")
        self.until(lambda: self.readiness()[0] == http.client.OK, "ready again")
        assert self.daemon.pid == self.pid
        assert self.daemon.running
        self.until(lambda: self.daemon.metrics()[f"forwarder_spool_events{LABEL}"] == 0, "drained")
        self.receiver.wait_for_numbers(self.poster.acknowledged)
        metrics = self.daemon.metrics()
        assert metrics[f"forwarder_ledger_imbalance_events{LABEL}"] == 0
        assert self.poster.refused
        assert not self.poster.unanswered


@contextmanager
def bench(place: Path, elsewhere: Path) -> Iterator[Bench]:
    with (
        ReceiverProcess(elsewhere) as receiver,
        Daemon(elsewhere, CONFIG, UPSTREAM=receiver.url, PLACE=place) as daemon,
        closing(Poster(daemon.http)) as poster,
    ):
        one = Bench(daemon, receiver, poster)
        with closing(one.admin):
            assert one.post() == http.client.OK
            assert one.readiness() == (http.client.OK, "ok\n")
            yield one


def test_p9_a_full_disk_of_16_mib_refuses_delivers_and_accepts_again(tmp_path: Path) -> None:
    with Volume(tmp_path, size=16 * MIB) as volume, bench(volume.path, tmp_path) as one:
        one.receiver.order({"status": 503})
        ballast = volume.fill(leave=300_000)
        one.assert_refusing("No space left on device")
        one.receiver.order()
        one.receiver.wait_for_numbers(one.poster.acknowledged)  # delivery goes on meanwhile
        ballast.unlink()
        one.assert_accepting_again()


def test_p9_a_16_mib_disk_can_be_used_nearly_to_its_end(tmp_path: Path) -> None:
    with Volume(tmp_path, size=16 * MIB) as volume, bench(volume.path, tmp_path) as one:
        one.receiver.order({"status": 503})
        free = volume.free
        one.until(lambda: one.post(padding=3000) == http.client.SERVICE_UNAVAILABLE, "refused")
        stored = len(one.poster.acknowledged) * 3000
        assert stored > free * 0.85, "space written ahead must not eat a small volume"
        one.receiver.order()
        one.assert_accepting_again()


@contextmanager
def failing(pid: int, calls: str, error: str) -> Iterator[None]:
    """Let these system calls of a live process fail; afterwards it is left alone again."""
    binary = shutil.which("strace")
    if binary is None:
        pytest.skip("needs strace (apt-get install strace)")
    inject = ["-e", f"trace={calls}", "-e", f"inject={calls}:error={error}"]
    command = [binary, "-f", "-o", "/dev/null", *inject, "-p", str(pid)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert "attached" in process.stderr.readline()
        try:
            yield
        finally:
            process.send_signal(SIGINT)
            process.communicate(timeout=20)


@pytest.mark.parametrize("error", ["EIO", "ENOSPC", "EDQUOT"])
@pytest.mark.parametrize("calls", ["pwritev2", "pwritev2,pwritev,pwrite64,fdatasync,fsync,ftruncate,truncate"])
def test_p9_failing_writes_and_syncs_on_a_live_process_refuse_and_it_recovers(
    tmp_path: Path, calls: str, error: str
) -> None:
    words = {"EIO": "Input/output error", "ENOSPC": "No space left", "EDQUOT": "quota"}[error]
    with bench(tmp_path, tmp_path) as one:
        with failing(one.pid, calls, error):
            one.assert_refusing(words)
        one.assert_accepting_again()


def test_p9_a_failing_sync_on_a_live_process_refuses_and_it_recovers(tmp_path: Path) -> None:
    with bench(tmp_path, tmp_path) as one:
        with failing(one.pid, "fdatasync,fsync", "EIO"):
            one.assert_refusing("Input/output error")
        one.assert_accepting_again()


def test_p9_a_disk_that_turns_read_only_refuses_and_accepts_again(tmp_path: Path) -> None:
    with Volume(tmp_path) as volume, bench(volume.path, tmp_path) as one:
        volume.make_read_only()
        one.assert_refusing("Read-only file system")
        one.receiver.wait_for_numbers(one.poster.acknowledged)  # delivery goes on meanwhile
        volume.make_writable()
        one.assert_accepting_again()


def test_p9_p1_an_aborted_file_system_refuses_and_after_repair_and_restart_nothing_is_lost(tmp_path: Path) -> None:
    with Volume(tmp_path) as volume, bench(volume.path, tmp_path) as one:
        one.receiver.order({"status": 503})
        assert one.post() == http.client.OK
        volume.abort()
        one.until(lambda: one.post() == http.client.SERVICE_UNAVAILABLE, "refused")
        assert one.daemon.running
        one.daemon.kill9()
        volume.repair()
        one.receiver.order()
        one.daemon.start()
        one.receiver.wait_for_numbers(one.poster.acknowledged)


def test_p9_no_descriptors_left_refuses_and_accepts_again(tmp_path: Path) -> None:
    with bench(tmp_path, tmp_path) as one:
        before = resource.prlimit(one.pid, resource.RLIMIT_NOFILE)
        used = len(list(Path(f"/proc/{one.pid}/fd").iterdir()))
        resource.prlimit(one.pid, resource.RLIMIT_NOFILE, (used, before[1]))
        one.assert_refusing("Too many open files")
        resource.prlimit(one.pid, resource.RLIMIT_NOFILE, before)
        one.assert_accepting_again()
