"""schemathesis against docs/openapi.yaml: whatever a real daemon is asked, its answers are as the page states."""

import re
import subprocess
from pathlib import Path

import pytest

from tests.prove.support import tree
from tests.support.configs import BOTH
from tests.support.processes import Daemon, ReceiverProcess

pytestmark = pytest.mark.prove

CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "allow_header_conformance",
    "unsupported_method",
)
NO_STORM = "storm = { min = 1000000 }\nretry = "
"""The stand-in refuses much of what is made up; the destinations shall not park because of it."""
EXAMPLES = 60
"""Requests of the fuzzing phase for each of the operations; the others make what the page implies."""
PATIENCE_S = 600


def test_whatever_is_asked_gets_an_answer_that_the_openapi_page_states(tmp_path: Path) -> None:
    python = tree.throwaway("schemathesis", "schemathesis>=4") / "bin/python"
    key_file = tmp_path / "key"
    key_file.write_text("openapi-proof-key\n")
    with (
        ReceiverProcess(tmp_path) as receiver,
        Daemon(tmp_path, BOTH.replace("retry = ", NO_STORM), UPSTREAM=receiver.url, KEYFILE=key_file) as daemon,
    ):
        done = subprocess.run(
            [
                *(
                    str(python),
                    "-m",
                    "schemathesis.cli",
                    "run",
                    str(tree.ROOT / "docs/openapi.yaml"),
                    "--url",
                    f"http://{daemon.http}",
                ),
                *("--checks", ",".join(CHECKS), "--phases", "examples,coverage,fuzzing", "--workers", "1"),
                *("--max-examples", str(EXAMPLES), "--seed", "1", "--continue-on-failure", "--no-color"),
                *(
                    "--generation-database",
                    "none",
                    "--report",
                    "json",
                    "--report-json-path",
                    str(tmp_path / "report.json"),
                ),
            ],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
        metrics = daemon.metrics()
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    asked = re.search(r"(\d+) generated", done.stdout)
    accepted = sum(value for name, value in metrics.items() if name.startswith("forwarder_accepted_events_total"))
    print(asked and asked[0], f"{accepted:.0f} events accepted")  # noqa: T201 - the figure for the docs
    assert asked is not None
    assert int(asked[1]) > 1_000, "hardly anything was asked"
    assert accepted > 100, "hardly anything was good"
