import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from forwarder.cli import dead as module
from forwarder.cli.dead import dead
from forwarder.control import ControlServer
from forwarder.core.report import Reporter
from forwarder.core.seams import DeadLetter
from forwarder.errors import DaemonUnreachable
from forwarder.spool import dead_letter_line
from tests.support.fake_view import NOW, FakeDaemon
from tests.support.threaded import serving


def letter(sequence: int, *, reason: str = "refused", died_at: float = NOW) -> DeadLetter:
    return DeadLetter(
        sequence=sequence,
        event=b'{"name":"x"}',
        batch_key=b"v1",
        reason=reason,
        status=None if reason == "expired" else 400,
        answer="no \x1b[2J such [bold]field",
        attempts=2,
        accepted_at=died_at - 5,
        died_at=died_at,
    )


@pytest.fixture
def daemon() -> FakeDaemon:
    return FakeDaemon()


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "forwarder.toml"
    path.write_text(
        f'[spool]\ndirectory = "{tmp_path}/state"\n'
        '[destinations.telemetrydeck]\nkind = "telemetrydeck"\nurl = "https://nom.telemetrydeck.com"\n'
    )
    letters = [letter(1), letter(2, reason="expired"), letter(3, died_at=NOW + 3600)]
    directory = tmp_path / "state" / "dead" / "telemetrydeck"
    directory.mkdir(parents=True)
    directory.joinpath("000000000001.ndjson").write_bytes(b"".join(map(dead_letter_line.encode, letters)))
    return path


@pytest.fixture
def _control(daemon: FakeDaemon, config: Path) -> Iterator[None]:
    socket = config.parent / "state" / "control.sock"
    with serving(ControlServer(socket, Reporter(daemon, daemon.clock), daemon)):
        yield


def run(config: Path, *arguments: str) -> Result:
    return CliRunner(env={"COLUMNS": "150"}).invoke(dead, [*arguments, "--config", str(config)])


def test_ls_lists_what_is_there_and_obeys_no_foreign_terminal_codes(config: Path) -> None:
    result = run(config, "ls", "telemetrydeck")
    assert result.exit_code == 0
    header, first, *rest = result.stdout.splitlines()
    assert header.split()[:2] == ["sequence", "died"]
    assert first.split()[:5] == ["1", "2026-05-28T20:26:40.000Z", "refused", "400", "2"]
    assert "no �[2J such [bold]field" in first
    assert len(rest) == 2
    assert "\x1b" not in result.stdout


def test_ls_filters_by_reason_time_and_sequence(config: Path) -> None:
    def listed(*arguments: str) -> list[int]:
        lines = run(config, "ls", "telemetrydeck", "--json", *arguments).stdout.splitlines()
        return [json.loads(line)["sequence"] for line in lines]

    assert listed() == [1, 2, 3]
    assert listed("--reason", "expired") == [2]
    assert listed("--since", "2026-05-28T21:00:00+00:00") == [3]
    assert listed("--sequence", "1", "--sequence", "3") == [1, 3]
    assert listed("--limit", "2") == [1, 2]
    assert listed("--since", "3650d") == [1, 2, 3]


def test_ls_says_how_many_it_left_out(config: Path) -> None:
    assert "2 more; --limit 0 lists all" in run(config, "ls", "telemetrydeck", "--limit", "1").stdout
    assert "more" not in run(config, "ls", "telemetrydeck", "--limit", "0").stdout


def test_ls_of_nothing_says_so(config: Path) -> None:
    assert "no dead letters that match" in run(config, "ls", "telemetrydeck", "--reason", "poison").stdout


def test_a_bad_time_is_a_usage_error_that_shows_a_good_one(config: Path) -> None:
    result = run(config, "ls", "telemetrydeck", "--since", "yesterday")
    assert result.exit_code == 2
    assert "2h or 7d" in result.stderr


