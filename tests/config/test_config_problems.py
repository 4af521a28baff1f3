"""Bad configurations and exactly what is said about each."""

import re
from pathlib import Path

import pytest

from forwarder.config import examine, load
from forwarder.errors import ConfigurationError
from tests.config.conftest import TELEMETRYDECK, Examined

ENCHARGE = '[destinations.en]\nkind = "encharge"\nwrite_key = { env = "KEY" }\n'

TD = TELEMETRYDECK

CASES: tuple[tuple[str, str, list[str]], ...] = (
    (
        "unknown key with a neighbour",
        ENCHARGE + 'flush.intervall = "5s"',
        ['destinations.en.flush.intervall: unknown key; did you mean "interval"?'],
    ),
    ("unknown key without a neighbour", TD + "[drain]\nqqqq = 1", ["drain.qqqq: unknown key, expected one of timeout"]),
    ("unknown section", TD + "[lissen]\n", ['lissen: unknown key; did you mean "listen"?']),
    ("section in the singular", "[destination.x]\n", ['destination: unknown key; did you mean "destinations"?']),
    (
        "internal field",
        "source = 'x'\n" + TD,
        [
            "source: unknown key, expected one of listen, spool, destinations, log, drain",
        ],
    ),
    (
        "word out of a list",
        TD + '[spool]\ndurability = "fsink"',
        ['spool.durability: found "fsink", expected one of "fsync", "written", "memory"; did you mean "fsync"?'],
    ),
    (
        "decimal unit",
        TD + '[listen]\nmax_body = "64MB"',
        ['listen.max_body: found "64MB", expected a size from 1KiB to 1GiB; did you mean "64MiB"?'],
    ),
    (
        "duration without a unit",
        TD + "timeout = 30",
        ['destinations.td.timeout: found 30, expected a duration from 1ms to 10m; did you mean "30s"?'],
    ),
    (
        "duration out of bounds",
        TD + 'flush = { interval = "2h" }',
        ['destinations.td.flush.interval: found "2h", expected a duration from 0s to 1h'],
    ),
    (
        "flag as a word",
        TD + 'allow_insecure = "yes"',
        ['destinations.td.allow_insecure: found "yes", expected true or false; did you mean true?'],
    ),
    (
        "flag as a number",
        TD + "concurrency = true",
        ["destinations.td.concurrency: found true, expected a whole number from 1 to 1024"],
    ),
    (
        "number with a fraction",
        TD + "concurrency = 4.5",
        ["destinations.td.concurrency: found 4.5, expected a whole number from 1 to 1024"],
    ),
    (
        "not a number",
        TD + "rate_limit = { events = nan }",
        ["destinations.td.rate_limit.events: found NaN, expected a number from 0.001 to 1000000000"],
    ),
    (
        "address that is no list",
        TD + '[listen]\nudp = "127.0.0.1:1"',
        ['listen.udp: found "127.0.0.1:1", expected a list of addresses; did you mean ["127.0.0.1:1"]?'],
    ),
    (
        "port alone",
        TD + "[listen]\nadmin = 8766",
        [
            (
                'listen.admin: found 8766, expected an address such as "127.0.0.1:8765", "[::1]:8765", '
                '"unix:/run/forwarder/http.sock" or "systemd:NAME", or "none"; did you mean "127.0.0.1:8766"?'
            )
        ],
    ),
    (
        "IPv6 without brackets",
        TD + '[listen]\nudp = ["::1:8765"]',
        [
            (
                'listen.udp[0]: found "::1:8765", expected an address such as "127.0.0.1:8765", "[::1]:8765" or '
                '"systemd:NAME"; did you mean "[::1]:8765"?'
            )
        ],
    ),
    (
        "unix socket among UDP",
        TD + '[listen]\nudp = ["unix:/run/x"]',
        [
            (
                'listen.udp[0]: found "unix:/run/x", expected an address such as "127.0.0.1:8765", "[::1]:8765" or '
                '"systemd:NAME"; a unix socket belongs into listen.unix_datagram'
            )
        ],
    ),
    (
        "mode as a number",
        TD + '[listen]\nhttp = [{ unix = "/run/x", mode = 660 }]',
        [
            (
                'listen.http[0]: found a table, expected { unix = "/run/forwarder/http.sock", mode = "0660", '
                'group = "www-data" }, mode as a string of octal digits such as "0660"'
            )
        ],
    ),
    (
        "listeners on one address",
        TD + '[listen]\nhttp = ["127.0.0.1:8766", "localhost:8766"]',
        [
            "listen.http[1]: localhost:8766 cannot be bound beside listen.http[0] (127.0.0.1:8766)",
            "listen.admin: 127.0.0.1:8766 cannot be bound beside listen.http[0] (127.0.0.1:8766)",
        ],
    ),
    (
        "one socket for streams and datagrams",
        TD + '[listen]\nhttp = ["unix:/run/x"]\nunix_datagram = ["unix:/run/x"]',
        ["listen.unix_datagram[0]: unix:/run/x cannot be bound beside listen.http[0] (unix:/run/x)"],
    ),
    (
        "HTTP beyond loopback",
        TD + '[listen]\nhttp = ["0.0.0.0:8765"]',
        [
            (
                "listen.http: 0.0.0.0:8765 is reachable from other machines; set listen.auth_token, or allow it with "
                'listen.allow_remote = ["http"]'
            )
        ],
    ),
    (
        "UDP and admin beyond loopback, for which a token is no help",
        TD + '[listen]\nauth_token = { env = "T" }\nudp = ["[::]:1"]\nadmin = "10.0.0.1:2"',
        [
            (
                "listen.udp: [::]:1 is reachable from other machines; datagrams carry no token: listen on "
                "127.0.0.1, or "
                'allow it with listen.allow_remote = ["udp"]'
            ),
            (
                "listen.admin: 10.0.0.1:2 is reachable from other machines; health and metrics would be open to all: "
                'listen on 127.0.0.1, or allow it with listen.allow_remote = ["admin"]'
            ),
        ],
    ),
    (
        "every web page",
        TD + '[listen]\nallowed_origins = ["*"]',
        [
            (
                'listen.allowed_origins[0]: found "*", expected an origin such as "https://app.example.com", or '
                '"null"; '
                '"*" would let every web page send'
            )
        ],
    ),
    (
        "origin with a path",
        TD + '[listen]\nallowed_origins = ["https://App.example.com/"]',
        [
            (
                'listen.allowed_origins[0]: found "https://App.example.com/", expected an origin such as '
                '"https://app.example.com", or "null", lower case and without a path; did you mean "https://app.example.com"?'
            )
        ],
    ),
    (
        "host with a port",
        TD + '[listen]\nallowed_hosts = ["10.0.2.2:8765"]',
        [
            (
                'listen.allowed_hosts[0]: found "10.0.2.2:8765", expected a host name or IP address without a '
                "port, such "
                'as "forwarder.internal"; did you mean "10.0.2.2"?'
            )
        ],
    ),
    (
        "the same twice",
        TD + '[listen]\nallow_remote = ["http", "http"]',
        ['listen.allow_remote[1]: "http" is listed twice'],
    ),
    (
        "event larger than a body",
        TD + '[listen]\nmax_event = "2MiB"\nmax_body = "1MiB"',
        ["listen.max_event: 2MiB is more than listen.max_body (1MiB); lower it or raise that"],
    ),
    (
        "body larger than all of them",
        TD + '[listen]\nmax_inflight = "32MiB"',
        ["listen.max_body: 64MiB is more than listen.max_inflight (32MiB); lower it or raise that"],
    ),
    (
        "segment larger than a queue",
        TD + 'max_size = "32MiB"',
        [
            (
                "spool.segment_size: 64MiB is more than destinations.td.max_size (32MiB); "
                'set segment_size = "4MiB" or raise that'
            )
        ],
    ),
    (
        "segment larger than all queues",
        TD + '[spool]\nmax_size = "32MiB"',
        ['spool.segment_size: 64MiB is more than spool.max_size (32MiB); set segment_size = "4MiB" or raise that'],
    ),
    (
        "event larger than a segment",
        TD + '[spool]\nsegment_size = "512KiB"',
        ["listen.max_event: 1MiB is more than spool.segment_size (512KiB); lower it or raise that"],
    ),
    (
        "kind missing",
        "[destinations.x]\n",
        ['destinations.x.kind: missing, expected one of "telemetrydeck", "encharge"'],
    ),
    (
        "kind misspelt",
        '[destinations.x]\nkind = "telemetry-deck"',
        [
            (
                'destinations.x.kind: found "telemetry-deck", expected one of "telemetrydeck", "encharge"; '
                'did you mean "telemetrydeck"?'
            )
        ],
    ),
    (
        "name that is no directory",
        '[destinations."My App"]\nkind = "telemetrydeck"',
        [
            (
                "destinations.My App: not a safe name for a directory, expected at most 64 lower-case letters, digits, "
                '- and _, the first a letter or digit; did you mean "my-app"?'
            )
        ],
    ),
    (
        "name that climbs",
        '[destinations.".."]\nkind = "telemetrydeck"',
        [
            (
                "destinations...: not a safe name for a directory, expected at most 64 lower-case letters, digits, "
                "- and _, the first a letter or digit"
            )
        ],
    ),
    (
        "destinations as a list",
        '[[destinations]]\nkind = "telemetrydeck"',
        ["destinations: found a list, expected tables [destinations.NAME]"],
    ),
    (
        "write key missing",
        '[destinations.en]\nkind = "encharge"',
        ['destinations.en.write_key: missing, expected write_key = { file = "/etc/forwarder/encharge-write-key" }'],
    ),
    (
        "keys of the other kind",
        TD + 'write_key = { env = "K" }\nmax_ambiguous = 2\n' + ENCHARGE + 'namespace = "x"',
        [
            (
                "destinations.td.write_key: means nothing to telemetrydeck: its API takes no key, the app id in "
                "each event "
                "names the account; remove it"
            ),
            (
                "destinations.td.max_ambiguous: means nothing to telemetrydeck: a batch without an answer is "
                "always sent "
                "again; remove it"
            ),
            "destinations.en.namespace: means nothing to encharge: its API has no namespaces; remove it",
        ],
    ),
    (
        "reserved namespace",
        TD + 'namespace = "w"',
        [
            (
                'destinations.td.namespace: "w" is the web SDK\'s path, whose events cannot be relayed; '
                "use your own namespace"
            )
        ],
    ),
    (
        "namespace with a slash",
        TD + 'namespace = "com/example"',
        ['destinations.td.namespace: found "com/example", expected a name such as "com.example"'],
    ),
    (
        "clear text to the world",
        TD + 'url = "http://td.example.com"',
        [
            (
                "destinations.td.url: http://td.example.com would send events in clear; use https://, "
                "or set allow_insecure = true"
            )
        ],
    ),
    (
        "URL without a scheme",
        TD + 'url = "td.example.com"',
        [
            (
                'destinations.td.url: found "td.example.com", expected a URL such as "https://ingest.example.com"; '
                'did you mean "https://td.example.com"?'
            )
        ],
    ),
    (
        "URL with a password",
        TD + 'url = "https://me:hunter2@td.example.com"',
        ['destinations.td.url: found "https://***@td.example.com", expected a URL without user name and password'],
    ),
    (
        "URL with the SDK's path",
        TD + 'url = "https://v2.example.com/v2/"',
        [
            (
                "destinations.td.url: found https://v2.example.com/v2/, expected it without the path that each request "
                'brings; use "https://v2.example.com"'
            )
        ],
    ),
    (
        "proxy of another sort",
        TD + 'proxy = "socks5://u:hunter2@p:1080"',
        ['destinations.td.proxy: found "socks5://***@p:1080", expected an HTTP proxy, for SOCKS is not supported'],
    ),
    (
        "authorities that are not there",
        TD + 'ca_file = "/nonexistent/ca.pem"',
        ["destinations.td.ca_file: /nonexistent/ca.pem cannot be read, expected a PEM file"],
    ),
    (
        "backoff upside down",
        TD + 'retry = { initial = "10m" }',
        ["destinations.td.retry.initial: 10m is more than retry.max (5m); lower it or raise that"],
    ),
    (
        "expired before it is sent",
        TD + 'max_age = "10s"',
        [
            (
                "destinations.td.flush.interval: 10s is not less than max_age (10s): "
                "events would expire before they are sent"
            )
        ],
    ),
    (
        "statuses and meanings",
        TD + 'answers = { "999" = "delivered", "409" = "deliverd" }',
        [
            "destinations.td.answers.999: not a status, expected three digits from 200 to 599",
            (
                'destinations.td.answers.409: found "deliverd", expected one of "delivered", "isolate", "park", '
                '"park_key", "back_off"; did you mean "delivered"?'
            ),
        ],
    ),
    (
        "secret in the file",
        ENCHARGE.replace('{ env = "KEY" }', '"hunter2"'),
        [
            (
                "destinations.en.write_key: a secret does not stand in the configuration itself, expected "
                '{ file = "/path" }, { env = "NAME" } or { credential = "NAME" }'
            )
        ],
    ),
    (
        "secret in two places",
        ENCHARGE.replace('{ env = "KEY" }', '{ env = "KEY", file = "/x" }'),
        [
            (
                "destinations.en.write_key: found env and file, expected exactly one of "
                '{ file = "/path" }, { env = "NAME" } or { credential = "NAME" }'
            )
        ],
    ),
    (
        "secret nowhere",
        ENCHARGE.replace('{ env = "KEY" }', "{}"),
        [
            (
                "destinations.en.write_key: found an empty table, expected exactly one of "
                '{ file = "/path" }, { env = "NAME" } or { credential = "NAME" }'
            )
        ],
    ),
    (
        "secret under a wrong key",
        ENCHARGE.replace('{ env = "KEY" }', '{ flie = "hunter2" }'),
        ['destinations.en.write_key.flie: unknown key; did you mean "file"?'],
    ),
    (
        "credential that climbs",
        ENCHARGE.replace("env", "credential").replace("KEY", "../x"),
        ['destinations.en.write_key.credential: found "../x", expected a name such as "encharge-write-key"'],
    ),
)


