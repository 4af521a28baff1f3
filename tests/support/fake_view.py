"""A daemon's view and controls whose every answer a test can set."""

from collections.abc import Mapping, Sequence
from typing import Any

from forwarder.core.seams import DeadLetterStatus, DiskStatus, LaneStatus, ListenerStatus, SpoolStats
from forwarder.errors import DiskTrouble
from tests.support.hand_clock import HandClock

NOW = 1_780_000_000.0


def spool(destination: str = "telemetrydeck", **facts: Any) -> SpoolStats:
    usual: dict[str, Any] = {
        "first_sequence": 0,
        "next_sequence": 1000,
        "queued_events": 90,
        "bytes": 9000,
        "limit_bytes": 1024**3,
        "segments": 2,
        "oldest_accepted_at": NOW - 125,
        "ledger": {"delivered": 900, "died": 10},
        "imbalance": 0,
        "trouble": None,
        "trouble_since": None,
        "dead_letters": 7,
    }
    return SpoolStats(destination=destination, **(usual | facts))


def lane(destination: str = "telemetrydeck", **facts: Any) -> LaneStatus:
    usual: dict[str, Any] = {
        "state": "flowing",
        "since": NOW - 3600,
        "reason": "",
        "next_try_at": None,
        "in_flight": 1,
        "concurrency": 4,
        "parked_keys": {},
        "set_aside": 0,
        "delivered_per_second": 12.5,
        "last_error": None,
        "last_error_at": None,
        "last_delivered_at": NOW - 1,
        "last_progress": 1000.0,
    }
    return LaneStatus(destination=destination, **(usual | facts))


def letters(destination: str = "telemetrydeck", **facts: Any) -> DeadLetterStatus:
    usual: dict[str, Any] = {"present": 7, "replayed": 2, "purged": 1, "bytes": 4000, "oldest_died_at": NOW - 60}
    return DeadLetterStatus(destination=destination, **(usual | facts))


class FakeDaemon:
    """Implements DaemonView and Controls."""

    def __init__(self) -> None:
        self.version = "1.2.3"
        self.started_at = NOW - 7200
        self.clock = HandClock(NOW)
        self.refusal: str | None = None
        self.wedged: str | None = None
        self.ill: str | None = None
        self.listener_list = [
            ListenerStatus(label="127.0.0.1:8765", kind="http", accepting=True, connections=3),
            ListenerStatus(label="127.0.0.1:8765", kind="udp", accepting=True, receive_buffer=4194304, kernel_drops=2),
        ]
        self.spool_list = [spool()]
        self.lane_list = [lane()]
        self.letters_list = [letters()]
        self.note_list: list[str] = []
        self.asked: list[tuple[Any, ...]] = []
        self.problems: list[str] = []
        self.disk_fails = False

    # DaemonView

    def not_accepting(self) -> str | None:
        return self.refusal

    def degraded(self) -> str | None:
        return self.ill

    def stuck(self) -> str | None:
        return self.wedged

    def listeners(self) -> Sequence[ListenerStatus]:
        return self.listener_list

    def spools(self) -> Sequence[SpoolStats]:
        return self.spool_list

    def lanes(self) -> Sequence[LaneStatus]:
        return self.lane_list

    def dead_letters(self) -> Sequence[DeadLetterStatus]:
        return self.letters_list

    def disk(self) -> DiskStatus:
        return DiskStatus(directory="/var/lib/forwarder", free_bytes=10**10, used_bytes=10**6, limit_bytes=2 * 1024**3)

    def notes(self) -> Sequence[str]:
        return self.note_list

    # Controls

    async def resume(self, destination: str) -> str:
        self._known(destination)
        self.asked.append(("resume", destination))
        return f"{destination}: one probe now"

    def log_level(self, level: str) -> str:
        if level not in ("debug", "info"):
            raise ValueError(f"no such level: {level}")
        self.asked.append(("log_level", level))
        return f"level is {level}"

    async def reload(self) -> list[str]:
        return self.problems

    async def replay(self, destination: str, sequences: Sequence[int], *, keep_age: bool) -> int:
        self._known(destination)
        if self.disk_fails:
            raise DiskTrouble(operation="write", path="/x", reason="No space left on device")
        self.asked.append(("replay", destination, list(sequences), keep_age))
        return len(sequences)

    async def purge(self, destination: str, sequences: Sequence[int]) -> int:
        self._known(destination)
        self.asked.append(("purge", destination, list(sequences)))
        return len(sequences)

    async def erase(self, by: str, value: str, *, dry_run: bool) -> Mapping[str, object]:
        if by != "email":
            raise ValueError(f"by: expected email, got {by!r}")
        self.asked.append(("erase", value, dry_run))
        return {"by": by, "value": value, "dry_run": dry_run}

    def _known(self, destination: str) -> None:
        if destination not in {found.destination for found in self.spool_list}:
            raise KeyError(destination)
