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


def guarded(loop: asyncio.AbstractEventLoop) -> Target:
    """Return the target that has rules.

    No exception, no 5xx (but 505), no memory kept. Without the token in the bytes nothing is stored, without the
    origin no answer allows one.
    """
    # not before: imports are instrumented while this is called
    from forwarder.config.model import Secret
    from tests.sources.memory_door import hear_out, memory_door
    from tests.support.fuzz_targets import ROUTER

    bound = socket.create_server(("127.0.0.1", 0))

    async def converse(data: bytes) -> tuple[bytes, int]:
        _, listener, intake = memory_door(
            router=ROUTER,
            token=TOKEN,
            bound=bound,
            max_body=64 * 1024,
            auth_token=Secret(file="token"),
            allowed_hosts=(HOST.decode(),),
            allowed_origins=(ORIGIN.decode(),),
        )
        return await hear_out(listener, [data]), len(intake.events)

    def target(data: bytes) -> None:
        answers, stored = loop.run_until_complete(converse(data))
        statuses = re.findall(rb"HTTP/1\.1 (\d{3}) ", answers)
        assert not [status for status in statuses if status[:1] == b"5" and status != b"505"], statuses
        assert not stored or TOKEN.encode() in data
        assert b"Access-Control-Allow-Origin" not in answers or ORIGIN in data.lower()

    return target


if __name__ == "__main__":
    main()
