import io
import json
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from forwarder import logs
from forwarder.config.model import Log
from tests.support.hand_clock import HandClock


@pytest.fixture(autouse=True)
def _own_logging() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    structlog.reset_defaults()
    root.handlers[:] = handlers
    root.setLevel(level)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Logged:
    def __init__(self, *, level: str = "info", stream: io.StringIO | None = None, **log: Any) -> None:
        self.stream = stream or io.StringIO()
        self.clock = HandClock(1_780_000_000.0)
        chosen = Log(level=level, **log)  # type: ignore[arg-type]
        self.control = logs.configure(chosen, self.clock, environ={}, stream=self.stream)

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.stream.getvalue().splitlines()]


def test_a_line_is_json_when_not_on_a_terminal() -> None:
    logged = Logged()
    structlog.get_logger().info("listening", address="127.0.0.1:8765", count=2)
    assert logged.lines == [
        {
            "timestamp": "2026-05-28T20:26:40.000Z",
            "level": "info",
            "event": "listening",
            "address": "127.0.0.1:8765",
            "count": 2,
        }
    ]


def test_a_line_is_readable_on_a_terminal() -> None:
    logged = Logged(stream=Terminal())
    structlog.get_logger().info("listening", address="127.0.0.1:8765")
    assert "\x1b[" in logged.stream.getvalue()
    assert "listening" in logged.stream.getvalue()
    assert not logged.stream.getvalue().startswith("{")


def test_the_format_can_be_chosen_against_the_terminal() -> None:
    logged = Logged(stream=Terminal(), format="json")
    structlog.get_logger().info("x")
    assert logged.lines[0]["event"] == "x"
    logged = Logged(format="console")
    structlog.get_logger().info("x")
    assert "\x1b[" not in logged.stream.getvalue()
    assert not logged.stream.getvalue().startswith("{")


def test_the_level_changes_for_loggers_that_exist_already() -> None:
    logged = Logged()
    log = structlog.get_logger().bind(destination="d")
    log.debug("a")
    logged.control.set_level("debug")
    log.debug("b")
    logged.control.set_level("error")
    log.warning("c")
    log.error("d")
    assert [line["event"] for line in logged.lines] == ["b", "d"]


def test_an_unknown_level_is_refused_with_those_there_are() -> None:
    logged = Logged()
    with pytest.raises(ValueError, match="no such level: loud; use one of debug, info"):
        logged.control.set_level("loud")
    assert logged.control.level == "info"


@pytest.mark.parametrize(
    "key", ["write_key", "token", "X-Encharge-Token", "authorization", "Proxy-Authorization", "password", "api_keys"]
)
def test_values_of_secret_keys_are_blanked_at_any_depth(key: str) -> None:
    logged = Logged()
    structlog.get_logger().info("x", headers={key: "s3cret"}, rows=[{key: "s3cret"}], **{key: "s3cret"})
    assert "s3cret" not in logged.stream.getvalue()
    assert logged.lines[0][key] == logs.REDACTED


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("https://h/v2/?key=s3cret&a=b#f", "https://h/v2/?[redacted]#f"),
        ("http://user:s3cret@proxy:3128/", "http://proxy:3128/"),
        ("POST https://ingest.encharge.io/v1/s3cret failed", "POST https://ingest.encharge.io/v1/[redacted] failed"),
        ("/v1/s3cret", "/v1/[redacted]"),
        ("sent Authorization: Bearer s3cret", "sent Authorization: Bearer [redacted]"),
        ("/v2/namespace/com.example/", "/v2/namespace/com.example/"),
        ("/api/v1/apps/A1/signals/", "/api/v1/apps/A1/signals/"),
    ],
)
def test_addresses_in_any_text_lose_queries_users_and_write_keys(text: str, expected: str) -> None:
    logged = Logged()
    structlog.get_logger().warning("x", error=text, nested=[{"inner": text}], raw=text.encode(), exc=OSError(text))
    (line,) = logged.lines
    assert [line["error"], line["nested"][0]["inner"], line["raw"], line["exc"]] == [expected] * 4