@pytest.mark.parametrize(("text", "expected"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_bad_configuration_says_what_and_what_instead(examined: Examined, text: str, expected: list[str]) -> None:
    config, findings = examined(text)
    assert findings.problems == expected
    assert config is None


@pytest.mark.parametrize("text", [case[1] for case in CASES if "hunter2" in case[1]])
def test_secret_is_never_shown(examined: Examined, text: str) -> None:
    _, findings = examined(text)
    assert "hunter2" not in "".join(findings.problems + findings.notes)


def test_all_problems_are_reported_at_once(examined: Examined) -> None:
    whole = "".join(f"[{section}]\nnonsense = 1\n" for section in ("listen", "spool", "log", "drain"))
    _, findings = examined(TELEMETRYDECK + 'nonsense = 1\ntimeout = "x"\nurl = "x y"\n' + whole)
    assert [problem.partition(":")[0] for problem in findings.problems] == [
        "listen.nonsense",
        "spool.nonsense",
        "log.nonsense",
        "drain.nonsense",
        "destinations.td.nonsense",
        "destinations.td.url",
        "destinations.td.timeout",
    ]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"[listen]\nhttp = [\n", r"line \d+, column \d+: .+|end of the file: .+"),
        (b"[listen]\nhttp 3\n", r"line 2, column 6: expected '=' after a key in a key/value pair"),
        (b"[listen]\n\na = '\xff'\n", r"line 3: not UTF-8 \(byte 0xff\)"),
        (b"a = " + b"9" * 5000, r"Exceeds the limit .*"),
        (b"a = " + b"[" * 5000, r"nested too deeply"),
    ],
)
def test_syntax_error_names_line_and_column(tmp_path: Path, content: bytes, expected: str) -> None:
    file = tmp_path / "broken.toml"
    file.write_bytes(content)
    with pytest.raises(ConfigurationError) as caught:
        load(file, environ={})
    assert len(caught.value.problems) == 1
    assert re.fullmatch(re.escape(f"{file}: ") + f"({expected})", caught.value.problems[0])


