"""Open files: how many this daemon may need, how many it gets, and what is left for connections when that is fewer.

Everything else comes first: without a descriptor no segment is rolled, and nobody can ask what is wrong.
"""

import contextlib
import resource

import msgspec

from forwarder.config.model import Config, Listen
from forwarder.flusher import transport
from forwarder.sources.http import BACKLOG

PER_CONNECTION = 2
"""One that is beyond the limit holds a descriptor too, until it has read its 503; beyond twice the limit it is cut."""
PER_ADDRESS = 2
"""Sockets behind one address: a name may have both families, a unit several sockets."""
PER_ORIGIN = 2
"""A redirect may lead to a second set of connections, and both families are tried at once."""
SPOOL_FILES = 16
"""Open at once in one destination's directories: segments, acks, dead letters, and what is read or replaced."""
OTHERS = 64
"""Loop, lock, logs, control socket, admin clients, names being resolved, and a margin."""
_ENDLESS = 1 << 62


class Share(msgspec.Struct, frozen=True, kw_only=True):
    """What connections may take."""

    max_connections: int
    note: str = ""
    """What an operator should know; empty while there are as many as configured."""

    def bound(self, settings: Listen) -> Listen:
        """Return the settings with as many connections as there can be."""
        return msgspec.structs.replace(settings, max_connections=self.max_connections)


def claim(config: Config) -> Share:
    """Raise the soft limit of open files as far as needed and allowed; return what that leaves for connections.

    It asks for the backlogs too, which asyncio's own loop (not uvloop) accepts in one turn.
    """
    backlogs = PER_ADDRESS * len(config.listen.http) * BACKLOG
    return share(config, _raise_limit(needed(config) + backlogs))


def needed(config: Config) -> int:
    """Return the most descriptors that this configuration uses."""
    return set_aside(config) + PER_CONNECTION * config.listen.max_connections


def set_aside(config: Config) -> int:
    """Return the descriptors that no connection of a client may take."""
    listen = config.listen
    sockets = PER_ADDRESS * (len(listen.http) + len(listen.udp) + len(listen.unix_datagram) + 1)
    lanes = sum(PER_ORIGIN * (each.concurrency + transport.BESIDE) + SPOOL_FILES for each in config.destinations)
    return OTHERS + sockets + lanes


def share(config: Config, limit: int) -> Share:
    """Return what is left for connections of `limit` descriptors: at least one connection, however few there are."""
    wanted = config.listen.max_connections
    possible = max(1, (limit - set_aside(config)) // PER_CONNECTION)
    if possible >= wanted:
        return Share(max_connections=wanted)
    why = f"{wanted} connections need {needed(config)} open files and the limit is {limit}"
    advice = "raise LimitNOFILE (systemd) or the hard limit (ulimit -Hn), or lower max_connections"
    note = f"listen.max_connections: {why}, so no more than {possible} are taken at once; {advice}"
    return Share(max_connections=possible, note=note)


def _raise_limit(wanted: int) -> int:
    """Return the soft limit, raised to `wanted` or as near as may be; a kernel or a filter may refuse."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if _finite(soft) < min(wanted, _finite(hard)):
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (min(wanted, _finite(hard)), hard))
    return _finite(resource.getrlimit(resource.RLIMIT_NOFILE)[0])


def _finite(limit: int) -> int:
    return _ENDLESS if limit == resource.RLIM_INFINITY else limit
