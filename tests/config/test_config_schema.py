"""The JSON Schema agrees with the loader; the page and the way back are true."""

import json
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import msgspec
import pytest

from forwarder.config import load, schema, written
from forwarder.config.model import Config, DeadLetterLimits, Destination, Drain, Flush, Listen, Log, Retry, SpoolConfig
from tests.config.conftest import TELEMETRYDECK, Loaded
from tests.config.schema_validator import Validator

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "config").glob("*.toml"))

BAD = (
    "",
    "nonsense = 1\n" + TELEMETRYDECK,
    '[destinations.td]\nkind = "nonsense"',
    '[destinations.td]\nurl = "https://x"',
    '[destinations.Td]\nkind = "telemetrydeck"',
    '[destinations.en]\nkind = "encharge"',
    '[destinations.en]\nkind = "encharge"\nwrite_key = "x"',
    '[destinations.en]\nkind = "encharge"\nwrite_key = { file = "x", env = "y" }',
    TELEMETRYDECK + 'write_key = { env = "x" }',
    TELEMETRYDECK + "timeout = 30",
    TELEMETRYDECK + 'timeout = "30"',
    TELEMETRYDECK + "concurrency = 0",
    TELEMETRYDECK + 'answers = { "999" = "delivered" }',
    TELEMETRYDECK + 'answers = { "409" = "nonsense" }',
    TELEMETRYDECK + "apps = [1]",
    TELEMETRYDECK + 'max_size = "1GB"',
    TELEMETRYDECK + "[listen]\nhttp = [8765]",
    TELEMETRYDECK + '[listen]\nhttp = ["8765"]',
    TELEMETRYDECK + '[listen]\nallow_remote = ["ftp"]',
)


@pytest.fixture(scope="module")
def validator() -> Validator:
    return Validator(json.loads(json.dumps(schema.json_schema())))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_schema_takes_every_shipped_file(file: Path, validator: Validator) -> None:
    assert validator.valid(tomllib.loads(file.read_text(encoding="utf-8")))


@pytest.mark.parametrize("text", BAD)
def test_schema_refuses_what_the_loader_refuses(text: str, validator: Validator, loaded: Loaded) -> None:
    assert not validator.valid(tomllib.loads(text))
    with pytest.raises(Exception, match=r"."):
        loaded(text)


def test_schema_takes_what_is_written_back(validator: Validator, loaded: Loaded) -> None:
    assert validator.valid(written.plain(loaded(schema.example())))


def test_every_default_and_example_in_the_schema_fits_its_own_schema(validator: Validator) -> None:
    def walk(node: Any) -> int:
        if isinstance(node, list):
            return sum(map(walk, node))
        if not isinstance(node, dict):
            return 0
        values = [*node.get("examples", []), *([node["default"]] if "default" in node else [])]
        if set(node) & {"type", "enum", "$ref", "anyOf"}:
            for value in values:
                listed = node.get("type") == "array" and not isinstance(value, list)
                assert validator.fits(node, [value] if listed else value), (node, value)
        return len(values) + sum(walk(child) for key, child in node.items() if key not in {"examples", "default"})

    assert walk(schema.json_schema()) > 80


def test_every_field_is_described() -> None:
    for cls in (Listen, SpoolConfig, DeadLetterLimits, Destination, Flush, Retry, Log, Drain):
        for info in msgspec.structs.fields(cls):
            if info.name != "name":
                meta = info.type.__metadata__[0]
                assert meta.description.endswith("."), info.name


ELABORATE = """\
[listen]
http = [{ unix = "/run/f.sock", mode = "0600", group = "www-data" }, "systemd:web", "[::1]:0"]
udp = []
admin = "none"
allowed_origins = ["null", "capacitor://localhost"]
auth_token = { credential = "token" }
max_body = 1234567
[spool]
max_age = "36h"
checkpoint_interval = "1.5s"
[destinations.td]
kind = "telemetrydeck"
namespace = "com.example"
apps = ["A", "B"]
answers = { "409" = "delivered" }
rate_limit = { events = 2.5 }
proxy = "http://proxy.example:3128"
[destinations.en-2]
kind = "encharge"
write_key = { env = "K" }
retry = { initial = "250ms" }
"""


def test_effective_configuration_written_as_toml_loads_to_the_same(loaded: Loaded) -> None:
    first = loaded(ELABORATE)
    again = loaded(written.toml(first))
    assert again == first
    assert 'mode = "0600"' in written.toml(first)
    assert 'initial = "250ms"' in written.toml(first)


def test_password_of_a_proxy_is_not_written(loaded: Loaded) -> None:
    config: Config = loaded(TELEMETRYDECK + 'proxy = "http://me:hunter2@proxy.example:3128"')
    assert config.destinations[0].proxy == "http://me:hunter2@proxy.example:3128"
    assert 'proxy = "http://***@proxy.example:3128"' in written.toml(config)
    assert "hunter2" not in f"{written.toml(config)}{written.plain(config)}{config!r}"


def _generate(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "docs.generate", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )


def test_page_is_current() -> None:
    result = _generate("--check")
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("name", ["CONFIGURATION.md", "METRICS.md"])
def test_stale_page_is_told_with_a_diff(tmp_path: Path, name: str) -> None:
    page = tmp_path / name
    page.write_text("# Title\n\nold\n")
    result = _generate("--check", str(page))
    assert result.returncode == 1
    assert "-old" in result.stderr
    assert _generate(str(page)).returncode == 0
    assert _generate("--check", str(page)).returncode == 0
    assert page.read_text(encoding="utf-8") == (ROOT / "docs" / name).read_text(encoding="utf-8")


def test_shipped_file_loads_through_the_environment_variable(environ: dict[str, str]) -> None:
    file = ROOT / "config" / "telemetrydeck.toml"
    config, _ = load(None, environ={**environ, "FORWARDER_CONFIG": str(file)})
    assert config.source == str(file)
