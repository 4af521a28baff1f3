"""The stand-in for both vendors, ready for tests: in the test's own event loop, or on a thread of its own.

async def test_…(standin: Receiver) -> None:        # from tests.support.standin import standin
    standin.faults = Faults(status=503)

with StandinThread(key="k") as standin:             # for synchronous tests
    standin.order(Faults(hang="after-body"))
"""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from types import TracebackType
from typing import Any, Self, TypeVar

import pytest

from forwarder.receiver import Faults, Journal, Received, Receiver, Seen, Vendor

T = TypeVar("T")
WRITE_KEY = "stand-in-write-key"


def strict(**options: Any) -> Receiver:
    """Return a stand-in that demands WRITE_KEY and `receivedAt`, and keeps request bodies in memory."""
    defaults = {"key": WRITE_KEY, "require_received_at": True, "journal": Journal(keep_bodies=True)}
    return Receiver(**{**defaults, **options})


@pytest.fixture
async def standin() -> AsyncIterator[Receiver]:
    """Yield a strict stand-in."""
    async with strict() as receiver:
        yield receiver


class StandinThread:
    """A Receiver on a thread and loop of its own; every method may be called from any thread."""

    def __init__(self, **options: Any) -> None:
        self._options = options
        self._ready = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ended: asyncio.Event | None = None
        self._receiver: Receiver | None = None
        self._thread = threading.Thread(target=lambda: asyncio.run(self._main()), name="stand-in", daemon=True)
        self.url = ""

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(10), "the stand-in did not start"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._loop is not None
        assert self._ended is not None
        self._loop.call_soon_threadsafe(self._ended.set)
        self._thread.join(10)
        assert not self._thread.is_alive(), "the stand-in did not end"

    def order(self, *orders: Faults) -> None:
        """Replace the faults; none given: all is well."""
        self._call(lambda receiver: receiver.order(orders))

    def events(self, vendor: Vendor | None = None) -> list[Received]:
        """Return what arrived, oldest first."""
        return self._call(lambda receiver: receiver.events(vendor))

    def requests(self, vendor: Vendor | None = None) -> list[Seen]:
        """Return the requests, oldest first."""
        return self._call(lambda receiver: receiver.requests(vendor))

    def wait_for(self, condition: Callable[[Receiver], bool], timeout_s: float = 10.0) -> None:
        """Return once `condition` holds; raises TimeoutError."""
        assert self._receiver is not None
        assert self._loop is not None
        waiting = self._receiver.wait_for(condition, timeout_s=timeout_s)
        asyncio.run_coroutine_threadsafe(waiting, self._loop).result(timeout_s + 5)

    def _call(self, action: Callable[[Receiver], T]) -> T:
        receiver, loop = self._receiver, self._loop
        assert receiver is not None
        assert loop is not None

        async def act() -> T:
            return action(receiver)

        return asyncio.run_coroutine_threadsafe(act(), loop).result(10)

    async def _main(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._ended = asyncio.Event()
        async with Receiver(**self._options) as receiver:
            self._receiver = receiver
            self.url = receiver.url
            self._ready.set()
            await self._ended.wait()
