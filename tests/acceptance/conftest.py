"""A real daemon and a real stand-in, as processes on loopback."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from tests.support.clients import Poster
from tests.support.configs import BOTH
from tests.support.processes import Daemon, ReceiverProcess

KEY = "acceptance-write-key-7d1f"
"""Looked for in everything the daemon writes."""


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    path = tmp_path / "write-key"
    path.write_text(KEY + "\n")
    path.chmod(0o600)
    return path


@pytest.fixture
def receiver(tmp_path: Path) -> Iterator[ReceiverProcess]:
    with ReceiverProcess(tmp_path, "--key", KEY) as process:
        yield process


@pytest.fixture
def daemon(tmp_path: Path, key_file: Path, receiver: ReceiverProcess) -> Iterator[Daemon]:
    """A daemon with both destinations, delivering to `receiver`."""
    with Daemon(tmp_path, BOTH, UPSTREAM=receiver.url, KEYFILE=key_file) as process:
        yield process


Client = Callable[[str], Poster]


@pytest.fixture
def client() -> Iterator[Client]:
    """Make posters whose connections are closed at the end."""
    with ExitStack() as stack:
        yield lambda address: stack.enter_context(closing(Poster(address)))
