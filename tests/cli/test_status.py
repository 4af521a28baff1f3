import io
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from rich.console import Console

from forwarder.admin import AdminServer
from forwarder.cli.control_client import CallRefused
from forwarder.cli.resume import resume
from forwarder.cli.status import _watch, plain, size, status
from forwarder.config.model import Address
from forwarder.control import ControlServer
from forwarder.core.report import Report, Reporter
from forwarder.errors import ConfigurationError, DaemonUnreachable
from forwarder.metrics import Metrics
from tests.support.fake_view import NOW, FakeDaemon, lane, letters, spool
from tests.support.threaded import serving


@pytest.fixture
def daemon() -> FakeDaemon:
    return FakeDaemon()


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return write_config(tmp_path, admin_port=1)


def write_config(directory: Path, *, admin_port: int) -> Path:
    path = directory / "forwarder.toml"
    path.write_text(
        f'[listen]\nadmin = "127.0.0.1:{admin_port}"\n'
        f'[spool]\ndirectory = "{directory}/state"\n'
        '[destinations.telemetrydeck]\nkind = "telemetrydeck"\nurl = "https://nom.telemetrydeck.com"\n'
    )
    directory.joinpath("state").mkdir(exist_ok=True)
    return path


@pytest.fixture
def _control(daemon: FakeDaemon, config: Path) -> Iterator[None]:
    socket = config.parent / "state" / "control.sock"
    with serving(ControlServer(socket, Reporter(daemon, daemon.clock), daemon)):
        yield


def run(config: Path, *arguments: str) -> Result:
    return CliRunner(env={"COLUMNS": "120"}).invoke(status, ["--config", str(config), *arguments])


@pytest.mark.usefixtures("_control")
def test_one_screen_says_what_is_queued_how_old_and_why(config: Path, daemon: FakeDaemon) -> None:
    daemon.lane_list = [
        lane(
            state="backing_off",
            reason="after 503",
            next_try_at=NOW + 42,
            last_error="HTTP 503",
            last_error_at=NOW - 3,
            parked_keys={"v2 app": "404: check apps"},
        )
    ]
    daemon.note_list = ["spool/old has 12 events and no destination"]
    result = run(config)
    assert result.exit_code == 0
    for line in (
        "forwarder 1.2.3, up 2 h: accepting events",
        "telemetrydeck  backing off after 503, next try in 42 s",
        "queued         90 events, oldest 2 min 5 s",
        "on disk        8.8 KiB of 1.0 GiB",
        "rates          … in, 12.5/s delivered",
        "last delivery  1 s ago",
        "last error     HTTP 503, 3 s ago",
        "parked key     v2 app: 404: check apps",
        "dead letters   7 present, 2 replayed, 1 purged   (forwarder dead ls telemetrydeck)",
        "ledger         1,000 = 90 queued + 900 delivered + 10 died  balanced",
        "http  127.0.0.1:8765, 3 connections",
        "udp   127.0.0.1:8765, 2 datagrams dropped by the kernel",
        "disk  976.6 KiB of 2.0 GiB used, 9.3 GiB free in /var/lib/forwarder",
        "note  spool/old has 12 events and no destination",
    ):
        assert line in result.stdout
    assert len(result.stdout.splitlines()) < 25


@pytest.mark.usefixtures("_control")
def test_not_accepting_is_exit_code_3_with_the_reason(config: Path, daemon: FakeDaemon) -> None:
    daemon.refusal = "spool.min_free: 3 MB are free"
    result = run(config)
    assert result.exit_code == 3
    assert "NOT accepting events: spool.min_free: 3 MB are free" in result.stdout
    assert run(config, "--json").exit_code == 3


@pytest.mark.usefixtures("_control")
def test_what_went_wrong_stands_out(config: Path, daemon: FakeDaemon) -> None:
    daemon.wedged = "the writer thread"
    daemon.spool_list = [
        spool(imbalance=-5, trouble="No space left on device", trouble_since=NOW - 61, unreadable=[(10, 20)])
    ]
    daemon.lane_list = [lane(state="parked", reason="401: check write_key", since=NOW - 7200)]
    text = run(config).stdout
    assert "parked for 2 h: 401: check write_key" in text
    assert "forwarder resume telemetrydeck" in text
    assert "5 events unaccounted for" in text
    assert "No space left on device, since 1 min 1 s ago" in text
    assert "sequences 10 to 19" in text
    assert "stuck  the writer thread" in text