def test_an_unknown_destination_is_a_usage_error_that_names_the_known_ones(config: Path) -> None:
    config.parent.joinpath("state", "dead", "orphan").mkdir()
    result = run(config, "ls", "../telemetrydeck")
    assert result.exit_code == 2
    assert "there are: orphan, telemetrydeck" in result.stderr
    assert run(config, "ls", "orphan").exit_code == 0


def test_show_prints_one_letter_in_full(config: Path) -> None:
    result = run(config, "show", "telemetrydeck", "1")
    assert json.loads(result.stdout)["event"] == {"name": "x"}
    assert "\x1b" not in result.stdout
    missing = run(config, "show", "telemetrydeck", "99")
    assert missing.exit_code == 1
    assert "telemetrydeck has no dead letter 99" in missing.stderr


@pytest.mark.usefixtures("_control")
def test_replay_asks_the_daemon_for_those_that_match(config: Path, daemon: FakeDaemon) -> None:
    result = run(config, "replay", "telemetrydeck", "--reason", "refused", "--keep-age")
    assert (result.exit_code, result.stdout) == (0, "2 dead letters of telemetrydeck replayed\n")
    assert daemon.asked == [("replay", "telemetrydeck", [1, 3], True)]


@pytest.mark.usefixtures("_control")
def test_a_dry_run_asks_nobody_and_changes_nothing(config: Path, daemon: FakeDaemon) -> None:
    result = run(config, "replay", "telemetrydeck", "--all", "--dry-run")
    assert result.stdout == "3 dead letters of telemetrydeck would be replayed\n"
    result = run(config, "purge", "telemetrydeck", "--all", "--dry-run", "--json")
    assert json.loads(result.stdout) == {"matched": 3, "purged": 0, "dry_run": True}
    assert daemon.asked == []


@pytest.mark.parametrize("verb", ["replay", "purge"])
def test_without_a_filter_all_must_be_meant(config: Path, verb: str) -> None:
    arguments = [verb, "telemetrydeck", "--dry-run"]
    result = run(config, *arguments)
    assert result.exit_code == 2
    assert "--where, --sequence, or --all" in result.stderr


@pytest.mark.usefixtures("_control")
def test_purge_wants_a_yes(config: Path, daemon: FakeDaemon) -> None:
    result = run(config, "purge", "telemetrydeck", "--all")
    assert result.exit_code == 2
    assert "add --yes" in result.stderr
    assert daemon.asked == []
    result = run(config, "purge", "telemetrydeck", "--sequence", "2", "--yes", "--json")
    assert json.loads(result.stdout) == {"matched": 1, "purged": 1, "dry_run": False}
    assert daemon.asked == [("purge", "telemetrydeck", [2])]


@pytest.mark.usefixtures("_control")
def test_many_letters_go_in_several_requests(config: Path, daemon: FakeDaemon) -> None:
    directory = config.parent / "state" / "dead" / "telemetrydeck"
    lines = [dead_letter_line.encode(letter(n)) for n in range(10, 10 + module.CHUNK)]
    directory.joinpath("000000000002.ndjson").write_bytes(b"".join(lines))
    result = run(config, "replay", "telemetrydeck", "--all")
    assert result.stdout == "5,003 dead letters of telemetrydeck replayed\n"
    assert [len(asked[2]) for asked in daemon.asked] == [5000, 3]


def test_replay_and_purge_need_a_daemon(config: Path) -> None:
    result = run(config, "replay", "telemetrydeck", "--all")
    assert isinstance(result.exception, DaemonUnreachable)
    assert "control.sock: No such file or directory" in str(result.exception)


@pytest.mark.parametrize("command", [[], ["ls"], ["show"], ["replay"], ["purge"]])
def test_every_command_explains_itself_with_examples(command: list[str]) -> None:
    result = CliRunner().invoke(dead, [*command, "--help"])
    assert result.exit_code == 0
    assert "Example" in result.stdout
    assert "forwarder dead" in result.stdout
