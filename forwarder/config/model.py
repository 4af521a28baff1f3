"""What can be configured, with defaults. Durations are seconds, sizes are bytes; docs/CONFIGURATION.md comes from here."""

from typing import Any, Literal

import msgspec

MIB = 1024 * 1024


class _Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table of the file."""


class Secret(_Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where a secret is: exactly one of the three is given."""

    file: str | None = None
    env: str | None = None
    credential: str | None = None
    """A name under $CREDENTIALS_DIRECTORY (systemd LoadCredential)."""


class Address(_Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One address to listen on: host and port, a unix path, or a descriptor passed by systemd."""

    host: str | None = None
    port: int = 0
    unix: str | None = None
    mode: int = 0o660
    group: str | None = None
    systemd: str | None = None

    @property
    def label(self) -> str:
        """Return the address as operators write it."""
        if self.unix:
            return f"unix:{self.unix}"
        if self.systemd:
            return f"systemd:{self.systemd}"
        return f"[{self.host}]:{self.port}" if ":" in (self.host or "") else f"{self.host}:{self.port}"


class Listen(_Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[listen]: the door."""

    http: tuple[Address, ...] = (Address(host="127.0.0.1", port=8765), Address(host="::1", port=8765))
    udp: tuple[Address, ...] = (Address(host="127.0.0.1", port=8765), Address(host="::1", port=8765))
    unix_datagram: tuple[Address, ...] = ()
    admin: Address | None = Address(host="127.0.0.1", port=8766)
    allowed_origins: tuple[str, ...] = ()
    allowed_hosts: tuple[str, ...] = ()
    allow_remote: tuple[Literal["http", "udp", "admin"], ...] = ()
    auth_token: Secret | None = None
    max_body: int = 64 * MIB
    max_event: int = MIB
    max_inflight: int = 128 * MIB
    max_connections: int = 4096
    udp_receive_buffer: int = 4 * MIB
    allow_lower_ack: bool = False


class DeadLetterLimits(_Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """spool.dead_letters."""

    max_size: int = 256 * MIB
    max_age: float = 30 * 86400.0


class SpoolConfig(_Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[spool]: the disk-backed queues. `directory` is resolved by the loader and never empty afterwards."""

    directory: str = ""
    durability: Literal["fsync", "written", "memory"] = "fsync"
    segment_size: int = 64 * MIB
    max_size: int = 1024 * MIB
    max_total: int = 2048 * MIB
    min_free: int = 256 * MIB
    max_age: float = 7 * 86400.0
    checkpoint_interval: float = 1.0
    dead_letters: DeadLetterLimits = DeadLetterLimits()
    quarantine_max_age: float = 30 * 86400.0


class Flush(_Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """destinations.NAME.flush: a batch goes out at whichever limit comes first."""

    interval: float = 10.0
    max_events: int = 100
    max_bytes: int = 512 * 1024


class Retry(_Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """destinations.NAME.retry: exponential backoff with full jitter."""

    initial: float = 1.0
    max: float = 300.0


class RateLimit(_Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """destinations.NAME.rate_limit: at most so many a second; None is unlimited."""

    events: float | None = None
    requests: float | None = None


class Storm(_Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """destinations.NAME.storm: when refusals are the configuration's fault rather than the events'."""

    min: int = 20


Meaning = Literal["delivered", "isolate", "park", "park_key", "back_off"]


class Destination(_Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[destinations.NAME]: one place to deliver to."""

    name: str
    kind: Literal["telemetrydeck", "encharge"]
    url: str
    namespace: str | None = None
    apps: tuple[str, ...] = ()
    write_key: Secret | None = None
    flush: Flush = Flush()
    when_full: Literal["refuse", "evict_oldest"] = "refuse"
    max_size: int = 1024 * MIB
    max_age: float = 7 * 86400.0
    profile_max_age: float = 7 * 86400.0
    expired: Literal["drop", "dead_letter"] = "drop"
    on_ambiguous: Literal["retry", "dead_letter"] = "retry"
    max_ambiguous: int = 3
    max_attempts: int = 10
    concurrency: int = 4
    timeout: float = 30.0
    rate_limit: RateLimit = RateLimit()
    retry: Retry = Retry()
    proxy: str | None = None
    """A proxy URL, already resolved from "env" by the loader; None connects directly."""
    ca_file: str | None = None
    client_cert: str | None = None
    allow_insecure: bool = False
    answers: dict[str, Meaning] = {}
    storm: Storm = Storm()


class Log(_Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[log]."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["auto", "json", "console"] = "auto"


class Drain(_Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[drain]."""

    timeout: float = 20.0


class Config(_Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole file, defaults filled in, secrets still by reference."""

    listen: Listen = Listen()
    spool: SpoolConfig = SpoolConfig()
    destinations: tuple[Destination, ...] = ()
    log: Log = Log()
    drain: Drain = Drain()
    source: str | None = None
    """The file this came from; None for the defaults."""


class Findings(msgspec.Struct):
    """What loading found: `problems` refuse the configuration, `notes` are printed and logged."""

    problems: list[str] = []
    notes: list[str] = []


Raw = dict[str, Any]
