"""Upgrade and rollback with real processes: an older spool goes on, a newer one is kept, and the older release starts.

The newer release is a copy of this one whose format versions are one higher: it reads both, and writes its own.
"""

import http.client
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import forwarder
from tests.acceptance.conftest import Client
from tests.support import golden_daemon
from tests.support.clients import Numbered
from tests.support.processes import Daemon, ReceiverProcess

ROOT = Path(__file__).parents[2]
GOLDEN = sorted((Path(__file__).parents[1] / "data").glob("daemon-v*.tar.gz"))
_SAFELY = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
"""Python 3.11.4 and later; Debian 12 has 3.11.2."""
NEWER = {
    "__init__.py": [(f'__version__ = "{forwarder.__version__}"', '__version__ = "99.0.0"')],
    "core/spool/segment.py": [
        ("VERSION = 1\n", "VERSION = 2\n"),
        ("_STABLE.unpack_from(copy)[1] == VERSION", "_STABLE.unpack_from(copy)[1] <= VERSION"),
    ],
    "core/spool/journal.py": [("VERSION = 1\n", "VERSION = 2\n"), ("or version != VERSION", "or version > VERSION")],
    "core/spool/checkpoint.py": [("VERSION = 1\n", "VERSION = 2\n")],
}
CONFIG = """
[listen]
http = ["$HTTP"]
udp = []
admin = "$ADMIN"
[spool]
directory = "$SPOOL"
min_free = "1MiB"
[destinations.telemetrydeck]
kind = "telemetrydeck"
url = "$UPSTREAM"
flush = { interval = "100ms" }
retry = { initial = "100ms", max = "500ms" }
[drain]
timeout = "1s"
"""


class Releases:
    """One spool directory, and two releases that take turns on it."""

    def __init__(self, directory: Path, receiver: ReceiverProcess) -> None:
        self.receiver = receiver
        self.daemon = Daemon(directory, CONFIG, UPSTREAM=receiver.url)
        self._newer = {"PYTHONPATH": str(_newer_release(directory / "newer")), "PYTHONSAFEPATH": "1"}

    def start(self, *, newer: bool) -> None:
        for name, value in self._newer.items():
            self.daemon._env.pop(name, None)
            if newer:
                self.daemon._env[name] = value
        self.daemon.start()
        assert self.daemon.status()["version"] == ("99.0.0" if newer else forwarder.__version__)

    def files(self) -> dict[str, bytes]:
        """Return what the present release must not touch: files of the other one's format, by name."""
        spool = self.daemon.spool / "spool/telemetrydeck"
        return {path.name: path.read_bytes() for path in spool.iterdir() if _version(path) == 2}


def _newer_release(directory: Path) -> Path:
    shutil.copytree(ROOT / "forwarder", directory / "forwarder", ignore=shutil.ignore_patterns("__pycache__"))
    for name, changes in NEWER.items():
        path = directory / "forwarder" / name
        text = path.read_text()
        for old, new in changes:
            assert text.count(old) == 1, f"{old!r} in {name}"
            text = text.replace(old, new)
        path.write_text(text)
    return directory


def _version(path: Path) -> int:
    """Return the format version that a file of a spool states (docs/FORMAT.md)."""
    data = path.read_bytes()
    if path.name == "checkpoint":
        return int(data.split(b" ")[1])
    offset, size = (8, 2) if path.suffix == ".segment" else (16, 4)
    return int.from_bytes(data[offset : offset + size], "little")


@pytest.fixture
def releases(tmp_path: Path, receiver: ReceiverProcess) -> Iterator[Releases]:
    releases = Releases(tmp_path, receiver)
    yield releases
    releases.daemon.kill9()


End = Callable[[Daemon], object]


