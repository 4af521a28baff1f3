"""Where a daemon of this machine takes events in, as its configuration says."""

import os
from pathlib import Path

from forwarder.config import source
from forwarder.config.model import Address, Config
from forwarder.errors import ConfigurationError

DEFAULT = "http://127.0.0.1:8765"
_ANY = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 (where to connect to)


def address(path: Path | None) -> str:
    """Return the address for `send --to`: of the file that is named, else of the one that `run` would find, else 8765.

    Raises ConfigurationError for a named file that cannot be used, or a door that only systemd knows.
    """
    if path is None and source.find(None, os.environ) is None:
        return DEFAULT
    from forwarder.config import loading  # noqa: PLC0415 (--help needs no configuration)

    try:
        return of(loading.load(path)[0])
    except ConfigurationError:
        if path is not None:
            raise
        return DEFAULT  # the daemon's file, perhaps, which not everybody may read


def of(config: Config) -> str:
    """Return the first way in: HTTP before unix datagrams before UDP."""
    listen = config.listen
    ways = [("http://", "unix:", listen.http), ("", "unixgram:", listen.unix_datagram), ("udp://", "", listen.udp)]
    for scheme, unix, addresses in ways:
        for found in addresses:
            if found.systemd is None:
                return f"{unix}{found.unix}" if found.unix else f"{scheme}{_reachable(found)}"
    text = "listen: systemd holds the sockets, and this file does not say where; name one with --to"
    raise ConfigurationError([text])


def _reachable(found: Address) -> str:
    host = _ANY.get(found.host or "", found.host or "")
    return f"[{host}]:{found.port}" if ":" in host else f"{host}:{found.port}"
