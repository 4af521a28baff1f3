"""Writes what a whole daemon of the present format leaves when it is killed: a spool directory with both destinations.

    python -m tests.support.golden_daemon tests/data/daemon-v1.tar.gz

Run it once for each released format, and never again for an old one (as golden_spool.py, which is about one spool).
"""

import http.client
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tests.support.clients import Numbered, Poster
from tests.support.processes import Daemon, ReceiverProcess

DELIVERED, QUEUED = range(40), range(100, 140)
DIED = 3000
PERSONS_DELIVERED, PERSONS_QUEUED = range(500, 510), range(510, 530)
NAMES = ("telemetrydeck", "encharge")
KEY = "golden-write-key"
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
[destinations.encharge]
kind = "encharge"
url = "$UPSTREAM/v1"
write_key = { file = "$KEYFILE" }
retry = { initial = "100ms", max = "500ms" }
[drain]
timeout = "1s"
"""


def write(directory: Path) -> Path:
    """Return the spool directory of a daemon that was killed with events delivered, dead and queued."""
    key = directory / "key"
    key.write_text(KEY)
    key.chmod(0o600)
    with (
        ReceiverProcess(directory, "--key", KEY) as receiver,
        Daemon(directory, CONFIG, UPSTREAM=receiver.url, KEYFILE=key) as daemon,
        Poster(daemon.http) as poster,
    ):
        assert poster.post("/v2/", DELIVERED) == http.client.OK
        _identify(poster, PERSONS_DELIVERED)
        receiver.wait_for_numbers([*DELIVERED, *PERSONS_DELIVERED])
        receiver.order({"refuse_apps": ["acceptance"], "vendor": "telemetrydeck", "requests": 1})
        assert poster.post("/v3/golden/", [DIED]) == http.client.OK
        daemon.wait_for_line(lambda line: "events_died" in line)
        _wait(lambda: all((daemon.spool / "spool" / name / "checkpoint").exists() for name in NAMES), "checkpoints")
        receiver.order({"status": 503})
        assert poster.post("/v2/", QUEUED[:20]) == http.client.OK
        assert poster.post("/v2/namespace/golden/", QUEUED[20:]) == http.client.OK
        _identify(poster, PERSONS_QUEUED)
        wait_for_queues(daemon, len(QUEUED), len(PERSONS_QUEUED))
        daemon.kill9()
    return daemon.spool


def _identify(poster: Poster, numbers: range) -> None:
    for number in numbers:
        assert poster.post("/v1", [number], Numbered.encharge) == http.client.OK


def wait_for_queues(daemon: Daemon, *wanted: int) -> None:
    """Return when so many events are queued for each destination: answers may be under way."""
    _wait(lambda: [each["spool"]["queued_events"] for each in daemon.status()["destinations"]] == [*wanted], "queues")


def _wait(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)  # another process is at work, and says nothing


def main() -> None:
    with tempfile.TemporaryDirectory() as directory, tarfile.open(sys.argv[1], "w:gz") as archive:
        for path in sorted(write(Path(directory)).rglob("*")):
            if path.is_file() and path.name != "lock":
                archive.add(path, Path("spool") / path.relative_to(Path(directory) / "spool"), filter=_anonymous)


def _anonymous(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    return member


if __name__ == "__main__":
    main()
