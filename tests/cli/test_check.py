"""`forwarder check` and `forwarder config`, run as an operator runs them."""

import json
import tomllib
from collections.abc import Mapping
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner, Result

from forwarder.cli.check import Volume, check, disk_notes, judge, survey
from forwarder.cli.config import config
from forwarder.config import examine, schema
from forwarder.config.model import Config

GIB = 1 << 30
TWO = (
    '[destinations.td]\nkind = "telemetrydeck"\n[destinations.en]\nkind = "encharge"\nwrite_key = { env = "KEY" }\n'
    'proxy = "http://me:hunter2@proxy.example:3128"\n'
)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "forwarder.toml"
    path.write_text(TWO)
    return path


def _check(tmp_path: Path, *arguments: str, environ: Mapping[str, str] | None = None) -> Result:
    env = {"STATE_DIRECTORY": str(tmp_path), "KEY": "s3cret", "FORWARDER_CONFIG": None, **(environ or {})}
    return CliRunner().invoke(check, arguments, env=env)


def test_valid_configuration_exits_0_and_says_what_would_run(tmp_path: Path, file: Path) -> None:
    result = _check(tmp_path, "--config", str(file))
    assert result.exit_code == 0, result.output
    assert f"{file}: valid" in result.output
    for fact in (
        "127.0.0.1:8765, [::1]:8765",
        f"{tmp_path}, fsync, at most 2GiB",
        "telemetrydeck at https://nom.telemetrydeck.com",
        "up to 100 events or 512KiB a request, every 10s",
        "write key from environment variable KEY",
        "through http://***@proxy.example:3128",
        "events older than 1d become dead letters",
    ):
        assert fact in result.output, fact
    assert "s3cret" not in result.output
    assert "hunter2" not in result.output


def test_bad_configuration_exits_2_with_every_problem_and_the_notes(tmp_path: Path, file: Path) -> None:
    file.write_text(TWO + 'timeot = "3s"\n[log]\nlevel = "loud"\n')
    result = _check(tmp_path, "--config", str(file), environ={"FORWARDER_LOG_FORMAT": "json"})
    assert result.exit_code == 2
    assert result.output.splitlines() == [
        'problem: log.level: found "loud", expected one of "debug", "info", "warning", "error"',
        'problem: destinations.en.timeot: unknown key; did you mean "timeout"?',
        (
            "note: FORWARDER_LOG_FORMAT in the environment is not a setting and is ignored; "
            "did you mean FORWARDER_LOG__FORMAT?"
        ),
        "",
        f"{file}: cannot be used, 2 problems",
    ]


def test_json_holds_the_same(tmp_path: Path, file: Path) -> None:
    good = json.loads(_check(tmp_path, "--config", str(file), "--json").output)
    assert (good["valid"], good["source"], good["problems"]) == (True, str(file), [])
    assert good["summary"]["http"] == ["127.0.0.1:8765, [::1]:8765"]
    result = _check(tmp_path, "--config", str(tmp_path / "no.toml"), "--json")
    assert result.exit_code == 2
    bad = json.loads(result.output)
    assert (bad["valid"], bad["summary"]) == (False, {})
    assert bad["problems"] == [f"{tmp_path}/no.toml: cannot be read: No such file or directory"]


def test_destinations_that_could_take_the_same_request_are_a_problem(tmp_path: Path, file: Path) -> None:
    file.write_text('[destinations.one]\nkind = "telemetrydeck"\n[destinations.two]\nkind = "telemetrydeck"\n')
    result = _check(tmp_path, "--config", str(file))
    assert result.exit_code == 2
    (problem,) = [line for line in result.output.splitlines() if line.startswith("problem: ")]
    assert "one" in problem
    assert "two" in problem


def test_further_checks_see_the_configuration_only_when_it_is_sound(tmp_path: Path, file: Path) -> None:
    seen: list[Config] = []

    def extra(sound: Config) -> list[str]:
        seen.append(sound)
        return ["from the hook"]

    environ = {"STATE_DIRECTORY": str(tmp_path), "KEY": "k"}
    assert judge(file, environ=environ, extra=extra).problems == ["from the hook"]
    file.write_text("nonsense = 1")
    assert "from the hook" not in judge(file, environ=environ, extra=extra).problems
    assert len(seen) == 1


@pytest.fixture
def sound(file: Path, tmp_path: Path) -> Config:
    found, _ = examine(file, environ={"STATE_DIRECTORY": str(tmp_path), "KEY": "k"})
    assert found is not None
    return found


def _volume(total: int, free: int, *, writable: bool = True) -> Volume:
    return Volume(path="/data", total=total, free=free, writable=writable)


def test_roomy_volume_gives_no_note(sound: Config) -> None:
    assert disk_notes(sound, _volume(100 * GIB, 50 * GIB)) == []


