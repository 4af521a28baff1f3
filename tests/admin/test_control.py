import asyncio
import os
import socket
import stat
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from forwarder.control import ControlServer, short_path
from forwarder.core.report import Reporter
from tests.support.fake_view import FakeDaemon


@pytest.fixture
def daemon() -> FakeDaemon:
    return FakeDaemon()


@pytest.fixture
async def path(daemon: FakeDaemon, tmp_path: Path) -> AsyncIterator[Path]:
    where = tmp_path / "control.sock"
    async with ControlServer(where, Reporter(daemon, daemon.clock), daemon):
        yield where


async def ask(where: Path, method: str, target: str, body: Any = None) -> tuple[int, Any]:
    with short_path(where) as name:
        session = aiohttp.ClientSession(connector=aiohttp.UnixConnector(name))
        async with session, session.request(method, f"http://daemon{target}", json=body) as answer:
            return answer.status, await answer.json()


async def test_status_is_the_report(path: Path) -> None:
    status, report = await ask(path, "GET", "/status")
    assert (status, report["accepting"], report["destinations"][0]["name"]) == (200, True, "telemetrydeck")


async def test_resume_probes_and_says_what_happens(path: Path, daemon: FakeDaemon) -> None:
    assert await ask(path, "POST", "/resume/telemetrydeck") == (200, {"message": "telemetrydeck: one probe now"})
    assert daemon.asked == [("resume", "telemetrydeck")]


@pytest.mark.parametrize("target", ["/resume/nobody", "/dead/nobody/replay", "/dead/nobody/purge"])
async def test_an_unknown_destination_is_answered_with_those_there_are(path: Path, target: str) -> None:
    status, answer = await ask(path, "POST", target, {"sequences": [1]})
    assert (status, answer) == (404, {"error": "no destination 'nobody'; there are: telemetrydeck"})


async def test_the_log_level_changes_and_a_bad_one_is_named(path: Path, daemon: FakeDaemon) -> None:
    assert (await ask(path, "POST", "/log-level", {"level": "debug"}))[0] == 200
    assert daemon.asked == [("log_level", "debug")]
    assert await ask(path, "POST", "/log-level", {"level": "loud"}) == (400, {"error": "level: no such level: loud"})


async def test_reload_returns_the_problems(path: Path, daemon: FakeDaemon) -> None:
    assert await ask(path, "POST", "/reload") == (200, {"problems": []})
    daemon.problems = ["listen.http: …"]
    assert await ask(path, "POST", "/reload") == (200, {"problems": ["listen.http: …"]})


async def test_replay_and_purge_pass_the_sequences_on(path: Path, daemon: FakeDaemon) -> None:
    answer = await ask(path, "POST", "/dead/telemetrydeck/replay", {"sequences": [3, 4], "keep_age": True})
    assert answer == (200, {"replayed": 2})
    assert await ask(path, "POST", "/dead/telemetrydeck/purge", {"sequences": [5]}) == (200, {"purged": 1})
    assert daemon.asked == [("replay", "telemetrydeck", [3, 4], True), ("purge", "telemetrydeck", [5])]


@pytest.mark.parametrize(
    ("body", "named"),
    [({}, "sequences"), ({"sequences": ["x"]}, "sequences"), ({"sequences": [], "al": 1}, "al"), ([], "object")],
)
async def test_a_wrong_body_is_refused_with_the_field(path: Path, body: Any, named: str) -> None:
    status, answer = await ask(path, "POST", "/dead/telemetrydeck/replay", body)
    assert status == 400
    assert named in answer["error"]


async def test_a_failing_disk_is_reported_as_what_it_is(path: Path, daemon: FakeDaemon) -> None:
    daemon.disk_fails = True
    status, answer = await ask(path, "POST", "/dead/telemetrydeck/replay", {"sequences": [1]})
    assert (status, answer) == (503, {"error": "write failed on /x: No space left on device"})


async def test_unknown_paths_and_methods_are_json_errors(path: Path) -> None:
    assert await ask(path, "GET", "/nowhere") == (404, {"error": "Not Found: GET /nowhere"})
    assert (await ask(path, "GET", "/reload"))[0] == 405


async def test_the_socket_is_private_and_gone_afterwards(daemon: FakeDaemon, tmp_path: Path) -> None:
    where = tmp_path / "control.sock"
    before = os.umask(0)
    try:
        async with ControlServer(where, Reporter(daemon, daemon.clock), daemon):
            assert stat.S_IMODE(where.stat().st_mode) == 0o600
    finally:
        os.umask(before)
    assert not where.exists()


async def test_a_socket_left_by_a_killed_process_is_replaced(daemon: FakeDaemon, tmp_path: Path) -> None:
    where = tmp_path / "control.sock"
    stale = socket.socket(socket.AF_UNIX)
    stale.bind(str(where))
    stale.close()
    async with ControlServer(where, Reporter(daemon, daemon.clock), daemon):
        assert (await ask(where, "GET", "/status"))[0] == 200


async def test_a_path_too_long_for_a_socket_address_works(daemon: FakeDaemon, tmp_path: Path) -> None:
    where = tmp_path / ("d" * 90) / ("e" * 90) / "control.sock"
    where.parent.mkdir(parents=True)
    async with ControlServer(where, Reporter(daemon, daemon.clock), daemon):
        assert (await ask(where, "GET", "/status"))[0] == 200


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
async def test_another_user_is_refused_even_where_the_modes_would_let_them_in(path: Path) -> None:
    """Only the socket and its own directory are opened; the child is inside before it becomes somebody else."""
    os.chmod(path, 0o666)  # noqa: PTH101, S103 (what is tested: the modes let them in)
    os.chmod(path.parent, 0o711)  # noqa: PTH101, S103 (the same)
    code = (
        "import os, socket; os.setgid(65534); os.setuid(65534)\n"
        "s = socket.socket(socket.AF_UNIX); s.connect('control.sock')\n"
        "s.sendall(b'GET /status HTTP/1.0\\r\\n\\r\\n'); print(s.recv(9999).decode())"
    )
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, cwd=path.parent, stdout=asyncio.subprocess.PIPE
    )
    answer, _ = await child.communicate()
    assert b" 403 Forbidden" in answer
    assert b"uid 65534 may not control this daemon" in answer


async def test_running_samples_at_once(daemon: FakeDaemon, tmp_path: Path) -> None:
    reporter = Reporter(daemon, daemon.clock)
    control = ControlServer(tmp_path / "control.sock", reporter, daemon)
    task = asyncio.ensure_future(control.run())
    await asyncio.sleep(0)
    task.cancel()
    assert len(reporter._samples) == 1
