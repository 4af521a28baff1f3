"""FORWARDER_SECTION__KEY."""

import pytest

from forwarder.config import examine
from forwarder.config.model import Secret
from tests.config.conftest import TELEMETRYDECK, Examined, Loaded


def test_environment_overrides_the_file(loaded: Loaded) -> None:
    config = loaded(
        TELEMETRYDECK + '[log]\nlevel = "error"\n[listen]\nmax_connections = 7\n',
        {
            "FORWARDER_LOG__LEVEL": "debug",
            "FORWARDER_LISTEN__MAX_CONNECTIONS": "16",
            "FORWARDER_LISTEN__MAX_BODY": "1048576",
            "FORWARDER_LISTEN__MAX_EVENT": "2KiB",
            "FORWARDER_LISTEN__ALLOW_LOWER_ACK": "true",
            "FORWARDER_LISTEN__HTTP": '["127.0.0.1:0", {"unix": "/run/x", "mode": "0600"}]',
            "FORWARDER_LISTEN__ADMIN": '{"unix": "/run/y"}',
            "FORWARDER_SPOOL__DEAD_LETTERS__MAX_AGE": "1d",
            "FORWARDER_DESTINATIONS__TD__RATE_LIMIT__EVENTS": "2.5",
            "FORWARDER_DESTINATIONS__TD__ANSWERS__409": "delivered",
        },
    )
    assert config.log.level == "debug"
    assert (config.listen.max_connections, config.listen.max_body, config.listen.max_event) == (16, 1 << 20, 2048)
    assert config.listen.allow_lower_ack
    assert [item.label for item in config.listen.http] == ["127.0.0.1:0", "unix:/run/x"]
    assert config.listen.admin is not None
    assert config.listen.admin.label == "unix:/run/y"
    assert config.spool.dead_letters.max_age == 86400
    assert config.destinations[0].rate_limit.events == 2.5
    assert config.destinations[0].answers == {"409": "delivered"}


def test_environment_alone_is_a_configuration() -> None:
    config, findings = examine(
        None,
        search=(),
        environ={
            "HOME": "/home/x",
            "STATE_DIRECTORY": "/state",
            "FORWARDER_DESTINATIONS__EN": '{"kind": "encharge"}',
            "FORWARDER_DESTINATIONS__EN__WRITE_KEY__ENV": "KEY",
            "KEY": "k",
        },
    )
    assert findings.problems == []
    assert config is not None
    assert config.source is None
    assert config.destinations[0].write_key == Secret(env="KEY")


def test_underscores_find_a_destination_with_dashes(loaded: Loaded) -> None:
    text = '[destinations.my-app]\nkind = "telemetrydeck"\n'
    config = loaded(text, {"FORWARDER_DESTINATIONS__MY_APP__CONCURRENCY": "2"})
    assert [(item.name, item.concurrency) for item in config.destinations] == [("my-app", 2)]


def test_exact_name_wins_over_one_with_dashes(loaded: Loaded) -> None:
    text = "".join(f'[destinations.{name}]\nkind = "telemetrydeck"\n' for name in ("my-app", "my_app"))
    config = loaded(text, {"FORWARDER_DESTINATIONS__MY_APP__CONCURRENCY": "2"})
    assert [(item.name, item.concurrency) for item in config.destinations] == [("my-app", 4), ("my_app", 2)]


@pytest.mark.parametrize(
    ("variable", "value", "expected"),
    [
        (
            "FORWARDER_LISTEN__HTTP",
            "127.0.0.1:1",
            'listen.http: found "127.0.0.1:1", expected a list of addresses as JSON; did you mean ["127.0.0.1:1"]?',
        ),
        (
            "FORWARDER_LISTEN__MAX_BODDY",
            "1MiB",
            'listen.max_boddy: unknown key; did you mean "max_body"?',
        ),
        (
            "FORWARDER_LISTEN__ALLOW_LOWER_ACK",
            "1",
            'listen.allow_lower_ack: found "1", expected true or false; did you mean true?',
        ),
        (
            "FORWARDER_SPOOL__DEAD_LETTERS",
            "{",
            'spool.dead_letters: found "{", expected a table as JSON',
        ),
        (
            "FORWARDER_DESTINATIONS__TD__CONCURRENCY",
            "many",
            'destinations.td.concurrency: found "many", expected a whole number from 1 to 1024',
        ),
        (
            "FORWARDER_DESTINATIONS__TT__URL",
            "https://x.example",
            'destinations.tt.kind: missing, expected one of "telemetrydeck", "encharge"',
        ),
    ],
)
def test_problem_names_the_variable(examined: Examined, variable: str, value: str, expected: str) -> None:
    _, findings = examined(TELEMETRYDECK, {variable: value})
    assert findings.problems == [f"{expected} (from {variable})"]


def test_secret_in_a_variable_is_refused_and_not_shown(examined: Examined) -> None:
    for variable in ("FORWARDER_LISTEN__AUTH_TOKEN", "FORWARDER_DESTINATIONS__TD__WRITE_KEY"):
        _, findings = examined(TELEMETRYDECK, {variable: "hunter2"})
        assert "a secret does not stand in the configuration itself" in findings.problems[0]
        assert variable in findings.problems[0]
        assert "hunter2" not in "".join(findings.problems)


def test_names_that_others_inject_are_ignored_in_silence(examined: Examined) -> None:
    injected = {
        "FORWARDER_PORT": "tcp://10.0.0.1:8765",
        "FORWARDER_SERVICE_HOST": "10.0.0.1",
        "FORWARDER_PORT_8765_TCP_ADDR": "10.0.0.1",
        "FORWARDER_LOG_PORT": "tcp://10.0.0.1:1",
        "FORWARDER_SPOOL_SERVICE_PORT": "1",
        "FORWARDER_": "",
        "FORWARDER__": "",
        "FORWARDER_LOG__": "x",
        "FORWARDER_QQQQ__KEY": "x",
        "NOT_FORWARDER_LOG__LEVEL": "debug",
    }
    config, findings = examined(TELEMETRYDECK, injected)
    assert config is not None
    assert findings.notes == []
    assert config.log.level == "info"


@pytest.mark.parametrize(
    ("variable", "meant"),
    [
        ("FORWARDER_LISTN__HTTP", "FORWARDER_LISTEN__HTTP"),
        ("FORWARDER_DESTINATION__TD__URL", "FORWARDER_DESTINATIONS__TD__URL"),
        ("FORWARDER_LOG_LEVEL", "FORWARDER_LOG__LEVEL"),
        ("FORWARDER_LISTEN_MAX_BODY", "FORWARDER_LISTEN__MAX_BODY"),
        ("FORWARDER_DESTINATIONS_TD_URL", "FORWARDER_DESTINATIONS__NAME__KEY"),
    ],
)
def test_slip_of_the_pen_is_a_note(examined: Examined, variable: str, meant: str) -> None:
    config, findings = examined(TELEMETRYDECK, {variable: "debug"})
    assert config is not None
    assert findings.notes == [f"{variable} in the environment is not a setting and is ignored; did you mean {meant}?"]
