"""What was received: the last events and requests in memory, and all of them in files when asked for.

A line of the store is `{"at":…,"vendor":…,"path":…,"event":…}` with the event's bytes as they were sent. Only an event
that holds a line break between its tokens cannot stand on one line as it is: its breaks become spaces there, and a
further key `raw` holds its exact text. `read_store` gives back the exact bytes in either case.
"""

import contextlib
import os
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from forwarder.receiver.routes import Vendor

KEEP_BYTES = 256 * 1024**2


class Received(msgspec.Struct, frozen=True, gc=False):
    """One event that was taken. `at` is in seconds since the epoch; `request` numbers requests from 1."""

    at: float
    vendor: str
    path: str
    event: bytes
    request: int = 0


class Seen(msgspec.Struct, kw_only=True, gc=False):
    """One request to a vendor path, with what became of it. Nothing in it holds a write key."""

    number: int
    at: float
    method: str
    path: str
    vendor: Vendor | None = None
    status: int = 0
    """0: the connection was cut before an answer."""
    events: int = 0
    """Events taken; 0 when the request was refused."""
    size: int = 0
    """Bytes of the body."""
    unstamped: int = 0
    types: dict[str, int] = {}
    fault: str = ""
    """The order that brought the outcome about."""
    error: str = ""
    headers: dict[str, str] = {}
    body: bytes | None = None
    """Only when bodies are kept in memory."""


class Journal:
    """Owner of what was received. At a limit the oldest in memory goes; files are never cut."""

    def __init__(
        self,
        *,
        keep_events: int = 100_000,
        keep_requests: int = 10_000,
        keep_bytes: int = KEEP_BYTES,
        keep_bodies: bool = False,
        store: Path | None = None,
        bodies: Path | None = None,
    ) -> None:
        self._keep_events = keep_events
        self._keep_bytes = keep_bytes
        self._keep_bodies = keep_bodies
        self._store_path = store
        self._bodies_path = bodies
        self._bodies_before = 0
        self._store: int | None = None
        self._store_size = 0
        self._events: deque[Received] = deque()
        self._bytes = 0
        self._requests: deque[Seen] = deque(maxlen=keep_requests)
        self._with_body: deque[Seen] = deque()
        self._body_bytes = 0
        self.totals: Counter[str] = Counter()

    def open(self) -> None:
        """Open the files that were asked for; they are private, since events hold personal data."""
        if self._bodies_path is not None:
            self._bodies_path.mkdir(mode=0o700, parents=True, exist_ok=True)
            earlier = (int(file.stem) for file in self._bodies_path.glob("*.body") if file.stem.isdigit())
            self._bodies_before = max(earlier, default=0)
        if self._store_path is not None:
            self._store = os.open(self._store_path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            self._store_size = os.fstat(self._store).st_size

    def close(self) -> None:
        """Close the files."""
        if self._store is not None:
            os.close(self._store)
            self._store = None

    def keep_body(self, seen: Seen, body: bytes) -> None:
        """Keep the raw body of a request where that was asked for; raises OSError."""
        if self._keep_bodies:
            seen.body = body
            self._with_body.append(seen)
            self._body_bytes += len(body)
            while self._body_bytes > self._keep_bytes:
                oldest = self._with_body.popleft()
                self._body_bytes -= oldest.size
                oldest.body = None
        if self._bodies_path is not None:
            (self._bodies_path / f"{self._bodies_before + seen.number:08d}.body").write_bytes(body)

    def add(self, seen: Seen, vendor: Vendor, events: Sequence[bytes]) -> None:
        """Take the events of one request; in the store (if there is one) when this returns. Raises OSError."""
        rows = [Received(seen.at, vendor, seen.path, event, seen.number) for event in events]
        if self._store is not None:
            self._append(self._store, b"".join(map(line, rows)))
        self._events.extend(rows)
        self._bytes += sum(map(len, events))
        while len(self._events) > self._keep_events or self._bytes > self._keep_bytes:
            self._bytes -= len(self._events.popleft().event)

    def _append(self, store: int, text: bytes) -> None:
        """Write all of `text` or, when the disk does not take it, nothing."""
        rest = memoryview(text)
        try:
            while rest:
                rest = rest[os.write(store, rest) :]
        except OSError:
            with contextlib.suppress(OSError):  # not a regular file: then there is nothing to take back
                os.ftruncate(store, self._store_size)
            raise
        self._store_size += len(text)

    def tally(self, seen: Seen) -> None:
        """Count a finished request and remember it."""
        self._requests.append(seen)
        totals = self.totals
        totals["requests"] += 1
        totals[f"status {seen.status}"] += 1
        totals["events"] += seen.events
        totals["unstamped"] += seen.unstamped
        totals["faults"] += bool(seen.fault)
        if seen.vendor is not None:
            totals[seen.vendor] += seen.events

    def counts(self) -> dict[str, Any]:
        """Return the totals since the start or the last `clear`."""
        totals = self.totals
        return {
            "requests": totals["requests"],
            "events": totals["events"],
            "telemetrydeck": totals["telemetrydeck"],
            "encharge": totals["encharge"],
            "unstamped": totals["unstamped"],
            "faults": totals["faults"],
            "statuses": {name[7:]: n for name, n in sorted(totals.items()) if name.startswith("status ")},
            "kept_events": len(self._events),
        }

    def events(self, vendor: Vendor | None = None) -> list[Received]:
        """Return the events in memory, oldest first."""
        return [row for row in self._events if vendor in (None, row.vendor)]

    def requests(self, vendor: Vendor | None = None) -> list[Seen]:
        """Return the requests in memory, oldest first."""
        return [seen for seen in self._requests if vendor in (None, seen.vendor)]

    def clear(self) -> None:
        """Forget what is in memory and start counting anew; files stay."""
        self._events.clear()
        self._requests.clear()
        self._with_body.clear()
        self._bytes = self._body_bytes = 0
        self.totals.clear()


def line(row: Received) -> bytes:
    """Return the store's line for one event."""
    head = msgspec.json.encode({"at": round(row.at, 6), "vendor": row.vendor, "path": row.path})[:-1]
    event = row.event
    if b"\n" not in event and b"\r" not in event:
        return head + b',"event":' + event + b"}\n"
    flat = event.replace(b"\n", b" ").replace(b"\r", b" ")
    return head + b',"event":' + flat + b',"raw":' + msgspec.json.encode(event.decode()) + b"}\n"


class _Line(msgspec.Struct):
    at: float
    vendor: str
    path: str
    event: msgspec.Raw
    raw: str | None = None


def read_store(path: Path) -> Iterator[Received]:
    """Yield what a store holds, the events byte for byte; a last line that was never finished is left out."""
    decoder = msgspec.json.Decoder(_Line)
    with path.open("rb") as file:
        for text in file:
            if text.endswith(b"\n"):
                row = decoder.decode(text)
                event = bytes(row.event) if row.raw is None else row.raw.encode()
                yield Received(row.at, row.vendor, row.path, event)