def test_the_batch_key_is_not_a_secret() -> None:
    logged = Logged()
    structlog.get_logger().info("x", batch_key="v2 app", parked_keys={"a": "403"})
    assert (logged.lines[0]["batch_key"], logged.lines[0]["parked_keys"]) == ("v2 app", {"a": "403"})


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_a_traceback_shows_no_local_variables_and_no_secrets(log_format: str) -> None:
    logged = Logged(format=log_format)
    payload = "pay" + "load-in-a-local"
    try:
        int(f"https://h/?token=s{3}cret {payload[:3]}")
    except ValueError:
        structlog.get_logger().exception("failed")
    text = logged.stream.getvalue()
    assert "ValueError" in text
    assert payload not in text
    assert "s3cret" not in text


def test_a_flood_of_one_kind_is_held_to_a_line_every_few_seconds_and_counted() -> None:
    logged = Logged()
    log = structlog.get_logger()
    for _ in range(100):
        log.warning("batch_failed", destination="a")
    assert len(logged.lines) == logs.REPEAT_BURST
    logged.clock.advance(logs.REPEAT_EVERY_S)
    log.warning("batch_failed", destination="a")
    assert logged.lines[-1]["suppressed"] == 95
    for _ in range(600):
        logged.clock.advance(0.1)
        log.warning("batch_failed", destination="a")
    assert len(logged.lines) <= logs.REPEAT_BURST + 1 + 60 / logs.REPEAT_EVERY_S + 1


def test_one_kinds_flood_hides_no_other_kind() -> None:
    logged = Logged()
    log = structlog.get_logger()
    for _ in range(100):
        log.warning("batch_failed", destination="a")
    log.warning("batch_failed", destination="b")
    log.error("batch_failed", destination="a")
    log.warning("parked", destination="a")
    assert len(logged.lines) == logs.REPEAT_BURST + 3


def test_remembering_kinds_takes_bounded_memory() -> None:
    logged = Logged()
    repetition = logs.Repetition(logged.control, logged.clock)
    for number in range(3 * logs.MAX_KINDS):
        repetition(None, "info", {"event": f"e{number}"})
    assert len(repetition._kinds) == logs.MAX_KINDS


def test_at_level_debug_nothing_is_held_back() -> None:
    logged = Logged(level="debug")
    for _ in range(50):
        structlog.get_logger().info("x")
    assert len(logged.lines) == 50


def test_every_line_carries_its_priority_when_stderr_is_the_journal(tmp_path: Path) -> None:
    with tmp_path.joinpath("journal").open("w+") as stream:
        found = os.fstat(stream.fileno())
        environ = {"JOURNAL_STREAM": f"{found.st_dev}:{found.st_ino}"}
        logs.configure(Log(format="console"), HandClock(), environ=environ, stream=stream)
        structlog.get_logger().info("fine")
        structlog.get_logger().warning("odd")
        try:
            int("x")
        except ValueError:
            structlog.get_logger().exception("bad")
        stream.seek(0)
        lines = stream.read().splitlines()
    assert lines[0].startswith("<6>")
    assert lines[1].startswith("<4>")
    assert len(lines) > 4
    assert all(line.startswith("<3>") for line in lines[2:])


def test_no_priority_when_stderr_is_not_the_journal(tmp_path: Path) -> None:
    with tmp_path.joinpath("log").open("w+") as stream:
        logs.configure(Log(), HandClock(), environ={"JOURNAL_STREAM": "1:2"}, stream=stream)
        structlog.get_logger().info("fine")
        stream.seek(0)
        assert stream.read().startswith("{")


def test_what_libraries_log_comes_out_alike_and_redacted() -> None:
    logged = Logged()
    library = logging.getLogger("aiohttp.client")
    library.info("too chatty")
    library.warning("cannot reach %s", "https://h/v2?a=s3cret")
    try:
        int("boom")
    except ValueError:
        library.exception("unhandled")
    warning, error = logged.lines
    assert warning["message"] == "cannot reach https://h/v2?[redacted]"
    assert (warning["event"], warning["logger"], warning["level"]) == ("library", "aiohttp.client", "warning")
    assert "ValueError: invalid literal" in error["exception"]


def test_values_that_json_does_not_know_are_written_as_text() -> None:
    logged = Logged()
    structlog.get_logger().info("x", path=Path("/tmp/x"), numbers={1: {2}})  # noqa: S108 (never opened)
    assert "/tmp/x" in logged.lines[0]["path"]  # noqa: S108


def test_a_standard_error_that_is_gone_does_no_harm() -> None:
    logged = Logged()
    logged.stream.close()
    structlog.get_logger().error("x")
