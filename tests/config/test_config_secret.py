"""Secrets: the three places, rotation, and nothing shown."""

import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from forwarder.config import AUTH_TOKEN, Secrets
from forwarder.config.model import Config, Destination, Listen, Secret


def _config(secret: Secret | None, *, token: Secret | None = None, url: str = "https://e.example/v1") -> Config:
    destination = Destination(name="en", kind="encharge", url=url, write_key=secret)
    return Config(listen=Listen(auth_token=token), destinations=(destination,))


def _secrets(secret: Secret, environ: Mapping[str, str] | None = None) -> Secrets:
    return Secrets(_config(secret), environ or {})


def _write(file: Path, text: str, mode: int = 0o600) -> Path:
    file.write_text(text)
    file.chmod(mode)
    return file


def test_secret_comes_from_each_place_without_its_newline(tmp_path: Path) -> None:
    file = _write(tmp_path / "key", "hunter2\r\n")
    assert _secrets(Secret(file=str(file))).get("en") == "hunter2"
    assert _secrets(Secret(env="KEY"), {"KEY": "hunter2\n"}).get("en") == "hunter2"
    assert _secrets(Secret(credential="key"), {"CREDENTIALS_DIRECTORY": str(tmp_path)}).get("en") == "hunter2"


def test_token_and_keys_are_told_apart(tmp_path: Path) -> None:
    token = _write(tmp_path / "token", "t0ken")
    secrets = Secrets(_config(Secret(env="K"), token=Secret(file=str(token))), {"K": "k"})
    assert (secrets.get("en"), secrets.auth_token(), secrets.get("nobody")) == ("k", "t0ken", None)
    assert Secrets(_config(None), {}).auth_token() is None


def test_rewritten_file_is_read_again_and_reported_once(tmp_path: Path) -> None:
    file = _write(tmp_path / "key", "old")
    secrets = _secrets(Secret(file=str(file)))
    assert (secrets.get("en"), secrets.changed()) == ("old", [])
    _write(file, "newer")
    assert secrets.get("en") == "newer"
    assert (secrets.changed(), secrets.changed()) == (["en"], [])


def test_rewrite_that_leaves_inode_size_and_time_alone_is_still_noticed(tmp_path: Path) -> None:
    file = _write(tmp_path / "key", "old")
    secrets = _secrets(Secret(file=str(file)))
    before = file.stat()
    _write(file, "new")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert secrets.changed() == ["en"]
    assert secrets.get("en") == "new"


def test_symlink_swap_as_kubernetes_does_it(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        _write(tmp_path / name / "key", name)
    (tmp_path / "..data").symlink_to("one")
    (tmp_path / "key").symlink_to("..data/key")
    secrets = _secrets(Secret(file=str(tmp_path / "key")))
    assert secrets.get("en") == "one"
    (tmp_path / "..new").symlink_to("two")
    (tmp_path / "..new").rename(tmp_path / "..data")
    assert secrets.get("en") == "two"
    assert secrets.changed() == ["en"]


def test_file_that_comes_later_is_a_change_and_one_that_goes_is_one_too(tmp_path: Path) -> None:
    file = tmp_path / "key"
    token = Secret(file=str(tmp_path / "token"))
    secrets = Secrets(_config(Secret(file=str(file)), token=token), {})
    assert (secrets.get("en"), secrets.changed()) == (None, [])
    _write(file, "k")
    _write(tmp_path / "token", "t")
    assert secrets.changed() == ["en", AUTH_TOKEN]
    assert (secrets.get("en"), secrets.auth_token()) == ("k", "t")
    file.unlink()
    assert secrets.get("en") is None
    assert secrets.changed() == ["en"]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is empty"),
        (b" \n", "is empty"),
        (b"one\ntwo\n", "does not hold one line of printable ASCII"),
        (b"k\xc3\xa9y", "does not hold one line of printable ASCII"),
        (b"key\x00", "does not hold one line of printable ASCII"),
    ],
)
def test_what_no_header_could_carry_is_no_secret(tmp_path: Path, content: bytes, reason: str) -> None:
    file = tmp_path / "key"
    file.write_bytes(content)
    secrets = _secrets(Secret(file=str(file)))
    assert secrets.get("en") is None
    assert secrets.notes() == [
        (
            f"destinations.en.write_key: {file} {reason}; "
            "until that is mended the destination is parked and events are kept"
        )
    ]


@pytest.mark.parametrize(
    ("secret", "reason"),
    [
        (Secret(file="/nonexistent/key"), "/nonexistent/key does not exist"),
        (Secret(env="NO"), "environment variable NO is not set"),
        (Secret(env="BAD"), "environment variable BAD does not hold one line of printable ASCII"),
        (Secret(credential="key"), "credential key cannot be read, CREDENTIALS_DIRECTORY is not set"),
    ],
)
def test_missing_secret_is_a_note_that_says_where_it_was_looked_for(secret: Secret, reason: str) -> None:
    notes = Secrets(_config(None, token=secret), {"BAD": "two\nlines"}).notes()
    assert notes == [f"listen.auth_token: {reason}; until that is mended requests are refused"]


def test_pipe_in_place_of_a_file_does_not_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "key")
    assert _secrets(Secret(file=str(tmp_path / "key"))).get("en") is None


def test_file_that_everybody_can_read_is_a_note_unless_it_opens_nothing(tmp_path: Path) -> None:
    file = _write(tmp_path / "key", "hunter2", 0o644)
    expected = f"destinations.en.write_key: {file} can be read by every user of this machine; chmod o-r it"
    assert _secrets(Secret(file=str(file))).notes() == [expected]
    local = _config(Secret(file=str(file)), url="http://127.0.0.1:8770/v1")
    assert Secrets(local, {}).notes() == []
    file.chmod(0o640)
    assert _secrets(Secret(file=str(file))).notes() == []


def test_secret_is_in_no_representation(tmp_path: Path) -> None:
    file = _write(tmp_path / "key", "hunter2")
    config = _config(Secret(file=str(file)))
    secrets = Secrets(config, {})
    assert secrets.get("en") == "hunter2"
    assert "hunter2" not in f"{secrets!r}{secrets}{config!r}{secrets.notes()}"