def test_byte_order_mark_is_passed_over(tmp_path: Path) -> None:
    file = tmp_path / "bom.toml"
    file.write_bytes(b"\xef\xbb\xbf" + TELEMETRYDECK.encode())
    config, _ = load(file, environ={"HOME": str(tmp_path)})
    assert [destination.name for destination in config.destinations] == ["td"]


def test_named_file_that_is_missing_is_a_problem_and_no_other_is_tried(tmp_path: Path) -> None:
    other = tmp_path / "other.toml"
    other.write_text(TELEMETRYDECK)
    for path, environ in ((tmp_path / "no.toml", {}), (None, {"FORWARDER_CONFIG": str(tmp_path / "no.toml")})):
        _, findings = examine(path, environ=environ, search=[other])
        assert findings.problems == [f"{tmp_path}/no.toml: cannot be read: No such file or directory"]


def test_files_are_searched_in_order(tmp_path: Path) -> None:
    files = [tmp_path / "one.toml", tmp_path / "two.toml"]
    for file in files:
        file.write_text(TELEMETRYDECK)
    environ = {"HOME": str(tmp_path)}
    assert load(None, environ=environ, search=files)[0].source == str(files[0])
    assert load(None, environ={**environ, "FORWARDER_CONFIG": str(files[1])}, search=files)[0].source == str(files[1])
    files[0].unlink()
    assert load(None, environ=environ, search=files)[0].source == str(files[1])


