"""How single values are read, and written back."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forwarder.config import address, directory, quantity, upstream
from forwarder.config.model import Address
from forwarder.config.unfit import Unfit
from tests.config.conftest import TELEMETRYDECK, Loaded

EVERYWHERE = "0.0.0.0"  # noqa: S104 - judged here, never bound


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("250ms", 0.25),
        ("1ms", 0.001),
        ("0s", 0.0),
        ("10s", 10.0),
        ("1.5s", 1.5),
        ("5m", 300.0),
        ("12h", 43200.0),
        ("7d", 604800.0),
        ("2w", 1209600.0),
    ],
)
def test_duration_is_read_in_seconds(text: str, seconds: float) -> None:
    assert quantity.seconds(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "10", "s", "-1s", "1 s", "1S", "1h30m", "１s", "1e3s", ".5s", "5.s", "10s\n", "infs"]
)
def test_what_is_no_duration_is_refused(text: str) -> None:
    assert quantity.seconds(text) is None


@pytest.mark.parametrize(
    ("text", "size"),
    [("0B", 0), ("512KiB", 512 << 10), ("64MiB", 64 << 20), ("1GiB", 1 << 30), ("1.5KiB", 1536), ("2TiB", 2 << 40)],
)
def test_size_is_read_in_bytes(text: str, size: int) -> None:
    assert quantity.size(text) == size


@pytest.mark.parametrize("text", ["", "1", "1kB", "1MB", "1mib", "1 MiB", "-1B", "0.3B", "999999999999999TiB"])
def test_what_is_no_size_is_refused(text: str) -> None:
    assert quantity.size(text) is None


@given(st.integers(0, 10**12).map(lambda milliseconds: milliseconds / 1000))
def test_duration_written_is_the_duration_read(value: float) -> None:
    assert quantity.seconds(quantity.duration_text(value)) == pytest.approx(value, abs=1e-9)


@given(st.integers(0, 2**52))
def test_size_written_is_the_size_read(value: int) -> None:
    assert quantity.size(quantity.size_text(value)) == value


@pytest.mark.parametrize(
    ("raw", "label"),
    [
        ("127.0.0.1:8765", "127.0.0.1:8765"),
        ("[::1]:0", "[::1]:0"),
        ("localhost:80", "localhost:80"),
        ("unix:/run/f.sock", "unix:/run/f.sock"),
        ("systemd:forwarder-http", "systemd:forwarder-http"),
        ({"unix": "/run/f.sock", "mode": "0600", "group": "www-data"}, "unix:/run/f.sock"),
    ],
)
def test_address_has_the_label_it_was_written_with(raw: object, label: str) -> None:
    assert address.parse(raw, "an address").label == label


def test_unix_address_keeps_mode_and_group() -> None:
    parsed = address.parse({"unix": "/run/f.sock", "mode": "0600", "group": "www-data"}, "an address")
    assert (parsed.mode, parsed.group) == (0o600, "www-data")
    assert address.parse("unix:/run/f.sock", "an address").mode == 0o660


@pytest.mark.parametrize(
    ("raw", "meant"),
    [
        ("8765", '"127.0.0.1:8765"'),
        (8765, '"127.0.0.1:8765"'),
        (":8765", '"127.0.0.1:8765"'),
        ("*:8765", '"127.0.0.1:8765"'),
        ("::1:8765", '"[::1]:8765"'),
        ("/run/x", '"unix:/run/x"'),
        ("127.0.0.1:99999", None),
        ("127.0.0.1:-1", None),
        ("127.0.0.1:٣", None),
        ("256.0.0.1:1", None),
        ("[zz]:1", None),
        ("exa mple:1", None),
        ("unix:relative", None),
        ("unix:/" + "x" * 107, None),
        ("systemd:", None),
        ({"unix": "/x", "mod": "0600"}, "mode"),
        ({"unix": "/x", "mode": "rw"}, None),
        ({"unix": "/x", "group": 3}, None),
        ({"mode": "0600"}, None),
        (True, None),
        (None, None),
    ],
)
def test_what_is_no_address_is_refused_with_what_was_meant(raw: object, meant: str | None) -> None:
    with pytest.raises(Unfit) as caught:
        address.parse(raw, "an address")
    assert caught.value.meant == meant


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("localhost", True),
        ("App.LOCALHOST.", True),
        (EVERYWHERE, False),
        ("::", False),
        ("10.0.0.1", False),
        ("localhost.example.com", False),
        ("notlocalhost", False),
    ],
)
def test_loopback_is_this_machine_only(host: str, *, expected: bool) -> None:
    assert address.is_loopback(host) is expected


@pytest.mark.parametrize(
    ("one", "two", "expected"),
    [
        (Address(host="127.0.0.1", port=1), Address(host="127.0.0.1", port=1), True),
        (Address(host="127.0.0.1", port=1), Address(host=EVERYWHERE, port=1), True),
        (Address(host="::1", port=1), Address(host="::", port=1), True),
        (Address(host="localhost", port=1), Address(host="::1", port=1), True),
        (Address(host="::1", port=1), Address(host=EVERYWHERE, port=1), False),
        (Address(host="127.0.0.1", port=1), Address(host="127.0.0.1", port=2), False),
        (Address(host="127.0.0.1", port=0), Address(host="127.0.0.1", port=0), False),
        (Address(host="a.example", port=1), Address(host="A.example", port=1), True),
        (Address(unix="/x"), Address(unix="/x"), True),
        (Address(unix="/x"), Address(host="127.0.0.1", port=1), False),
        (Address(systemd="x"), Address(systemd="x"), True),
    ],
)
def test_overlap_is_what_bind_would_refuse(one: Address, two: Address, *, expected: bool) -> None:
    assert address.overlap(one, two) is expected
    assert address.overlap(two, one) is expected


PROXIED = "https://ingest.example.com/v1"


@pytest.mark.parametrize(
    ("environ", "target", "expected"),
    [
        ({}, PROXIED, None),
        ({"HTTPS_PROXY": "http://p:1"}, PROXIED, ("HTTPS_PROXY", "http://p:1")),
        ({"HTTPS_PROXY": "http://P:1", "https_proxy": "http://p:2"}, PROXIED, ("https_proxy", "http://p:2")),
        ({"HTTPS_PROXY": "p:3128"}, PROXIED, ("HTTPS_PROXY", "http://p:3128")),
        ({"HTTP_PROXY": "http://p:1"}, PROXIED, None),
        ({"HTTP_PROXY": "http://p:1"}, "http://a.example", ("HTTP_PROXY", "http://p:1")),
        ({"HTTPS_PROXY": "http://p:1", "NO_PROXY": "*"}, PROXIED, None),
        ({"HTTPS_PROXY": "http://p:1", "NO_PROXY": "other, example.com"}, PROXIED, None),
        ({"HTTPS_PROXY": "http://p:1", "no_proxy": ".example.com"}, PROXIED, None),
        ({"HTTPS_PROXY": "http://p:1", "NO_PROXY": "ample.com"}, PROXIED, ("HTTPS_PROXY", "http://p:1")),
        ({"HTTPS_PROXY": "http://p:1", "NO_PROXY": "example.com:444"}, PROXIED, ("HTTPS_PROXY", "http://p:1")),
        ({"HTTPS_PROXY": "http://p:1", "NO_PROXY": "10.0.0.0/8"}, "https://10.1.2.3", None),
        ({"HTTPS_PROXY": "http://p:1", "NO_PROXY": "10.0.0.0/8"}, "https://11.1.2.3", ("HTTPS_PROXY", "http://p:1")),
        ({"HTTP_PROXY": "http://p:1"}, "http://localhost:1", None),
        ({"HTTP_PROXY": "http://p:1"}, "http://[::1]:1", None),
    ],
)
def test_proxy_is_the_one_the_environment_names(
    environ: dict[str, str], target: str, expected: tuple[str, str] | None
) -> None:
    assert upstream.proxy_from(environ, target) == expected


def test_proxy_is_resolved_while_loading(loaded: Loaded) -> None:
    environ = {"HTTPS_PROXY": "http://p:1"}
    assert loaded(TELEMETRYDECK, environ).destinations[0].proxy == "http://p:1"
    assert loaded(TELEMETRYDECK + 'proxy = "none"', environ).destinations[0].proxy is None
    assert loaded(TELEMETRYDECK + 'proxy = "http://q:2"', environ).destinations[0].proxy == "http://q:2"
    local = TELEMETRYDECK + 'url = "http://127.0.0.1:1"\nproxy = "http://q:2"'
    assert loaded(local, {"HTTP_PROXY": "http://p:1"}).destinations[0].proxy is None


def test_bad_proxy_in_the_environment_is_a_problem_without_its_password(loaded: Loaded) -> None:
    with pytest.raises(Exception, match="HTTPS_PROXY in the environment is") as caught:
        loaded(TELEMETRYDECK, {"HTTPS_PROXY": "socks5://u:hunter2@p:1"})
    assert "hunter2" not in str(caught.value)


def test_spool_directory_default_is_the_first_that_is_to_be_had(tmp_path: Path) -> None:
    system, home = tmp_path / "lib" / "forwarder", {"HOME": "/home/x"}
    absent = tmp_path / "no" / "where"
    assert directory.default({"STATE_DIRECTORY": "/a:/b", **home}, system) == Path("/a")
    assert directory.default({"XDG_STATE_HOME": "/xdg", **home}, absent) == Path("/xdg/forwarder")
    assert directory.default({"XDG_STATE_HOME": "relative", **home}, absent) == Path("/home/x/.local/state/forwarder")
    assert directory.default({}, absent) is None
    system.parent.mkdir()
    assert directory.default(home, system) == system
    system.write_text("a file in its place")
    assert directory.default(home, system) == Path("/home/x/.local/state/forwarder")


def test_relative_paths_start_at_the_file(loaded: Loaded, tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("")
    config = loaded(
        TELEMETRYDECK + 'ca_file = "ca.pem"\n[spool]\ndirectory = "../spool"\n[listen]\n'
        'auth_token = { file = "~/token" }\n',
        {"HOME": "/home/x"},
    )
    assert config.destinations[0].ca_file == str(tmp_path / "ca.pem")
    assert config.spool.directory == str(tmp_path.parent / "spool")
    assert config.listen.auth_token is not None
    assert config.listen.auth_token.file == "/home/x/token"


def test_ages_stay_within_the_spools(loaded: Loaded) -> None:
    text = '[spool]\nmax_age = "12h"\n[destinations.en]\nkind = "encharge"\nwrite_key = { env = "K" }\n'
    (destination,) = loaded(text).destinations
    assert (destination.max_age, destination.profile_max_age) == (43200, 43200)
    (destination,) = loaded(text + 'max_age = "2d"').destinations
    assert destination.max_age == 172800


def test_defaults_differ_by_kind(loaded: Loaded) -> None:
    text = (
        TELEMETRYDECK + '[destinations.en]\nkind = "encharge"\nwrite_key = { env = "K" }\n[spool]\nmax_size = "2GiB"\n'
    )
    td, en = loaded(text).destinations
    assert (td.when_full, td.concurrency, td.expired, td.max_age, td.max_size) == (
        "evict_oldest",
        4,
        "drop",
        604800,
        2 << 30,
    )
    assert (en.when_full, en.concurrency, en.expired, en.max_age, en.max_size) == (
        "refuse",
        8,
        "dead_letter",
        86400,
        2 << 30,
    )
    assert (td.url, en.url) == ("https://nom.telemetrydeck.com", "https://ingest.encharge.io/v1")
