"""What changes something in a running daemon: implements `seams.Controls` over the running parts."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence

from forwarder.app.destination import LiveDestination
from forwarder.core.seams import DeadLetter, Durability, Failed, Group, Stored
from forwarder.errors import ForwarderError
from forwarder.logs import LogControl
from forwarder.metrics import Metrics
from forwarder.vendors import VENDORS

REPLAY_STEP = 1000
"""Letters held in memory at once."""


class Controls:
    """Reached through the control socket only."""

    def __init__(
        self,
        *,
        destinations: Mapping[str, LiveDestination],
        log_control: LogControl,
        metrics: Metrics,
        reload: Callable[[], Awaitable[list[str]]],
    ) -> None:
        self._destinations = destinations
        self._log_control = log_control
        self._metrics = metrics
        self._reload = reload

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
        """Put dead letters back through the spool, a thousand at a time; return how many.

        A letter is removed when its event is durable in the spool again, so a crash can repeat it but not lose it.
        """
        live = self._destinations[destination]
        replayed = 0
        for start in range(0, len(sequences), REPLAY_STEP):
            letters = await live.dead_letters.read(sequences[start : start + REPLAY_STEP])
            if letters:
                await self._put_back(live, letters, keep_age=keep_age)
                replayed += await live.dead_letters.take([letter.sequence for letter in letters], "replayed")
        self._metrics.replayed.at(destination).value += replayed
        return replayed

    async def purge(self, destination: str, sequences: Sequence[int]) -> int:
        """Delete dead letters for good; return how many."""
        return await self._destinations[destination].dead_letters.take(sequences, "purged")

    async def _put_back(self, live: LiveDestination, letters: Sequence[DeadLetter], *, keep_age: bool) -> None:
        for group in _groups(live, letters, keep_age=keep_age):
            busy = live.spool.reserve(group.size, len(group.events))
            if busy is not None:
                raise ForwarderError(busy.message)
            answer: asyncio.Future[Stored | Failed] = asyncio.get_running_loop().create_future()
            live.spool.append(group, Durability.FSYNC, answer.set_result)
            result = await answer
            if isinstance(result, Failed):
                raise ForwarderError(result.message)


def _groups(live: LiveDestination, letters: Sequence[DeadLetter], *, keep_age: bool) -> list[Group]:
    """Return the letters' events by batch key in sequence order; with `keep_age` by time of acceptance, too."""
    trait = VENDORS[live.config.kind].trait
    groups: dict[tuple[bytes, float | None], Group] = {}
    for letter in sorted(letters, key=lambda letter: letter.sequence):
        accepted_at = letter.accepted_at if keep_age else None
        group = groups.get((letter.batch_key, accepted_at))
        if group is None:
            group = groups[letter.batch_key, accepted_at] = Group(
                destination=live.config.name, batch_key=letter.batch_key, events=[], size=0, accepted_at=accepted_at
            )
        group.events.append(letter.event)
        group.size += len(letter.event)
        if (found := trait(letter.event)) is not None:
            group.traits = [*(group.traits or []), found]
    return list(groups.values())
