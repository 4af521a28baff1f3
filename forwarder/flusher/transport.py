"""What the client needs of a transport: one POST on the wire, one reply or the reason why there is none.

Two exist: `direct` (own connections, the fast path) and `proxied` (aiohttp, for what goes through a proxy). Neither
decides anything: both return the same values, and tests/flusher/test_client.py holds both to one contract.
"""

from collections.abc import Mapping
from typing import Protocol

import msgspec

from forwarder import __version__
from forwarder.core.lane.outcome import Unreachable

ANSWER_BYTES = 2048
"""What is kept of an answer's body; the rest is not read, however long it is."""
BODY_PATIENCE_S = 5.0
"""The status decides; a body that trickles is not waited for."""
KEEP_ALIVE_S = 4.0
"""Below the 5 s after which common servers close idle connections: a request written into one that is just being closed
would be ambiguous."""
CONNECT_S = 10.0
CONNECT_SHARE = 0.9
"""Below the whole time-out, so that it is known which one passed: one while connecting is not ambiguous."""
BESIDE = 3
"""Connections beside `concurrency`: for one suspect, its last try, and one probe of a parked batch key."""
RESOLVED_S = 30.0
"""A name is resolved again after so long."""
LARGE_BODY = 1024 * 1024
"""A larger body is written in parts, with pauses for the loop."""
HEADERS: Mapping[str, str] = {"User-Agent": f"forwarder/{__version__}", "Accept": "*/*", "Accept-Encoding": "identity"}
"""Sent with every request."""


class Reply(msgspec.Struct, frozen=True, gc=False):
    """What came back, as far as anybody asks: the headers are as sent."""

    status: int
    body_start: str = ""
    retry_after: str | None = None
    date: str | None = None
    location: str | None = None


Exchange = Reply | Unreachable

NOT_SENT = Unreachable("reset", detail="the connection was closed before the request was sent")
"""Kept connections go stale; nothing has reached the vendor, so the request is made again at once, on another one."""
NO_ANSWER = Unreachable("timeout", ambiguous=True, detail="no answer in time")
NO_CONNECTION = Unreachable("timeout", detail="no connection in time")
NOT_HTTP = Unreachable("reset", ambiguous=True, detail="the answer is not HTTP")
NOT_A_URL = Unreachable("connect", detail="not a usable URL")


class Transport(Protocol):
    """Connections with one set of settings; the client makes new ones when these change or age."""

    async def exchange(self, url: str, headers: Mapping[str, str], body: bytes) -> Exchange:
        """Make one request; never raises for anything that a network or a vendor can do."""

    async def close(self) -> None:
        """Close all connections, those in use too."""


def connect_s(timeout_s: float) -> float:
    """Return how long connecting may take within a whole time-out, TLS handshake included."""
    return min(CONNECT_S, timeout_s * CONNECT_SHARE)