@pytest.mark.parametrize("end", [Daemon.terminate, Daemon.kill9], ids=["stopped", "killed"])
def test_a_newer_spool_is_left_as_it_is_and_reported_while_the_older_release_goes_on(
    releases: Releases, client: Client, end: End
) -> None:
    daemon, receiver = releases.daemon, releases.receiver

    def post(numbers: range) -> None:
        assert client(daemon.http).post("/v2/", numbers) == http.client.OK

    receiver.order({"status": 503})
    releases.start(newer=False)
    post(range(50))
    end(daemon)
    releases.start(newer=True)
    post(range(50, 100))
    end(daemon)
    newer = releases.files()
    assert newer

    receiver.order()
    releases.start(newer=False)
    post(range(100, 150))
    receiver.wait_for_numbers([*range(50), *range(100, 150)])
    assert not receiver.numbers() & set(range(50, 100)), "nobody here can read these"
    reasons = [record["reason"] for record in daemon.logged("spool_unsupported")]
    assert reasons
    assert all("format version 2, this program reads 1" in reason for reason in reasons)
    notes = " ".join(daemon.status()["notes"])
    assert "format version 2, this program reads 1 (segment" in notes
    assert daemon.terminate() == 0
    kept = {path.name.partition(".")[0]: path.read_bytes() for path in daemon.spool.rglob("quarantine/*/checkpoint*")}
    assert releases.files() | kept == newer, "byte for byte; the checkpoint, which is written anew, as a copy"

    releases.start(newer=True)
    receiver.wait_for_numbers(range(150))
    golden_daemon.wait_for_queues(daemon, 0)
    assert daemon.metrics()['forwarder_ledger_imbalance_events{destination="telemetrydeck"}'] == 0


@pytest.mark.parametrize("golden", GOLDEN, ids=lambda path: path.stem)
def test_a_daemon_goes_on_with_what_each_released_format_left_behind(tmp_path: Path, golden: Path) -> None:
    with tarfile.open(golden) as archive:
        archive.extractall(tmp_path, **_SAFELY)  # type: ignore[arg-type]  # noqa: S202  our own archive
    key = tmp_path / "key"
    key.write_text(golden_daemon.KEY)
    key.chmod(0o600)
    with (
        ReceiverProcess(tmp_path, "--key", golden_daemon.KEY) as receiver,
        Daemon(tmp_path, golden_daemon.CONFIG, UPSTREAM=receiver.url, KEYFILE=key) as daemon,
    ):
        expected = sorted([*golden_daemon.QUEUED, *golden_daemon.PERSONS_QUEUED])
        receiver.wait_for_numbers(expected)
        golden_daemon.wait_for_queues(daemon, 0, 0)
        assert sorted(Numbered.of(row.event) for row in receiver.events()) == expected, (
            "what was delivered is not again"
        )
        paths = {row.path for row in receiver.events()}
        assert paths == {"/v2/", "/v2/namespace/golden/", "/v1"}
        deck, persons = daemon.status()["destinations"]
        assert (deck["spool"]["ledger"]["delivered"], deck["spool"]["ledger"]["died"]) == (80, 1)
        assert persons["spool"]["ledger"]["delivered"] == 30
        assert (deck["spool"]["imbalance"], deck["dead_letter_imbalance"], persons["spool"]["imbalance"]) == (0, 0, 0)
        assert deck["dead_letters"]["present"] == 1
        assert list(daemon.spool.rglob("quarantine/*")) == []


def test_the_version_comes_from_one_place(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "forwarder", "--version"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert said == f"forwarder, version {forwarder.__version__}\n"
    env = {**os.environ, "PYTHONPATH": str(_newer_release(tmp_path)), "PYTHONSAFEPATH": "1"}
    said = subprocess.run(command, capture_output=True, text=True, check=True, env=env).stdout
    assert said == "forwarder, version 99.0.0\n"
    assert f'appVersion: "{forwarder.__version__}"' in next(ROOT.glob("kubernetes/**/Chart.yaml")).read_text()
    assert 'version = { attr = "forwarder.__version__" }' in (ROOT / "pyproject.toml").read_text()
