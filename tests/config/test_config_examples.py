"""Every file under config/ loads, and the full example says everything that can be said."""

import re
from pathlib import Path

import msgspec
import pytest

from forwarder.config import load, schema
from forwarder.config.model import Config, Destination, Drain, Listen, Log, SpoolConfig
from tests.config.conftest import Examined, Loaded

DIRECTORY = Path(__file__).parents[2] / "config"
FILES = sorted(DIRECTORY.glob("*.toml"))
COMMENTED = re.compile(r"^#([a-z_]+ = .+)$", re.MULTILINE)


def test_the_files_are_all_here() -> None:
    assert {file.name for file in FILES} >= {
        "forwarder.example.toml",
        "telemetrydeck.toml",
        "encharge.toml",
        "local.toml",
    }


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_every_shipped_file_loads(file: Path, environ: dict[str, str]) -> None:
    config, findings = load(file, environ=environ)
    assert findings.problems == []
    assert config.destinations
    missing = [note for note in findings.notes if "encharge-write-key does not exist" not in note]
    assert missing == []


def test_local_file_delivers_to_this_machine_and_keeps_its_spool_in_the_checkout(environ: dict[str, str]) -> None:
    config, findings = load(DIRECTORY / "local.toml", environ=environ)
    assert [item.url for item in config.destinations] == ["http://127.0.0.1:8770", "http://127.0.0.1:8770/v1"]
    assert Path(config.spool.directory).is_relative_to(DIRECTORY.parent)
    assert findings.notes == []


def test_example_in_the_package_is_the_one_in_the_directory() -> None:
    assert (DIRECTORY / "forwarder.example.toml").read_text(encoding="utf-8") == schema.example()


def test_example_spells_out_the_defaults(environ: dict[str, str], loaded: Loaded) -> None:
    example, _ = load(DIRECTORY / "forwarder.example.toml", environ=environ)
    bare = loaded(
        '[destinations.telemetrydeck]\nkind = "telemetrydeck"\n[destinations.encharge]\nkind = "encharge"\n'
        'write_key = { file = "/etc/forwarder/encharge-write-key" }\n'
    )
    assert msgspec.structs.replace(example, source=None) == msgspec.structs.replace(bare, source=None)


def test_model_defaults_are_the_loaders(loaded: Loaded) -> None:
    config = loaded('[destinations.t]\nkind = "telemetrydeck"\n')
    assert config.listen == Listen()
    assert msgspec.structs.replace(config.spool, directory="") == SpoolConfig()
    assert (config.log, config.drain) == (Log(), Drain())


def test_every_key_of_the_model_stands_in_the_example() -> None:
    text = schema.example()
    for cls in (Listen, SpoolConfig, Destination, Log, Drain):
        for name in cls.__struct_fields__:
            assert name == "name" or re.search(rf"^#?{name} = ", text, re.MULTILINE), name


@pytest.mark.parametrize("line", COMMENTED.findall(schema.example()))
def test_commented_setting_is_valid_when_uncommented(line: str, examined: Examined) -> None:
    config, findings = examined(schema.example().replace(f"#{line}", line))
    key = line.partition(" ")[0]
    if key in {"ca_file", "client_cert"}:  # valid but for the file, which no test machine has
        assert [problem.rpartition("/")[2] for problem in findings.problems] == [
            f"{'ca' if key == 'ca_file' else 'client'}.pem cannot be read, expected a PEM file"
        ]
    else:
        assert findings.problems == []
        assert isinstance(config, Config)
