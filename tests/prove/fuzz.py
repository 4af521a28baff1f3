"""The atheris targets: bytes at a connection of the door with the real vendor checks behind it, and at these alone.

    python -m tests.prove.fuzz door|guarded|body CORPUS… [-max_total_time=60]

What must hold is in tests/support/fuzz_targets.py; test_fuzz.py runs this. A corpus is in tests/data. `guarded` is the
door on a TCP port of loopback with a token, an allowed host and an allowed origin. For every target an exception in a
callback of the loop is a failure too: asyncio itself would only log it.
"""

import asyncio
import importlib
import re
import socket
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from forwarder.sources.connection import Connection
    from forwarder.sources.http import HttpDoor
    from tests.sources.memory_door import MemoryTransport
    from tests.support.fake_intake import FakeIntake

Target = Callable[[bytes], None]

TOKEN = "open-sesame"  # noqa: S105 - of the target alone
HOST = b"app.example"
ORIGIN = b"https://app.example"


def main() -> None:
    """Fuzz for ever, or as the arguments say."""
    import atheris  # type: ignore[import-not-found,import-untyped,unused-ignore]

    with atheris.instrument_imports(include=["forwarder"]):
        plain = importlib.import_module("tests.support.fuzz_targets")
        targets = {**plain.TARGETS, "guarded": guarded(plain.LOOP)}
    atheris.Setup([sys.argv[0], *sys.argv[2:]], watched(targets[sys.argv[1]], plain.LOOP))
    atheris.Fuzz()


def watched(target: Target, loop: asyncio.AbstractEventLoop) -> Target:
    """Return the target, which also fails when the loop was told of an exception, as by a callback."""
    told: list[dict[str, object]] = []
    loop.set_exception_handler(lambda _, context: told.append(context))

    def run(data: bytes) -> None:
        told.clear()
        target(data)
        loop.run_until_complete(asyncio.sleep(0))  # what it left behind
        if told:
            cause = told[0].get("exception")
            raise AssertionError(told[0]["message"]) from (cause if isinstance(cause, BaseException) else None)

    return run


class Conversation(NamedTuple):
    """One connection of a door of its own."""

    door: "HttpDoor"
    connection: "Connection"
    transport: "MemoryTransport"
    intake: "FakeIntake"


def guarded(loop: asyncio.AbstractEventLoop) -> Target:
    """Return the target that has rules.

    No exception, no 5xx (but 505), no memory kept. Without the token in the bytes nothing is stored, without the
    origin no answer allows one.
    """
    opened = conversations()

    async def converse(data: bytes) -> tuple[bytes, int]:
        door, connection, transport, intake = opened()
        connection.connection_made(transport)
        for at in range(0, len(data), len(door.buffer)):
            connection.data_received(data[at : at + len(door.buffer)])
            await asyncio.sleep(0)
        await asyncio.sleep(0)
        connection.connection_lost(None)
        if door._timer is not None:
            door._timer.cancel()
        assert door.inflight.held == 0, door.inflight.held
        return transport.written, len(intake.events)

    def target(data: bytes) -> None:
        answers, stored = loop.run_until_complete(converse(data))
        statuses = re.findall(rb"HTTP/1\.1 (\d{3}) ", answers)
        assert not [status for status in statuses if status[:1] == b"5" and status != b"505"], statuses
        assert not stored or TOKEN.encode() in data
        assert b"Access-Control-Allow-Origin" not in answers or ORIGIN in data.lower()

    return target


def conversations() -> Callable[[], Conversation]:
    """Return what opens a connection of a guarded door; to be called while imports are instrumented."""
    from forwarder.config.model import Listen, Secret
    from forwarder.core.seams import Durability
    from forwarder.metrics import Metrics
    from forwarder.sources.connection import Connection
    from forwarder.sources.http import HttpDoor, HttpListener
    from tests.sources.memory_door import MemoryTransport
    from tests.support.fake_intake import FakeIntake
    from tests.support.fuzz_targets import ROUTER
    from tests.support.hand_clock import HandClock

    hosts, origins = (HOST.decode(),), (ORIGIN.decode(),)
    rules = Listen(max_body=64 * 1024, auth_token=Secret(file="token"), allowed_hosts=hosts, allowed_origins=origins)
    bound = socket.create_server(("127.0.0.1", 0))

    def opened() -> Conversation:
        intake = FakeIntake()
        door = HttpDoor(
            router=ROUTER,
            intake=intake,
            settings=rules,
            durability=Durability.FSYNC,
            token=lambda: TOKEN,
            metrics=Metrics(),
            clock=HandClock(),
            samples=lambda _label, _refusals: None,
        )
        return Conversation(door, Connection(HttpListener(door, bound, label="fuzz")), MemoryTransport(), intake)

    return opened


if __name__ == "__main__":
    main()
