"""The status page in a real browser: what a tired operator sees, on a desk and on a phone, by day and by night.

Screenshots are left in the directory named by FORWARDER_SCREENSHOTS, for people to look at.
"""

import http.client
import json
import os
import re
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.prove.support import tree
from tests.support.clients import Numbered, Poster
from tests.support.processes import Daemon, ReceiverProcess

pytestmark = pytest.mark.prove

KEY = "page-proof-write-key"
CONFIG = """
[listen]
http = ["$HTTP"]
udp = ["$UDP"]
admin = "$ADMIN"
[spool]
directory = "$SPOOL"
min_free = "1MiB"
[destinations.telemetrydeck]
kind = "telemetrydeck"
url = "$UPSTREAM"
flush = { interval = "100ms" }
retry = { initial = "1h", max = "1h" }
[destinations.encharge]
kind = "encharge"
url = "$UPSTREAM/v1"
write_key = { file = "$KEYFILE" }
"""


LOOKS: dict[str, tuple[Any, ...]] = {
    "desk-light": (1100, 1400),
    "desk-dark": (1100, 1400, "--blink-settings=preferredColorScheme=0"),
    "phone": (500, 1600),
}
"""Width, height, options."""


class Browser:
    def __init__(self, daemon: Daemon, directory: Path) -> None:
        tree.need("chromium", packages="chromium")
        self._url = f"http://{daemon.admin}/"
        self._profile = directory / "profile"
        self._shots = Path(os.environ.get("FORWARDER_SCREENSHOTS") or directory)
        self._shots.mkdir(parents=True, exist_ok=True)

    def dom(self) -> str:
        """Return the page as it is after some seconds, scripts run."""
        return self._run("--dump-dom", self._url)

    def shot(self, name: str, width: int, height: int, *options: str) -> tuple[Path, str]:
        path = self._shots / f"{name}.png"
        said = self._run(f"--screenshot={path}", f"--window-size={width},{height}", *options, self._url)
        return path, said

    def _run(self, *options: str) -> str:
        usual = ["--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--enable-logging=stderr"]
        return tree.run("chromium", *usual, f"--user-data-dir={self._profile}", "--virtual-time-budget=5000", *options)


@pytest.fixture(scope="module")
def troubled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A daemon with a vendor outage, a wrong key, events waiting, a dead letter, and a little history."""
    tmp_path = tmp_path_factory.mktemp("page")
    (tmp_path / "key").write_text("not " + KEY)
    (tmp_path / "key").chmod(0o600)
    with (
        ReceiverProcess(tmp_path, "--key", KEY) as receiver,
        Daemon(tmp_path, CONFIG, UPSTREAM=receiver.url, KEYFILE=tmp_path / "key") as daemon,
        Poster(daemon.http) as poster,
    ):
        assert poster.post("/v2/", range(100)) == http.client.OK
        receiver.wait_for_numbers(range(100))
        receiver.order({"refuse_apps": ["acceptance"], "vendor": "telemetrydeck", "requests": 1})
        assert poster.post("/v2/", [3000]) == http.client.OK
        daemon.wait_for_line(lambda line: "events_died" in line)
        for bad in (b'[{"appID": "acceptance"}]', b"{bad"):
            assert poster.post_body("/v2/", bad, []) == http.client.BAD_REQUEST
        receiver.order({"status": 503, "vendor": "telemetrydeck"})
        assert poster.post("/v2/", range(100, 1200)) == http.client.OK
        assert poster.post("/v1", [2000], Numbered.encharge) == http.client.OK
        daemon.wait_for_line(lambda line: "parked" in line)
        daemon.wait_for_line(lambda line: "503" in line)
        wait_for_points(daemon, 3)
        yield daemon


def wait_for_points(daemon: Daemon, count: int) -> None:
    deadline = time.monotonic() + 90
    while len(json.loads(daemon.get("/history")[1]).get("telemetrydeck", ())) < count:
        assert time.monotonic() < deadline, "no history"
        time.sleep(0.5)  # a point comes every ten seconds, and nobody says so


def size(path: Path) -> tuple[int, int]:
    """Return width and height of a PNG."""
    width, height = struct.unpack(">II", path.read_bytes()[16:24])
    return width, height


def test_within_one_screen_it_says_why_events_are_not_arriving(troubled: Daemon, tmp_path: Path) -> None:
    dom = Browser(troubled, tmp_path).dom()
    assert "accepts events" in dom
    assert "telemetrydeck: backing off after 503" in dom
    assert re.search(r"encharge: parked since \d\d:\d\d: 401, check write key \(destinations.encharge.write_key\)", dom)
    assert "put it right, then: forwarder resume encharge" in dom
    assert "2 of these: 1 missing_field, 1 not_json" in dom, "why the door refused events"
    assert "1,100 events, the oldest" in dom
    assert "No answer from the daemon" in dom  # the hidden alert
    assert 'id="stale" class="bad"' in dom, "the page reached the daemon"


@pytest.mark.parametrize("look", LOOKS)
def test_it_looks_like_something_everywhere(troubled: Daemon, tmp_path: Path, look: str) -> None:
    width, height, *options = LOOKS[look]
    path, said = Browser(troubled, tmp_path).shot(look, width, height, *options)
    assert size(path) == (width, height)
    assert path.stat().st_size > 20_000, "an empty page compresses to less"
    assert "Content Security Policy" not in said
    assert "Uncaught" not in said, "every part of the page could be drawn"


def test_the_plots_are_fed_with_what_happened(troubled: Daemon, tmp_path: Path) -> None:
    points = json.loads(troubled.get("/history")[1])["telemetrydeck"]
    assert points[-1][3] == 1100
    dom = Browser(troubled, tmp_path).dom()
    assert dom.count("<polyline points=") == 2 * 4
    assert "what died lately" in dom
    died = json.loads(troubled.get("/dead-letters")[1])["telemetrydeck"]
    assert died["reasons"] == {"refused": 1}
    assert Numbered.of(died["samples"][0]["event"].encode()) == 3000
