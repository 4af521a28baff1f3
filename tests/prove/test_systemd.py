"""The units on a real systemd, installed by systemd/install.sh from the wheel and the lock file.

The tests share one machine and run in order; each leaves a running, healthy service behind.
"""

import ctypes
import http.client
import os
import subprocess
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from forwarder.receiver import read_store
from tests.prove.support import tree
from tests.prove.support.machine import Machine
from tests.support.clients import Numbered, Poster, Pounder, send_datagrams

pytestmark = pytest.mark.prove

KEY = "systemd-proof-write-key-1c9a"
DOOR = "127.0.0.1:8765"
STORE = "/var/tmp/received.ndjson"  # noqa: S108  inside the machine
KEY_FILE = "etc/forwarder/encharge-write-key"
SOCKETS = [f"forwarder-{name}.socket" for name in ("http", "http-unix", "udp", "datagram")]
UNITS = ["forwarder.service", *SOCKETS]
WATCHDOG_S = 16
CONFIG = """
[listen]
http = ["systemd:http"]
udp = ["systemd:udp"]
unix_datagram = ["systemd:unix-datagram"]
[destinations.telemetrydeck]
kind = "telemetrydeck"
url = "http://127.0.0.1:9999"
flush = { interval = "10s" }
retry = { initial = "100ms", max = "1s" }
[destinations.encharge]
kind = "encharge"
url = "http://127.0.0.1:9999/v1"
write_key = { credential = "encharge-write-key" }
retry = { initial = "100ms", max = "1s" }
"""
_CLONE_NEWNET = 0x40000000


class Site(Machine):
    """The machine, with the service and a stand-in for the vendors on it."""

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
        target.chmod(mode)

    def vendor(self) -> None:
        """Start the stand-in; it stops after the forwarder when the machine does."""
        command = ["systemd-run", "--quiet", "--collect", "--unit=standin", "--property=Before=forwarder.service"]
        receive = ["/opt/forwarder/bin/forwarder", "receive", "--http", "127.0.0.1:9999", "--store", STORE, "--quiet"]
        self.run(*command, *receive, "--key", KEY)
        self.until("000", "curl", "-s", "-o", "/dev/null", "-w", "000 %{http_code}", "http://127.0.0.1:9999/")

    def numbers(self) -> set[int]:
        store = self.root / STORE.lstrip("/")
        return {Numbered.of(row.event) for row in read_store(store)} if store.exists() else set()

    def wait_for_numbers(self, numbers: Iterable[int]) -> None:
        """Return when all have arrived. It polls: the store grows on another machine."""
        wanted, deadline = set(numbers), time.monotonic() + 60
        while missing := wanted - self.numbers():
            assert time.monotonic() < deadline, f"{len(missing)} never arrived, such as {sorted(missing)[:10]}"
            time.sleep(0.1)

    @contextmanager
    def network(self) -> Iterator[None]:
        """Let the calling thread's sockets be the machine's."""
        home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        there = os.open(f"/proc/{self._leader}/ns/net", os.O_RDONLY)
        _enter_network(there)
        try:
            yield
        finally:
            _enter_network(home)
            os.close(home)
            os.close(there)

    def unix(self, path: str) -> str:
        """Return a path by which the host reaches a socket inside."""
        return f"/proc/{self._leader}/root{path}"


class SitePounder(Pounder):
    """A pounder whose thread lives in the machine's network."""

    def __init__(self, site: Site, *, first: int) -> None:
        super().__init__(DOOR, path="/v2/", first=first)
        self._site = site

    def run(self) -> None:
        with self._site.network():
            super().run()


