"""schemathesis against docs/openapi.yaml: whatever a real daemon is asked, its answers are as the page states.

What the page calls valid is accepted. What it calls invalid is refused where one event is the whole body: of an array,
the door takes what is good.
"""

import re
import subprocess
from http.client import HTTPConnection
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
    "positive_data_acceptance",
    "negative_data_rejection",
)
TOKEN = "openapi-proof-token"  # noqa: S105 - of this test alone
CONFIG = """
[parameters]
"header.Content-Encoding" = "identity"
"header.Forwarder-Ack" = "written"

[checks.positive_data_acceptance]
expected-statuses = ["2xx"]

[checks.negative_data_rejection]
expected-statuses = ["400", "401", "404", "413"]

[[operations]]
include-path = "/events"
checks.positive_data_acceptance.expected-statuses = ["2xx", "404"]

[[operations]]
include-method = "OPTIONS"
checks.negative_data_rejection.expected-statuses = ["2xx", "400", "401", "404", "413"]

[[operations]]
include-path-regex = "^/(events|v2/|v3/|v1/$|api/v1/apps/.*/multiple/)"
checks.negative_data_rejection.expected-statuses = ["2xx", "400", "401", "404", "413"]
"""
"""Bodies are not compressed here, and `ack` wins over its header. An unknown destination is a 404; a preflight gets 204
on every path that may be one of ours, and of an array, what is good is taken."""
NO_STORM = "storm = { min = 1000000 }\nretry = "
"""The stand-in refuses much of what is made up; the destinations shall not park because of it."""
EXAMPLES = 60
"""Requests of the fuzzing phase for each of the operations; the others make what the page implies."""
PATIENCE_S = 600
PAGE = tree.ROOT / "docs/openapi.yaml"
PATHS = ("/", "/events", "/v2/", "/v2/namespace/n/", "/v3/n/", "/v1/", "/v1/key", "/api/v1/apps/a/signals/")


def ask(url: str, directory: Path, *options: str) -> int:
    """Let schemathesis ask; fail with what it says, or return how many requests it made."""
    python = tree.throwaway("schemathesis", "schemathesis>=4") / "bin/python"
    (directory / "schemathesis.toml").write_text(CONFIG)
    done = subprocess.run(
        [
            *(str(python), "-m", "schemathesis.cli", "--config-file", str(directory / "schemathesis.toml")),
            *("run", str(PAGE), "--url", url, "--checks", ",".join(CHECKS)),
            *("--phases", "examples,coverage,fuzzing", "--workers", "1"),
            *("--max-examples", str(EXAMPLES), "--seed", "1", "--continue-on-failure", "--no-color"),
            *("--generation-with-security-parameters", "false"),
            *("--generation-database", "none", "--report", "json"),
            *("--report-json-path", str(directory / "report.json"), *options),
        ],
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    asked = re.search(r"(\d+) generated", done.stdout)
    assert asked is not None
    return int(asked[1])


def accepted(daemon: Daemon) -> float:
    events = daemon.metrics().items()
    return sum(value for name, value in events if name.startswith("forwarder_accepted_events_total"))


@pytest.mark.parametrize("guarded", [False, True], ids=["open", "with its token"])
def test_whatever_is_asked_gets_an_answer_that_the_openapi_page_states(tmp_path: Path, *, guarded: bool) -> None:
    options = ["--header", f"X-Forwarder-Token: {TOKEN}"] if guarded else []
    with ReceiverProcess(tmp_path) as receiver, daemon_at(receiver.url, tmp_path, guarded=guarded) as daemon:
        asked = ask(f"http://{daemon.http}", tmp_path, *options)
        taken = accepted(daemon)
    print(f"{asked} requests generated, {taken:.0f} events accepted")  # noqa: T201 - the figure for the docs
    assert asked > 1_000, "hardly anything was asked"
    assert taken > 100, "hardly anything was good"


def test_whoever_has_no_token_gets_the_answers_that_the_openapi_page_states_and_stores_nothing(tmp_path: Path) -> None:
    with daemon_at("http://127.0.0.1:1", tmp_path, guarded=True) as daemon:
        asked = ask(f"http://{daemon.http}", tmp_path, "--exclude-checks", "positive_data_acceptance")
        metrics = daemon.metrics()
        taken = accepted(daemon)
    unauthorized = sum(value for name, value in metrics.items() if 'reason="unauthorized"' in name)
    assert asked > 1_000, "hardly anything was asked"
    assert unauthorized > 1_000, "the token was hardly asked for"
    assert taken == 0


def daemon_at(upstream: str, directory: Path, *, guarded: bool) -> Daemon:
    config = BOTH.replace("retry = ", NO_STORM)
    if guarded:
        config = config.replace("[listen]\n", '[listen]\nauth_token = { file = "$TOKENFILE" }\n')
    key, token = directory / "key", directory / "token"
    key.write_text("openapi-proof-key\n")
    token.write_text(TOKEN + "\n")
    return Daemon(directory, config, UPSTREAM=upstream, KEYFILE=key, TOKENFILE=token)


@pytest.mark.parametrize("headers", [{}, {"X-Forwarder-Token": "no"}, {"Authorization": "Bearer no"}])
def test_every_path_wants_the_token_but_for_a_preflight(tmp_path: Path, headers: dict[str, str]) -> None:
    with daemon_at("http://127.0.0.1:1", tmp_path, guarded=True) as daemon:
        for path in PATHS:
            assert status(daemon.http, "POST", path, headers) == (401, "Bearer")
            assert status(daemon.http, "OPTIONS", path, headers) == (204, None)
            good = {"Authorization": f"Bearer {TOKEN}"}
            assert status(daemon.http, "POST", path, good) != (401, "Bearer")


def status(at: str, method: str, path: str, headers: dict[str, str]) -> tuple[int, str | None]:
    connection = HTTPConnection(at, timeout=10)
    connection.request(method, path, b"{}", headers)
    answer = connection.getresponse()
    answer.read()
    connection.close()
    return answer.status, answer.headers["WWW-Authenticate"]
