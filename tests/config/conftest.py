from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from forwarder.config import examine, load
from forwarder.config.model import Config, Findings

Examined = Callable[..., tuple[Config | None, Findings]]
Loaded = Callable[..., Config]

TELEMETRYDECK = '[destinations.td]\nkind = "telemetrydeck"\n'


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """What every load here sees of the environment: a state directory of the test's own."""
    return {"STATE_DIRECTORY": str(tmp_path / "state")}


@pytest.fixture
def examined(tmp_path: Path, environ: dict[str, str]) -> Examined:
    def run(text: str, variables: Mapping[str, str] | None = None) -> tuple[Config | None, Findings]:
        file = tmp_path / "forwarder.toml"
        file.write_text(text, encoding="utf-8")
        return examine(file, environ={**environ, **(variables or {})})

    return run


@pytest.fixture
def loaded(tmp_path: Path, environ: dict[str, str]) -> Loaded:
    def run(text: str, variables: Mapping[str, str] | None = None) -> Config:
        file = tmp_path / "forwarder.toml"
        file.write_text(text, encoding="utf-8")
        return load(file, environ={**environ, **(variables or {})})[0]

    return run