def _enter_network(descriptor: int) -> None:
    if ctypes.CDLL(None, use_errno=True).setns(descriptor, _CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns")


def post(site: Site, numbers: range) -> None:
    with site.network(), Poster(DOOR) as poster:
        assert poster.post("/v2/", numbers) == http.client.OK


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    tree.need("systemd-nspawn", "mmdebstrap", packages="systemd-container mmdebstrap")
    directory = tmp_path_factory.mktemp("systemd")
    base = tree.debian("systemd", tree.SYSTEMD_PACKAGES)
    wheel = tree.wheels(directory / "wheels")
    with Site(directory, base) as site:
        for name in ("systemd", "requirements.lock"):
            tree.run("cp", "-r", str(tree.ROOT / name), str(site.root / "root"))
        tree.run("cp", "-r", str(directory / "wheels"), str(site.root / "root"))
        site.boot()
        offline = ["env", "PIP_NO_INDEX=1", "PIP_FIND_LINKS=/root/wheels"]
        said = site.run(*offline, "sh", "/root/systemd/install.sh", f"/root/wheels/{wheel.name}")
        assert said.startswith("forwarder, version ")
        site.write("etc/forwarder/forwarder.toml", CONFIG)
        site.vendor()
        yield site


def test_the_units_are_valid_and_the_service_scores_at_most_1_1(site: Site) -> None:
    paths = [f"/etc/systemd/system/{unit}" for unit in UNITS]
    assert site.run("systemd-analyze", "verify", *paths, check=False).strip() == ""
    site.run("systemd-analyze", "security", "--offline=true", "--threshold=11", paths[0])


def test_the_service_starts_without_the_key_file_and_says_that_it_is_missing(site: Site) -> None:
    site.run("systemctl", "enable", "--now", "--quiet", "forwarder")
    site.until("until that is mended the destination is parked", *status_command())
    site.run("systemctl", "stop", "forwarder", *SOCKETS)


def status_command() -> list[str]:
    return ["curl", "-s", "http://127.0.0.1:8766/status"]


def test_the_first_request_starts_the_service_and_is_answered(site: Site) -> None:
    site.write(KEY_FILE, KEY + "\n", 0o600)
    site.run("systemctl", "start", *SOCKETS)
    assert site.show("forwarder", "ActiveState") == "inactive"
    post(site, range(10))
    assert site.show("forwarder", "ActiveState") == "active"
    assert site.show("forwarder", "StatusText").startswith("accepting; ")
    site.wait_for_numbers(range(10))


def test_the_service_may_open_a_file_for_every_connection_that_it_takes(site: Site) -> None:
    assert "open files" not in site.run(*status_command()), "the note that there are too few"


def test_every_socket_of_the_units_takes_events(site: Site) -> None:
    with Poster(site.unix("/run/forwarder-http.sock")) as poster:
        assert poster.post("/events", range(10, 20)) == http.client.ACCEPTED
    with site.network():
        send_datagrams("127.0.0.1:8765", map(Numbered.telemetrydeck, range(20, 30)))
    send_datagrams(site.unix("/run/forwarder-datagram.sock"), map(Numbered.encharge, range(30, 40)))
    site.wait_for_numbers(range(40))


def test_the_credential_is_readable_by_the_service_alone_and_shows_nowhere(site: Site) -> None:
    pid = site.show("forwarder", "MainPID")
    copy = "/run/credentials/forwarder.service/encharge-write-key"
    assert site.run("nsenter", "-t", pid, "-m", "cat", copy).strip() == KEY
    as_nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "cat"]
    for path in (copy, f"/{KEY_FILE}"):
        assert "Permission denied" in site.run(*as_nobody, path, check=False)
    everything = site.run("journalctl", "-b", "-o", "export", "--unit=forwarder")
    everything += site.run("sh", "-c", f"cat /proc/{pid}/environ /proc/{pid}/cmdline | tr '\\0' '\\n'")
    everything += site.run("grep", "-r", "-a", "-c", KEY, "/var/lib/private/forwarder", check=False)
    assert KEY not in everything
    assert not [line for line in everything.splitlines() if line.startswith("/var/lib") and not line.endswith(":0")]


def test_kill_9_under_load_loses_nothing_and_systemd_starts_it_again(site: Site) -> None:
    before = int(site.show("forwarder", "NRestarts"))
    pounder = SitePounder(site, first=1_000_000)
    pounder.start()
    for life in range(3):
        pounder.wait_for_acknowledged(200 * (life + 1))
        pid = site.show("forwarder", "MainPID")
        site.run("kill", "-KILL", pid)
        site.until("active", "systemctl", "is-active", "forwarder")
    pounder.wait_for_acknowledged(800)
    site.wait_for_numbers(pounder.stop())
    assert int(site.show("forwarder", "NRestarts")) == before + 3


def test_restarts_under_load_fail_no_request_and_lose_no_datagram(site: Site) -> None:
    pounder = SitePounder(site, first=2_000_000)
    pounder.start()
    for life in range(3):
        pounder.wait_for_acknowledged(200 * (life + 1))
        with site.network():
            send_datagrams("127.0.0.1:8765", map(Numbered.telemetrydeck, range(100 + life * 50, 150 + life * 50)))
        site.run("systemctl", "restart", "forwarder")
    pounder.wait_for_acknowledged(800)
    site.wait_for_numbers({*pounder.stop(), *range(100, 250)})
    assert not pounder.poster.refused
    assert not pounder.poster.unanswered


def test_a_reload_applies_a_good_file_and_refuses_a_bad_one_with_an_error_in_the_journal(site: Site) -> None:
    pid = site.show("forwarder", "MainPID")
    site.write("etc/forwarder/forwarder.toml", CONFIG.replace('interval = "10s"', 'interval = "soon"'))
    site.run("systemctl", "reload", "forwarder")
    site.until("reload_refused", "journalctl", "-b", "-p", "err", "--unit=forwarder")
    site.until("forwarder_config_reload_success 0", "curl", "-s", "http://127.0.0.1:8766/metrics")

    site.write("etc/forwarder/forwarder.toml", CONFIG.replace('interval = "10s"', 'interval = "50ms"'))
    site.run("systemctl", "reload", "forwarder")
    site.until("forwarder_config_reload_success 1", "curl", "-s", "http://127.0.0.1:8766/metrics")
    site.until("active", "systemctl", "is-active", "forwarder")
    assert site.show("forwarder", "MainPID") == pid
    site.write("etc/forwarder/forwarder.toml", CONFIG)
    site.run("systemctl", "reload", "forwarder")


