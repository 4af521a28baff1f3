"""What a test sent in, and what became of each event: arrived, dead with a reason, or still queued."""

import http.client
import time

from forwarder.spool import dead_letter_line
from forwarder.spool.dead_letter_match import Match
from tests.support.clients import Numbered, Poster
from tests.support.processes import Daemon, ReceiverProcess


class Account:
    """Signals and Encharge events of five persons, by number, over a daemon with both destinations."""

    def __init__(self, daemon: Daemon, receiver: ReceiverProcess, poster: Poster) -> None:
        self.daemon = daemon
        self.receiver = receiver
        self.poster = poster
        self.sent: set[int] = set()

    def send(self, first: int, *, signals: int, events: int, padding: int = 0) -> None:
        """Post so many of each, each signal with so many bytes more."""
        numbers = range(first, first + signals)
        people = range(first + signals, first + signals + events)
        if numbers:
            posted = self.poster.post("/v2/", numbers, lambda n: Numbered.telemetrydeck(n, padding=padding))
            assert posted == http.client.OK
        if people:
            lines = [Numbered.encharge(n, person=f"p{n % 5}@example.com") for n in people]
            assert self.poster.post_body("/events", b"\n".join(lines), people) == http.client.ACCEPTED
        self.sent |= {*numbers, *people}

    def dead(self) -> dict[int, str]:
        """Return the reasons by number of all dead letters."""
        root = self.daemon.spool / "dead"
        letters = [one for name in ("telemetrydeck", "encharge") for one in dead_letter_line.read(root / name, Match())]
        return {Numbered.of(one.event): one.reason for one in letters}

    def wait(self, timeout_s: float = 60.0) -> None:
        """Return when everything has arrived or is dead; AssertionError if that does not come about."""
        deadline = time.monotonic() + timeout_s
        while self.queued():
            assert time.monotonic() < deadline, self.daemon.status()["destinations"]
            time.sleep(0.05)  # the queue is looked at from another process, and nothing there can call us
        assert self.receiver.numbers() | set(self.dead()) == self.sent

    def queued(self) -> int:
        """Return the events that have not ended."""
        return sum(found["spool"]["queued_events"] for found in self.daemon.status()["destinations"])

    def balanced(self) -> bool:
        """Return whether both equations of the ledger hold at both destinations."""
        found = self.daemon.status()["destinations"]
        return all(one["spool"]["imbalance"] == one["dead_letter_imbalance"] == 0 for one in found)
