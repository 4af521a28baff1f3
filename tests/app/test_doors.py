"""The listeners over a reload: all that is new is bound before anything old is closed, or nothing has happened."""

import socket
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from forwarder.app.clock import SystemClock
from forwarder.app.descriptors import Share
from forwarder.app.doors import Doors
from forwarder.config import load
from forwarder.config.model import Address, Config, Listen
from forwarder.errors import ConfigurationError
from forwarder.metrics import Metrics
from forwarder.vendors.router import DestinationRouter
from tests.support.fake_intake import FakeIntake
from tests.support.processes import free_port


@pytest.fixture
def config(tmp_path: Path) -> Config:
    file = tmp_path / "forwarder.toml"
    file.write_text('[listen]\nhttp = ["127.0.0.1:0"]\nudp = []\n[destinations.td]\nkind = "telemetrydeck"\n')
    return load(file, environ={"HOME": str(tmp_path)})[0]


@pytest.fixture
async def doors(config: Config) -> AsyncIterator[Doors]:
    doors = Doors(
        config,
        router=DestinationRouter(config.destinations, secret=lambda _: None, max_event=config.listen.max_event),
        intake=FakeIntake(),
        token=lambda: None,
        metrics=Metrics(),
        clock=SystemClock(),
        samples=lambda *_: None,
        inherited={},
        share=Share(max_connections=4096),
    )
    await doors.open(config.listen)
    yield doors
    await doors.drain(0.0)


def more(settings: Listen, *addresses: Address) -> Listen:
    return msgspec.structs.replace(settings, http=(*settings.http, *addresses))


async def test_a_listener_that_cannot_be_bound_leaves_all_others_as_they_were(
    doors: Doors, config: Config, tmp_path: Path
) -> None:
    before = [listener.label for listener in doors.status()]
    path = tmp_path / "http.sock"
    free = Address(host="127.0.0.1", port=free_port())
    with socket.create_server(("127.0.0.1", 0)) as taken:
        wanted = more(
            config.listen, Address(unix=str(path)), free, Address(host="127.0.0.1", port=taken.getsockname()[1])
        )
        with pytest.raises(ConfigurationError, match=r"listen\.http: cannot listen on 127\.0\.0\.1:"):
            await doors.open(wanted)
    assert [listener.label for listener in doors.status()] == before
    assert all(listener.accepting for listener in doors.status())
    assert not path.exists(), "what was bound on the way is taken back"
    socket.create_server(("127.0.0.1", free.port)).close()


async def test_what_could_not_be_bound_is_bound_by_the_next_reload(
    doors: Doors, config: Config, tmp_path: Path
) -> None:
    path = Address(unix=str(tmp_path / "http.sock"))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        wanted = more(config.listen, path, Address(host="127.0.0.1", port=taken.getsockname()[1]))
        with pytest.raises(ConfigurationError):
            await doors.open(wanted)
    await doors.open(wanted)
    assert len(doors.status()) == 3
    await doors.open(more(config.listen, path))
    assert len(doors.status()) == 2


async def test_every_listener_that_cannot_be_bound_is_named(doors: Doors, config: Config) -> None:
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as two:
        ports = [taken.getsockname()[1] for taken in (one, two)]
        with pytest.raises(ConfigurationError) as refused:
            await doors.open(more(config.listen, *(Address(host="127.0.0.1", port=port) for port in ports)))
    assert all(f"127.0.0.1:{port}" in problem for port, problem in zip(ports, refused.value.problems, strict=True))
