"""The memory limits that are shipped leave room for the worst case that docs/HTTP.md names."""

import re
from pathlib import Path

import pytest

from forwarder.config.model import Listen

ROOT = Path(__file__).parents[2]
MIB = 1024 * 1024
BASE = 128 * MIB
"""The daemon at full load, 120 MiB at most (`python -m benchmarks memory`), rounded up."""
SHIPPED = {
    "kubernetes/chart/forwarder/values.yaml": r"limits: \{ memory: (\d+)Mi \}",
    "kubernetes/kustomize/deployment.yaml": r"limits: \{ memory: (\d+)Mi \}",
    "systemd/examples/limits.conf": r"^MemoryMax=(\d+)M$",
}


def needed(listen: Listen) -> int:
    return BASE + listen.max_inflight + 3 * listen.max_body


@pytest.mark.parametrize("file", SHIPPED)
def test_the_limit_that_is_shipped_is_what_the_default_settings_may_need(file: str) -> None:
    (limit,) = re.findall(SHIPPED[file], (ROOT / file).read_text(), re.MULTILINE)
    assert int(limit) * MIB == needed(Listen())


@pytest.mark.parametrize("file", [*SHIPPED, "docs/DEPLOY.md"])
def test_the_formula_stands_beside_it(file: str) -> None:
    assert "128 MiB + max_inflight + 3 × max_body" in (ROOT / file).read_text()
