"""Clients that remember what was acknowledged, and events that can be found again."""

import http.client
import json
import re
import socket
import threading
from collections.abc import Callable, Iterable, Sequence
from types import TracebackType
from typing import ClassVar, Self
from urllib.parse import urlsplit

PATIENCE_S = 60.0


class Numbered:
    """Events that carry a unique number, so that each can be found again."""

    _NUMBER: ClassVar[re.Pattern[bytes]] = re.compile(rb'"number":\s*"?(\d+)')

    @staticmethod
    def telemetrydeck(number: int, *, app: str = "acceptance", padding: int = 0) -> bytes:
        """Return a TelemetryDeck signal with `receivedAt`, so that it must arrive byte for byte."""
        payload = {"number": str(number), "padding": "x" * padding}
        signal_ = {"receivedAt": "2026-06-05T10:11:12.123Z", "appID": app, "clientUser": "c", "type": "numbered"}
        return json.dumps({**signal_, "payload": payload}, separators=(",", ":")).encode()

    @staticmethod
    def encharge(number: int, *, person: str = "someone@example.com", padding: int = 0) -> bytes:
        """Return an Encharge event of one person."""
        properties = {"number": number, "padding": "x" * padding}
        event = {"name": "numbered", "user": {"email": person}, "properties": properties}
        return json.dumps(event, separators=(",", ":")).encode()

    @staticmethod
    def of(event: bytes) -> int:
        """Return the number of an event."""
        match = Numbered._NUMBER.search(event)
        assert match is not None, f"not a numbered event: {event[:200]!r}"
        return int(match[1])


class Poster:
    """`with Poster(address) as poster`: one kept connection, and a memory of what was acknowledged.

    `address` is host:port, a base URL or the path of a unix socket.
    """

    def __init__(self, address: str, *, timeout_s: float = PATIENCE_S) -> None:
        self._address = urlsplit(address).netloc or address
        self._timeout_s = timeout_s
        self._connection: http.client.HTTPConnection | None = None
        self.acknowledged: set[int] = set()
        """Numbers of the events that got a 2xx."""
        self.refused: set[int] = set()
        """Numbers of the events that got another answer."""
        self.unanswered: set[int] = set()
        """Numbers of the events whose request got no answer: they may or may not have been accepted."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def post(self, path: str, numbers: Sequence[int], build: Callable[[int], bytes] = Numbered.telemetrydeck) -> int:
        """Post these numbered events in one request (an array; one event alone as it is built on Encharge's paths).

        Return the status, or 0 when there was no answer.
        """
        events = [build(number) for number in numbers]
        single = len(events) == 1 and build is not Numbered.telemetrydeck
        return self.post_body(path, events[0] if single else b"[" + b",".join(events) + b"]", numbers)

    def post_body(self, path: str, body: bytes, numbers: Iterable[int]) -> int:
        """Post a ready body that holds these numbers; return the status, or 0 when there was no answer."""
        try:
            status = self._ask(path, body)
        except (OSError, http.client.HTTPException):
            self.close()
            self.unanswered.update(numbers)
            return 0
        (self.acknowledged if http.client.OK <= status < http.client.MULTIPLE_CHOICES else self.refused).update(numbers)
        return status

    def close(self) -> None:
        """Close the connection; the next post opens a new one."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _ask(self, path: str, body: bytes) -> int:
        if self._connection is None:
            self._connection = self._connect()
        self._connection.request("POST", path, body, {"Content-Type": "application/json"})
        answer = self._connection.getresponse()
        answer.read()
        return answer.status

    def _connect(self) -> http.client.HTTPConnection:
        if not self._address.startswith("/"):
            host, _, port = self._address.rpartition(":")
            return http.client.HTTPConnection(host, int(port), timeout=self._timeout_s)
        connection = http.client.HTTPConnection("localhost", timeout=self._timeout_s)
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.settimeout(self._timeout_s)
        connection.sock.connect(self._address)
        return connection


class Pounder(threading.Thread):
    """Posts numbered batches without a pause until it is stopped; start several with `first` far apart."""

    def __init__(
        self,
        address: str,
        *,
        path: str = "/v2/",
        build: Callable[[int], bytes] = Numbered.telemetrydeck,
        first: int = 0,
        batch: int = 5,
    ) -> None:
        super().__init__(daemon=True)
        self.poster = Poster(address)
        self._path = path
        self._build = build
        self._next = first
        self._batch = batch
        self._stopped = threading.Event()
        self._progress = threading.Condition()

    def run(self) -> None:
        """Post until stopped; while nobody answers, try again after a moment."""
        while not self._stopped.is_set():
            numbers = range(self._next, self._next + self._batch)
            self._next += self._batch
            answered = self.poster.post(self._path, numbers, self._build)
            with self._progress:
                self._progress.notify_all()
            if not answered:
                self._stopped.wait(0.02)
        self.poster.close()

    def wait_for_acknowledged(self, count: int, timeout_s: float = PATIENCE_S) -> None:
        """Return once at least `count` events in all were acknowledged."""
        with self._progress:
            enough = self._progress.wait_for(lambda: len(self.poster.acknowledged) >= count, timeout_s)
        assert enough, f"only {len(self.poster.acknowledged)} of {count} were acknowledged in {timeout_s} s"

    def stop(self) -> set[int]:
        """Stop; return the numbers that were acknowledged."""
        self._stopped.set()
        self.join(PATIENCE_S)
        return self.poster.acknowledged


def send_datagrams(address: str, payloads: Iterable[bytes]) -> None:
    """Send UDP datagrams to host:port, or unix datagrams to a path."""
    family = socket.AF_UNIX if address.startswith("/") else socket.AF_INET
    host, _, port = address.rpartition(":")
    with socket.socket(family, socket.SOCK_DGRAM) as sender:
        sender.connect(address if family == socket.AF_UNIX else (host, int(port)))
        for payload in payloads:
            sender.send(payload)