def test_without_a_destination_there_is_one_to_paste(tmp_path: Path, examined: Examined) -> None:
    _, nothing = examine(None, environ={}, search=[tmp_path / "no.toml"])
    _, empty = examined("[log]\n")
    for findings, start in (
        (nothing, "no configuration: neither --config,"),
        (empty, f"{tmp_path}/forwarder.toml: no d"),
    ):
        assert len(findings.problems) == 1
        assert findings.problems[0].startswith(start)
        pasted = findings.problems[0].partition("\n\n")[2]
        config, _ = examined(pasted)
        assert config is not None
        assert [destination.kind for destination in config.destinations] == ["telemetrydeck", "encharge"]


def test_judgement_skips_what_was_refused_already(examined: Examined) -> None:
    _, findings = examined(TELEMETRYDECK + '[listen]\nmax_body = "1XiB"\nmax_inflight = "2MiB"\n')
    assert [problem.partition(":")[0] for problem in findings.problems] == ["listen.max_body"]


def test_sizes_that_exceed_the_total_are_a_note(examined: Examined) -> None:
    config, findings = examined(TELEMETRYDECK + 'max_size = "3GiB"\n')
    assert config is not None
    assert findings.notes == [
        (
            "spool.max_total: the destinations' max_size add up to 3GiB, more than 2GiB: "
            "at that the largest queue gives way"
        )
    ]


def test_flush_of_a_vendor_without_batches_is_a_note(examined: Examined) -> None:
    config, findings = examined(ENCHARGE + 'flush = { interval = "1s" }\n', {"KEY": "k"})
    assert config is not None
    assert findings.notes == [
        "destinations.en.flush: has no effect on encharge: an event is one call that goes out at once"
    ]


def test_no_listener_at_all_is_a_note(examined: Examined) -> None:
    config, findings = examined(TELEMETRYDECK + '[listen]\nhttp = []\nudp = []\nadmin = "none"\n')
    assert config is not None
    assert config.listen.admin is None
    assert findings.notes == ["listen: no listener takes events; only what is queued already is delivered"]


def test_limits_may_meet(examined: Examined) -> None:
    config, findings = examined(
        TELEMETRYDECK + 'retry = { initial = "5m" }\nmax_size = "1MiB"\n[listen]\nmax_body = "1MiB"\n'
        'max_inflight = "1MiB"\n[spool]\nsegment_size = "1MiB"\nmax_total = "1MiB"\n'
    )
    assert (config is not None, findings.problems, findings.notes) == (True, [], [])
