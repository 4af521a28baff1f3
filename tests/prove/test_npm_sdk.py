"""The unmodified @telemetrydeck/sdk from npm, pointed at the listener, arrives intact at the stand-in."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.processes import Daemon, ReceiverProcess

pytestmark = pytest.mark.prove

HERE = Path(__file__).parent
HASHED = "c05dc5334d83cca7382bca040f2f6e9de56d57d22814cfc4c39b5a55dbc9ef16"
"""SHA-256 of `somebody@example.comMySalt`: the vendor's own test vector."""

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
"""


@pytest.fixture
def sdk(tmp_path: Path) -> Path:
    if shutil.which("npm") is None:
        pytest.skip("npm is not installed: apt-get install npm")
    project = tmp_path / "sdk"
    shutil.copytree(HERE / "npm_sdk", project)
    subprocess.run(["npm", "install", "--no-audit", "--no-fund", "--silent"], cwd=project, check=True, timeout=120)
    return project


def test_the_npm_sdk_arrives_intact(sdk: Path, tmp_path: Path) -> None:
    with ReceiverProcess(tmp_path) as receiver, Daemon(tmp_path, CONFIG, UPSTREAM=receiver.url) as daemon:
        command = ["node", "send.mjs", f"http://{daemon.http}/v2/"]
        printed = subprocess.run(command, cwd=sdk, check=True, timeout=60, capture_output=True, text=True).stdout
        report = json.loads(printed)
        assert daemon.terminate() == 0
        arrived = [json.loads(row.event) for row in receiver.events()]
        raw = [row.event.decode() for row in receiver.events()]

    sent = [event for body in report["sent"] for event in json.loads(body)]
    assert report["statuses"] == [200, 200]
    assert [event["type"] for event in sent] == ["direct", "queued", "queued"]
    assert {event["clientUser"] for event in arrived} == {HASHED}
    stamps = [
        event.pop("receivedAt") if "receivedAt" not in given else None
        for event, given in zip(arrived, sent, strict=True)
    ]
    assert arrived == sent
    assert stamps[0] is not None, "signal() sends no receivedAt: the forwarder stamps it"
    for given in json.loads(report["sent"][1]):
        assert json.dumps(given, separators=(",", ":"), ensure_ascii=False) in raw, "byte for byte"
