"""What a reload changes: pure comparison of the configuration in force with the new one."""

from forwarder.config.model import Config, Destination
from forwarder.errors import ConfigurationError

ONLY_AT_START = (("spool", "directory"), ("log", "format"))


def check(old: Config, new: Config) -> None:
    """Raise ConfigurationError with what a running daemon cannot take."""
    before = by_name(old)
    problems = [
        f"destinations.{name}.kind: {before[name].kind} cannot become {destination.kind} while events of the one kind "
        f"may be queued; give the new destination another name"
        for name, destination in by_name(new).items()
        if name in before and before[name].kind != destination.kind
    ]
    if problems:
        raise ConfigurationError(problems)


def added(old: Config, new: Config) -> list[Destination]:
    """Return the destinations that are new."""
    before = by_name(old)
    return [destination for name, destination in by_name(new).items() if name not in before]


def removed(old: Config, new: Config) -> list[str]:
    """Return the names of the destinations that are gone."""
    after = by_name(new)
    return [name for name in by_name(old) if name not in after]


def needs_restart(old: Config, new: Config) -> list[str]:
    """Return notes about changes that only a restart applies."""
    return [
        f"{section}.{name} was changed; a restart applies it"
        for section, name in ONLY_AT_START
        if getattr(getattr(old, section), name) != getattr(getattr(new, section), name)
    ]


def by_name(config: Config) -> dict[str, Destination]:
    """Return the destinations by name."""
    return {destination.name: destination for destination in config.destinations}