@pytest.mark.usefixtures("_control")
def test_all_well_and_empty_is_told_briefly(config: Path, daemon: FakeDaemon) -> None:
    daemon.spool_list = [spool(queued_events=0, oldest_accepted_at=None, ledger={})]
    daemon.lane_list = [lane(last_delivered_at=None)]
    daemon.letters_list = [letters(present=0, replayed=0, purged=0)]
    text = run(config).stdout
    assert "queued         nothing" in text
    assert "last delivery  none since the start" in text
    assert "dead letters   none" in text


@pytest.mark.usefixtures("_control")
def test_json_is_the_whole_report(config: Path) -> None:
    result = run(config, "--json")
    assert result.exit_code == 0
    report = json.loads(result.stdout)
    assert report["destinations"][0]["lane"]["state"] == "flowing"
    assert report["disk"]["limit_bytes"] == 2 * 1024**3


def test_without_the_control_socket_the_admin_listener_is_asked(tmp_path: Path, daemon: FakeDaemon) -> None:
    admin = AdminServer(daemon, Reporter(daemon, daemon.clock), Metrics(), address=Address(host="127.0.0.1"))
    with serving(admin):
        result = run(write_config(tmp_path, admin_port=admin.port))
    assert result.exit_code == 0
    assert "accepting events" in result.stdout


def test_no_daemon_is_unreachable_with_every_way_that_was_tried(config: Path) -> None:
    result = run(config)
    assert isinstance(result.exception, DaemonUnreachable)
    message = str(result.exception)
    assert f"{config.parent}/state/control.sock: No such file or directory" in message
    assert "127.0.0.1:1: Connection refused" in message
    assert "forwarder run" in message


def test_the_exit_codes_hold_for_the_real_command(config: Path) -> None:
    command = [sys.executable, "-m", "forwarder", "status", "--config"]
    gone = subprocess.run([*command, str(config)], capture_output=True, text=True, check=False)
    assert gone.returncode == 4
    assert gone.stderr.startswith("forwarder: no daemon answers: ")
    assert "Traceback" not in gone.stderr
    bad = subprocess.run([*command, str(config.parent / "none.toml")], capture_output=True, text=True, check=False)
    assert bad.returncode == 2


def test_a_bad_configuration_is_a_configuration_error(tmp_path: Path) -> None:
    path = tmp_path / "forwarder.toml"
    path.write_text("[listn]\n")
    assert isinstance(run(path).exception, ConfigurationError)


@pytest.mark.parametrize("terminal", [True, False])
def test_watch_goes_on_while_the_daemon_is_away_and_ends_quietly_when_interrupted(
    daemon: FakeDaemon, *, terminal: bool
) -> None:
    answers: list[BaseException | None] = [None, DaemonUnreachable("no daemon answers"), None, KeyboardInterrupt()]

    def fetch() -> Report:
        if (problem := answers.pop(0)) is not None:
            raise problem
        return Reporter(daemon, daemon.clock).report()

    shown = io.StringIO()
    _watch(fetch, 0.001, Console(file=shown, force_terminal=terminal, width=120, color_system=None))
    assert answers == []
    assert shown.getvalue().count("accepting events") == 2
    assert shown.getvalue().count("no daemon answers") == 1


@pytest.mark.usefixtures("_control")
def test_resume_says_what_happens(config: Path, daemon: FakeDaemon) -> None:
    result = CliRunner().invoke(resume, ["telemetrydeck", "--config", str(config)])
    assert (result.exit_code, result.stdout) == (0, "telemetrydeck: one probe now\n")
    assert daemon.asked == [("resume", "telemetrydeck")]


@pytest.mark.usefixtures("_control")
def test_resume_of_a_stranger_names_the_destinations_there_are(config: Path) -> None:
    result = CliRunner().invoke(resume, ["a/b", "--config", str(config)])
    assert isinstance(result.exception, CallRefused)
    assert str(result.exception) == "no destination 'a/b'; there are: telemetrydeck"


def test_resume_needs_a_daemon(config: Path) -> None:
    result = CliRunner().invoke(resume, ["telemetrydeck", "--config", str(config)])
    assert isinstance(result.exception, DaemonUnreachable)


def test_a_vendors_words_cannot_steer_the_terminal() -> None:
    assert plain("a\x1b[2Jb\r\nc") == "a�[2Jb��c"


@pytest.mark.parametrize(
    ("number", "expected"), [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (3 * 1024**5, "3072.0 TiB")]
)
def test_sizes_are_told_in_binary_units(number: int, expected: str) -> None:
    assert size(number) == expected
