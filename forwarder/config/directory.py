"""Where the spool is when the configuration does not say."""

import os
from collections.abc import Mapping
from pathlib import Path

SYSTEM_DIRECTORY = Path("/var/lib/forwarder")


def default(environ: Mapping[str, str], system: Path = SYSTEM_DIRECTORY) -> Path | None:
    """Return the spool directory: systemd's, else the system's if it can be written, else the user's; None without any.

    `$STATE_DIRECTORY` is a colon-separated list when a unit names several; the first is ours.
    """
    if state := environ.get("STATE_DIRECTORY", "").partition(":")[0]:
        return Path(state)
    if _writable(system):
        return system
    state_home = Path(environ.get("XDG_STATE_HOME", ""))
    if state_home.is_absolute():  # the specification has relative ones ignored
        return state_home / "forwarder"
    if home := environ.get("HOME", ""):
        return Path(home) / ".local" / "state" / "forwarder"
    return None


def _writable(directory: Path) -> bool:
    existing = directory if directory.exists() else directory.parent
    return existing.is_dir() and os.access(existing, os.W_OK | os.X_OK)
