"""What changes something in a running daemon: implements `seams.Controls` over the running parts."""

from collections.abc import Awaitable, Callable, Mapping, Sequence

import msgspec

from forwarder.app.destination import LiveDestination
from forwarder.app.erasing import Erasing, person_of
from forwarder.logs import LogControl
from forwarder.metrics import Metrics


class Controls:
    """Reached through the control socket only."""

    def __init__(
        self,
        *,
        destinations: Mapping[str, LiveDestination],
        log_control: LogControl,
        metrics: Metrics,
        reload: Callable[[], Awaitable[list[str]]],
        erasing: Erasing,
    ) -> None:
        self._destinations = destinations
        self._log_control = log_control
        self._metrics = metrics
        self._reload = reload
        self._erasing = erasing

    async def resume(self, destination: str) -> str:
        """Probe a parked lane now; KeyError for an unknown name."""
        flusher = self._destinations[destination].flusher
        before = flusher.status().state
        flusher.resume()
        return f"{destination} was {before}; a probe goes out now"

    def log_level(self, level: str) -> str:
        """Set the level; ValueError for an unknown one."""
        self._log_control.set_level(level)
        return f"log level is {level}"

    async def reload(self) -> list[str]:
        """Read the configuration again; return the problems (then the old one stays in force)."""
        return await self._reload()

    async def replay(self, destination: str, sequences: Sequence[int], *, keep_age: bool) -> int:
        """Put dead letters back through the spool; return how many."""
        replayed = await self._destinations[destination].replay.run(sequences, keep_age=keep_age)
        self._metrics.replayed.at(destination).value += replayed
        return replayed

    async def purge(self, destination: str, sequences: Sequence[int]) -> int:
        """Delete dead letters for good; return how many."""
        return await self._destinations[destination].replay.purge(sequences)

    async def erase(self, by: str, value: str, *, dry_run: bool) -> Mapping[str, object]:
        """Remove one person's events everywhere; return the receipt. ValueError for an unknown `by`."""
        receipt = await self._erasing.run(person_of(by, value), dry_run=dry_run)
        return msgspec.structs.asdict(receipt)
