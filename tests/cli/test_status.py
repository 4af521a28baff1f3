import io
import json
import socket
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
from forwarder.core.report import Report, Reporter, moment
from forwarder.core.seams import ListenerStatus
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


def run(config: Path, *arguments: str, columns: int = 120) -> Result:
    return CliRunner(env={"COLUMNS": str(columns)}).invoke(status, ["--config", str(config), *arguments])


@pytest.mark.usefixtures("_control")
def test_one_screen_says_what_is_queued_how_old_and_why(config: Path, daemon: FakeDaemon) -> None:
    daemon.lane_list = [
        lane(
            state="backing_off",
            reason="after 503",
            next_try_at=NOW + 42,
            last_error="404, not found",
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
        "queued        90 events, oldest 2 min 5 s; 8.8 KiB of 1.0 GiB on disk",
        "rates         … in, 12.5/s delivered; the last 1 s ago",
        f"last error    {moment(NOW - 3, NOW)} (3 s ago): 404, not found",
        "parked key    v2 app: 404: check apps",
        "to do         nothing: events are kept, and go out by themselves when the vendor takes them again",
        "dead letters  7 present, 2 replayed, 1 purged   (forwarder dead ls telemetrydeck)",
        "ledger        1,000 = 90 queued + 900 delivered + 10 died  balanced",
        "http  127.0.0.1:8765; 3 connections",
        "udp   127.0.0.1:8765, 2 datagrams dropped by the kernel",
        "disk  976.6 KiB of 2.0 GiB used, 9.3 GiB free in /var/lib/forwarder",
        "note  spool/old has 12 events and no destination",
    ):
        assert line in result.stdout


@pytest.mark.usefixtures("_control")
def test_two_destinations_in_trouble_fit_on_a_screen_of_80_by_24(config: Path, daemon: FakeDaemon) -> None:
    daemon.spool_list = [spool(name, queued_events=123_456) for name in ("telemetrydeck", "encharge")]
    daemon.letters_list = [letters(name) for name in ("telemetrydeck", "encharge")]
    cause = "401, check write key (destinations.encharge.write_key)"
    daemon.lane_list = [
        lane(state="backing_off", reason="after 503, next try in 42 s", last_error="503", last_error_at=NOW - 3),
        lane(
            "encharge",
            state="parked",
            reason=f"{cause}, next try in 14 min 59 s",
            since=NOW - 3,
            last_error=cause,
            last_error_at=NOW - 3,
        ),
    ]
    daemon.listener_list = [
        ListenerStatus(label=f"{kind}:{place}:8765", kind=kind, accepting=True, connections=12)
        for kind in ("http", "udp")
        for place in ("127.0.0.1", "[::1]")
    ]
    result = run(config, columns=80)
    assert f"encharge parked since {moment(NOW - 3, NOW)}: {cause}, next try" in " ".join(result.stdout.split())
    assert "http  127.0.0.1:8765; [::1]:8765; 24 connections" in result.stdout
    assert len(result.stdout.splitlines()) <= 24, result.stdout
    assert max(map(len, result.stdout.splitlines())) <= 80


@pytest.mark.usefixtures("_control")
def test_what_the_door_refuses_is_told_with_its_reason(config: Path, daemon: FakeDaemon) -> None:
    daemon.listener_list = [
        ListenerStatus(
            label="http:127.0.0.1:8765",
            kind="http",
            accepting=True,
            received=62,
            refused={"missing_field": 10, "not_json": 2},
            last_refusal="clientUser is missing: it must be a string",
            last_refused_at=NOW - 70,
        ),
        ListenerStatus(label="udp:127.0.0.1:8765", kind="udp", accepting=True, received=5, shed={"spool_full": 1}),
    ]
    text = " ".join(run(config).stdout.split())
    assert "refused http:127.0.0.1:8765: 12 of 62 events (10 missing_field, 2 not_json); the last" in text
    assert f"{moment(NOW - 70, NOW)} (1 min 10 s ago): clientUser is missing: it must be a string" in text
    assert "shed udp:127.0.0.1:8765: 1 of 5 events (1 spool_full)" in text


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
    daemon.lane_list = [lane(state="parked", reason="401, check write key", since=NOW - 7200)]
    text = run(config).stdout
    assert f"parked since {moment(NOW - 7200, NOW)}: 401, check write key" in text
    assert "forwarder resume telemetrydeck" in text
    assert "5 events unaccounted for" in text
    assert f"No space left on device, since {moment(NOW - 61, NOW)} (1 min 1 s ago)" in text
    assert "sequences 10 to 19" in text
    assert "stuck  the writer thread" in text


@pytest.mark.usefixtures("_control")
def test_all_well_and_empty_is_told_briefly(config: Path, daemon: FakeDaemon) -> None:
    daemon.spool_list = [spool(queued_events=0, oldest_accepted_at=None, ledger={})]
    daemon.lane_list = [lane(last_delivered_at=None)]
    daemon.letters_list = [letters(present=0, replayed=0, purged=0)]
    text = run(config).stdout
    assert "queued        nothing; 8.8 KiB of 1.0 GiB on disk" in text
    assert "12.5/s delivered; none since the start" in text
    assert "dead letters  none" in text
    assert "to do" not in text


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


def test_a_daemon_that_hangs_is_unreachable_when_the_time_is_over(config: Path) -> None:
    path = config.parent / "state/control.sock"
    with socket.socket(socket.AF_UNIX) as hung:
        hung.bind(str(path))
        hung.listen()
        result = run(config, "--timeout", "0.1")
    assert isinstance(result.exception, DaemonUnreachable)
    assert f"{path}: timed out" in str(result.exception)
