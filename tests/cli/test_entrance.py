"""`forwarder send` finds the daemon of the configuration: where `--to` is not given, the file says it."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from forwarder.cli import entrance
from forwarder.cli.send import send
from forwarder.errors import ConfigurationError
from tests.support.processes import free_port

DESTINATION = '[destinations.td]\nkind = "telemetrydeck"\n'


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FORWARDER_CONFIG", raising=False)
    return tmp_path / "forwarder.toml"


@pytest.mark.parametrize(
    ("listen", "expected"),
    [
        ("", "http://127.0.0.1:8765"),
        ('http = ["127.0.0.1:9000", "[::1]:9000"]', "http://127.0.0.1:9000"),
        ('http = ["[::1]:9000"]', "http://[::1]:9000"),
        ('http = ["0.0.0.0:9000"]\nallow_remote = ["http"]', "http://127.0.0.1:9000"),
        ('http = ["[::]:9000"]\nallow_remote = ["http"]', "http://[::1]:9000"),
        ('http = ["unix:/run/forwarder/http.sock"]', "unix:/run/forwarder/http.sock"),
        ('http = ["systemd:http", "127.0.0.1:9001"]', "http://127.0.0.1:9001"),
        ('http = []\nunix_datagram = ["unix:/run/d.sock"]', "unixgram:/run/d.sock"),
        ('http = []\nudp = ["127.0.0.1:9002"]', "udp://127.0.0.1:9002"),
    ],
)
def test_the_first_way_in_is_taken(file: Path, listen: str, expected: str) -> None:
    file.write_text(f"[listen]\n{listen}\n{DESTINATION}")
    assert entrance.address(file) == expected
    assert entrance.address(None) == expected, "found as `run` finds it"


def test_without_a_file_it_is_the_usual_port(file: Path) -> None:
    assert not file.exists()
    assert entrance.address(None) == "http://127.0.0.1:8765"


def test_a_file_that_was_named_must_be_right_and_one_that_was_only_found_need_not(file: Path) -> None:
    file.write_text("[listn]")
    with pytest.raises(ConfigurationError, match="listn"):
        entrance.address(file)
    assert entrance.address(None) == "http://127.0.0.1:8765"


def test_sockets_that_only_systemd_knows_need_an_address(file: Path) -> None:
    file.write_text(f'[listen]\nhttp = ["systemd:http"]\nudp = []\n{DESTINATION}')
    with pytest.raises(ConfigurationError, match="--to"):
        entrance.address(file)


def test_send_goes_where_the_configuration_says(file: Path) -> None:
    place = f"127.0.0.1:{free_port()}"
    file.write_text(f'[listen]\nhttp = ["{place}"]\n{DESTINATION}')
    result = CliRunner().invoke(send, ["--config", str(file), "{}"])
    assert result.exit_code == 4
    assert f"nothing answers at http://{place}" in result.output