def test_volume_smaller_than_the_limit_is_noted_with_a_limit_that_fits(sound: Config) -> None:
    (note,) = disk_notes(sound, _volume(GIB, GIB))
    assert note == (
        "spool.max_total: 2GiB is more than the volume of /data holds (1GiB, 51.2MiB of it kept free): "
        'the disk\'s limit comes first; set it to "778MiB" or less'
    )


def test_queues_that_fit_one_by_one_but_not_together_are_noted_with_their_sum(sound: Config) -> None:
    big = [msgspec.structs.replace(one, max_size=3 * GIB) for one in sound.destinations]
    roomy = msgspec.structs.replace(sound, destinations=tuple(big))
    assert disk_notes(roomy, _volume(len(big) * 3 * GIB + GIB, 50 * GIB)) == []
    (note,) = disk_notes(roomy, _volume(4 * GIB, 4 * GIB))
    assert note.startswith(
        f"destinations: their max_size add up to {len(big) * 3}GiB, more than the volume of /data holds (4GiB, "
    )


def test_volume_without_room_is_noted(sound: Config) -> None:
    (note,) = disk_notes(sound, _volume(100 * GIB, GIB // 8))
    assert note.startswith("spool.min_free: /data has 128MiB free and 256MiB must stay free: ")


def test_volume_that_cannot_be_written_is_noted(sound: Config) -> None:
    (note,) = disk_notes(sound, _volume(100 * GIB, 50 * GIB, writable=False))
    assert note.startswith("spool.directory: this user cannot write to /data")


def test_survey_looks_at_the_nearest_directory_that_exists(tmp_path: Path) -> None:
    volume = survey(tmp_path / "not" / "yet")
    assert volume.path == str(tmp_path)
    assert volume.total >= volume.free > 0
    assert volume.writable


def test_config_schema_and_example_print_what_the_package_has(tmp_path: Path) -> None:
    runner = CliRunner()
    assert json.loads(runner.invoke(config, ["schema"]).output) == schema.json_schema()
    example = runner.invoke(config, ["example"]).output
    assert example == schema.example()
    pasted = tmp_path / "pasted.toml"
    pasted.write_text(example)
    assert _check(tmp_path, "--config", str(pasted)).exit_code == 0


def test_config_show_prints_what_is_in_force_without_secrets(tmp_path: Path, file: Path) -> None:
    env = {"STATE_DIRECTORY": str(tmp_path), "KEY": "s3cret", "FORWARDER_LOG__LEVEL": "debug"}
    runner = CliRunner()
    text = runner.invoke(config, ["show", "--config", str(file)], env=env).output
    tables = tomllib.loads(text)
    assert tables["log"]["level"] == "debug"
    assert tables["destinations"]["en"]["write_key"] == {"env": "KEY"}
    assert tables["destinations"]["en"]["proxy"] == "http://***@proxy.example:3128"
    assert json.loads(runner.invoke(config, ["show", "--config", str(file), "--json"], env=env).output) == tables
    assert "s3cret" not in text
    assert "hunter2" not in text


def test_config_show_of_a_bad_file_exits_2(tmp_path: Path, file: Path) -> None:
    file.write_text("nonsense = 1")
    result = CliRunner().invoke(config, ["show", "--config", str(file)], env={"STATE_DIRECTORY": str(tmp_path)})
    assert result.exit_code == 2
    assert "nonsense: unknown key" in result.output


@pytest.mark.parametrize(
    ("arguments", "example"),
    [
        ([], "forwarder config show"),
        (["schema"], "forwarder config schema > forwarder.schema.json"),
        (["example"], "forwarder config example > forwarder.toml"),
        (["show"], "forwarder config show --config /etc/forwarder/forwarder.toml"),
    ],
)
def test_help_has_examples(arguments: list[str], example: str) -> None:
    text = CliRunner().invoke(config, [*arguments, "--help"]).output
    assert "  Examples:\n" in text
    assert f"    {example}\n" in text


def test_help_of_check_has_examples() -> None:
    assert "  Examples:\n    forwarder check\n" in CliRunner().invoke(check, ["--help"]).output


def test_a_certificate_that_tls_cannot_use_is_a_problem(tmp_path: Path) -> None:
    file = tmp_path / "forwarder.toml"
    file.write_text('[destinations.td]\nkind = "telemetrydeck"\nca_file = "ca.pem"\n')
    (tmp_path / "ca.pem").write_text("not a certificate")
    result = CliRunner().invoke(check, ["--config", str(file)])
    assert result.exit_code == 2
    assert f"problem: destinations.td.ca_file: {tmp_path}/ca.pem holds no certificate in PEM form" in result.output