def test_a_configuration_that_cannot_be_used_stops_the_service_without_a_restart_loop(site: Site) -> None:
    before = site.show("forwarder", "NRestarts")
    site.write("etc/forwarder/forwarder.toml", "[listen]\nhtpp = []\n")
    site.run("systemctl", "restart", "forwarder", check=False)
    site.until("failed", "systemctl", "is-failed", "forwarder")
    assert site.show("forwarder", "ExecMainStatus") == "2"
    assert site.show("forwarder", "NRestarts") in (before, "0")
    site.write("etc/forwarder/forwarder.toml", CONFIG)
    site.run("systemctl", "start", "forwarder")


def test_the_watchdog_ends_a_wedged_commit_thread_and_the_next_process_delivers(site: Site) -> None:
    tree.need("strace", packages="strace")
    drop_in = f"[Service]\nWatchdogSec={WATCHDOG_S}\nTimeoutAbortSec=2\n"
    site.write("etc/systemd/system/forwarder.service.d/watchdog.conf", drop_in)
    site.run("systemctl", "daemon-reload")
    site.run("systemctl", "restart", "forwarder")
    post(site, range(300, 310))
    before = int(site.show("forwarder", "NRestarts"))
    pid = site.host_pid(site.show("forwarder", "MainPID"))
    wedge = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=pwritev2,fdatasync,fsync"]
    wedge += ["-e", "inject=pwritev2,fdatasync,fsync:delay_enter=600000000", "-p", str(pid)]
    strace = subprocess.Popen(wedge, stderr=subprocess.DEVNULL)
    try:
        while not all("TracerPid:\t0" not in path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/status")):
            assert strace.poll() is None
        with site.network(), Poster(DOOR, timeout_s=0.5) as poster:
            assert poster.post("/v2/", range(310, 320)) == 0, "a commit that hangs answers nobody"
        site.until("Watchdog timeout", "journalctl", "-b", "--unit=forwarder", timeout_s=90)
    finally:
        strace.kill()  # a process whose system calls are held up cannot even be killed
        strace.wait()
    site.until(str(before + 1), "systemctl", "show", "--value", "-p", "NRestarts", "forwarder", timeout_s=90)
    assert "no_progress" in site.run("journalctl", "-b", "-p", "err", "--unit=forwarder")
    site.until("active", "systemctl", "is-active", "forwarder")
    post(site, range(320, 330))
    site.wait_for_numbers([*range(300, 310), *range(320, 330)])
    (site.root / "etc/systemd/system/forwarder.service.d/watchdog.conf").unlink()
    site.run("systemctl", "daemon-reload")


def test_a_vendor_outage_longer_than_the_watchdog_does_not_restart_the_service(site: Site) -> None:
    drop_in = "[Service]\nWatchdogSec=3\n"
    site.write("etc/systemd/system/forwarder.service.d/watchdog.conf", drop_in)
    site.run("systemctl", "daemon-reload")
    site.run("systemctl", "restart", "forwarder")
    before = site.show("forwarder", "NRestarts"), site.show("forwarder", "MainPID")
    site.run("systemctl", "stop", "standin")
    post(site, range(330, 340))
    site.until("backing off", "systemctl", "show", "--value", "-p", "StatusText", "forwarder")
    site.run("sleep", "7")
    assert (site.show("forwarder", "NRestarts"), site.show("forwarder", "MainPID")) == before
    site.vendor()
    site.wait_for_numbers(range(330, 340))
    (site.root / "etc/systemd/system/forwarder.service.d/watchdog.conf").unlink()
    site.run("systemctl", "daemon-reload")


def test_power_off_drains_what_can_be_delivered_and_the_rest_survives_the_reboot(site: Site) -> None:
    post(site, range(400, 450))  # less than a batch: it would wait 10 s for more
    site.power_off()
    assert set(range(400, 450)) <= site.numbers(), "delivered before the machine was off"

    site.boot()
    post(site, range(450, 500))  # the vendor is not there
    site.power_off()
    assert not set(range(450, 500)) & site.numbers()

    site.boot()
    site.vendor()
    post(site, range(500, 501))
    site.wait_for_numbers(range(400, 501))


def test_a_machine_that_dies_under_load_delivers_everything_acknowledged_after_the_reboot(site: Site) -> None:
    pounder = SitePounder(site, first=3_000_000)
    pounder.start()
    pounder.wait_for_acknowledged(500)
    site.cut()
    acknowledged = pounder.stop()
    site.boot()
    site.vendor()
    post(site, range(501, 502))
    site.wait_for_numbers(acknowledged)
    metrics = site.run("curl", "-s", "http://127.0.0.1:8766/metrics")
    rows = [line for line in metrics.splitlines() if line.startswith("forwarder_ledger_imbalance_events{")]
    assert rows
    assert all(line.endswith(" 0.0") for line in rows)
