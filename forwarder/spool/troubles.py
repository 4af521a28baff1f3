"""Troubles of one spool's disk: what and since when, each logged once when it begins and once when it ends."""

import structlog

from forwarder.core.seams import Clock

log = structlog.get_logger()


class Troubles:
    """The faults in force; the gravest one is shown."""

    def __init__(self, destination: str, clock: Clock) -> None:
        self._destination = destination
        self._clock = clock
        self._since: dict[str, tuple[str, float]] = {}

    @property
    def commits(self) -> str | None:
        """Return why nothing can be accepted, or None."""
        found = self._since.get("commit")
        return found[0] if found else None

    @property
    def current(self) -> tuple[str, float] | None:
        """Return the gravest fault and the wall-clock time at which it began."""
        return next((self._since[kind] for kind in ("commit", "checkpoint", "read") if kind in self._since), None)

    def set_commits(self, message: str | None) -> None:
        """Note that commits fail, or work again."""
        self._set("commit", message)

    def set_checkpoint(self, message: str | None) -> None:
        """Note that checkpoints fail, or work again."""
        self._set("checkpoint", message)

    def set_reading(self, message: str | None) -> None:
        """Note that a segment cannot be read, or may be tried again."""
        self._set("read", message)

    def _set(self, kind: str, message: str | None) -> None:
        before = self._since.get(kind)
        if message is None:
            if before is not None:
                del self._since[kind]
                log.warning("disk_recovered", destination=self._destination, operation=kind)
            return
        if before is None:
            log.error("disk_trouble", destination=self._destination, operation=kind, reason=message)
        self._since[kind] = (message, before[1] if before else self._clock.wall())
