"""What can be configured, with defaults. Durations are seconds, sizes are bytes; docs/CONFIGURATION.md comes from here.

A field's annotation carries its description, its form and its bounds (form.py): the loader, the JSON schema and the
generated page all read the same annotation. Defaults that differ by vendor stand in kinds.py.
"""

from typing import Annotated, Any, Literal

import msgspec

from forwarder.config import form, mask

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB
MINUTE = 60.0
HOUR = 3600.0
DAY = 86400.0


class _Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table of the file."""


class Secret(_Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where a secret is: exactly one of the three is given."""

    file: Annotated[
        str | None,
        form.text(
            "A file with nothing but the secret. It is read again when it changes, symlink swaps included.",
            "path",
            example="/etc/forwarder/encharge-write-key",
        ),
    ] = None
    env: Annotated[
        str | None,
        form.text(
            "The name of an environment variable, read once at start.",
            "text",
            pattern=r"[A-Za-z_][A-Za-z0-9_]*",
            example="ENCHARGE_WRITE_KEY",
        ),
    ] = None
    credential: Annotated[
        str | None,
        form.text(
            "The name of a systemd credential (`LoadCredential=`): a file under `$CREDENTIALS_DIRECTORY`.",
            "text",
            pattern=r"[A-Za-z0-9_][A-Za-z0-9._-]*",
            example="encharge-write-key",
        ),
    ] = None
    """A name under $CREDENTIALS_DIRECTORY (systemd LoadCredential)."""


class Address(_Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One address to listen on: host and port, a unix path, or a descriptor passed by systemd."""

    host: str | None = None
    port: int = 0
    unix: Annotated[str | None, form.text("Absolute path of the socket.", example="/run/forwarder/http.sock")] = None
    mode: Annotated[int, form.text("Permissions of the socket, four octal digits.", "mode", example="0660")] = 0o660
    group: Annotated[str | None, form.text("Group that owns the socket.", example="www-data")] = None
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

    http: Annotated[tuple[Address, ...], form.text("HTTP listeners, TCP or unix; `[]` for none.")] = (
        Address(host="127.0.0.1", port=8765),
        Address(host="::1", port=8765),
    )
    udp: Annotated[tuple[Address, ...], form.text("UDP listeners, one event (or array, or NDJSON) a datagram.")] = (
        Address(host="127.0.0.1", port=8765),
        Address(host="::1", port=8765),
    )
    unix_datagram: Annotated[tuple[Address, ...], form.text("Unix datagram sockets, read like UDP.")] = ()
    admin: Annotated[
        Address | None,
        form.text('Health, metrics and status, read-only; beyond loopback without the status. `"none"` for none.'),
    ] = Address(host="127.0.0.1", port=8766)
    allowed_origins: Annotated[
        tuple[str, ...],
        form.text(
            'Browser origins that may send, exactly as the browser names them (`"null"` too); all others get 403.',
            "origin",
            example=["https://app.example.com", "capacitor://localhost"],
        ),
    ] = ()
    allowed_hosts: Annotated[
        tuple[str, ...],
        form.text(
            "Host names that a request on a loopback listener may carry, with any port, beside loopback literals, "
            "`localhost` and `*.localhost`.",
            "host",
            example=["10.0.2.2", "forwarder.internal"],
        ),
    ] = ()
    allow_remote: Annotated[
        tuple[Literal["http", "udp", "admin"], ...],
        form.text("Listeners that may be reached from beyond this machine without `auth_token`."),
    ] = ()
    auth_token: Annotated[
        Secret | None,
        form.text(
            "Every HTTP request must present it (`Authorization: Bearer` or `X-Forwarder-Token`). Vendor SDKs cannot: "
            "on a shared machine prefer a unix socket."
        ),
    ] = None
    max_body: Annotated[int, form.size("Largest request body, decompressed; a larger one gets 413.", KIB, GIB)] = (
        64 * MIB
    )
    max_event: Annotated[
        int, form.size("Largest event; a larger one is refused, named by its index.", KIB, 64 * MIB)
    ] = MIB
    max_inflight: Annotated[
        int, form.size("Bytes of bodies in memory over all connections; beyond it reading pauses.", KIB, 64 * GIB)
    ] = 128 * MIB
    max_connections: Annotated[int, form.count("Open HTTP connections; one more gets 503.", 1, 1_000_000)] = 4096
    udp_receive_buffer: Annotated[
        int,
        form.size("Kernel buffer asked for each datagram socket; `status` shows what was granted.", 4 * KIB, GIB),
    ] = 4 * MIB
    allow_lower_ack: Annotated[
        bool, form.text("Let a request ask for less durability than `spool.durability` with `?ack=`.")
    ] = False


class DeadLetterLimits(_Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """spool.dead_letters: how much is kept of what will not be retried."""

    max_size: Annotated[
        int, form.size("Largest size per destination; the oldest are purged first, counted.", 64 * KIB)
    ] = 256 * MIB
    max_age: Annotated[float, form.duration("Dead letters older than this are purged, counted.", MINUTE)] = 30 * DAY


class SpoolConfig(_Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[spool]: the disk-backed queues. `directory` is resolved by the loader and never empty afterwards."""

    directory: Annotated[
        str,
        form.text(
            "Where the queues are. Default: the first of `$STATE_DIRECTORY`, `/var/lib/forwarder` if writable, "
            "`$XDG_STATE_HOME/forwarder`, `~/.local/state/forwarder`.",
            "path",
            example="/var/lib/forwarder",
        ),
    ] = ""
    durability: Annotated[
        Literal["fsync", "written", "memory"],
        form.text(
            "How far an event must have come before its sender gets 2xx: `fsync` survives a power cut, `written` a "
            "crash of the daemon, `memory` neither."
        ),
    ] = "fsync"
    segment_size: Annotated[
        int,
        form.size(
            "Size of one spool file; space is given back a whole segment at a time. Not below `listen.max_event`, nor "
            "above a queue's `max_size`.",
            64 * KIB,
            GIB,
        ),
    ] = 64 * MIB
    max_size: Annotated[
        int, form.size("Largest queue of one destination; `destinations.NAME.max_size` overrides it.", 64 * KIB)
    ] = GIB
    max_total: Annotated[
        int, form.size("Largest size of the directory, dead letters and quarantine included.", 64 * KIB)
    ] = 2 * GIB
    min_free: Annotated[
        int, form.size("Space to leave free on the volume (or 5 % of the volume, whichever is smaller).", 0)
    ] = 256 * MIB
    max_age: Annotated[
        float, form.duration("Events older than this expire; `destinations.NAME.max_age` overrides it.", 1.0)
    ] = 7 * DAY
    checkpoint_interval: Annotated[
        float,
        form.duration(
            "How often progress is made durable. After a power cut at most this much may be delivered again.",
            0.01,
            10 * MINUTE,
        ),
    ] = 1.0
    dead_letters: Annotated[DeadLetterLimits, form.text("Limits of the dead letters.")] = DeadLetterLimits()
    quarantine_max_age: Annotated[
        float, form.duration("Damaged files set aside are deleted after this time.", MINUTE)
    ] = 30 * DAY


class Flush(_Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """destinations.NAME.flush: a batch goes out at whichever limit comes first."""

    interval: Annotated[
        float, form.duration("Longest time the oldest event waits for its batch to fill; `0s` sends at once.", 0, HOUR)
    ] = 10.0
    max_events: Annotated[int, form.count("Most events in a request.", 1, 100_000)] = 100
    max_bytes: Annotated[int, form.size("Most bytes in a request; one larger event goes alone.", KIB, 64 * MIB)] = (
        512 * KIB
    )


class Retry(_Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """destinations.NAME.retry: exponential backoff with full jitter."""

    initial: Annotated[float, form.duration("Longest first delay; it doubles with every failure.", 0.001, HOUR)] = 1.0
    max: Annotated[float, form.duration("Longest delay.", 0.001, DAY)] = 300.0


class RateLimit(_Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """destinations.NAME.rate_limit: at most so many a second; None is unlimited."""

    events: Annotated[float | None, form.number("Most events a second; unlimited if absent.", 0.001, 1e9)] = None
    requests: Annotated[float | None, form.number("Most requests a second; unlimited if absent.", 0.001, 1e9)] = None


class Storm(_Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """destinations.NAME.storm: when refusals are the configuration's fault rather than the events'."""

    min: Annotated[int, form.count("So many refused events without one accepted park the batch key.", 1, 1_000_000)] = (
        20
    )


class Order(_Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """destinations.NAME.order: how far a lane looks ahead for persons whose turn it is, and how many it sets aside."""

    look_ahead: Annotated[int, form.count("Most records in memory.", 100, 1_000_000)] = 10_000
    look_ahead_bytes: Annotated[int, form.size("Most bytes in memory.", MIB, GIB)] = 16 * MIB
    per_person: Annotated[
        int, form.count("Records of one person among them; with more the person waits in the spool.", 2, 10_000)
    ] = 64
    persons: Annotated[
        int, form.count("Persons that wait in the spool; one more makes the lane wait (`order_waits`).", 1, 100_000)
    ] = 1000
    links: Annotated[
        int, form.count("Links between identities kept after their event; least used go first.", 1, 10**7)
    ] = 100_000


Meaning = Literal["delivered", "isolate", "park", "park_key", "back_off"]


class Destination(_Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[destinations.NAME]: one place to deliver to. NAME is its directory, its metric label and its CLI argument."""

    name: str
    kind: Annotated[Literal["telemetrydeck", "encharge"], form.text("The vendor's protocol. Required.")]
    url: Annotated[str, form.text("Where the vendor's API is.", "url")]
    namespace: Annotated[
        str | None,
        form.text(
            "Serves only this namespace (and `/v2/`); if absent the request's path is kept.",
            "text",
            pattern=r"[A-Za-z0-9][A-Za-z0-9._-]*",
            example="com.example",
        ),
    ] = None
    apps: Annotated[
        tuple[str, ...],
        form.text(
            "Serves only these app ids; if absent, all.", "text", example=["AAAAAAAA-BBBB-CCCC-DDDD-EEEEEEEEEEEE"]
        ),
    ] = ()
    write_key: Annotated[
        Secret | None,
        form.text("The write key. Required. While it cannot be read the destination is parked and events are kept."),
    ] = None
    flush: Annotated[
        Flush, form.text("When a batch goes out. No effect for encharge: each event is a request of its own.")
    ] = Flush()
    when_full: Annotated[
        Literal["refuse", "evict_oldest"],
        form.text("At `max_size`: answer 503, or drop the oldest events, counted."),
    ] = "refuse"
    max_size: Annotated[int, form.size("Largest queue on disk. Default: `spool.max_size`.", 64 * KIB)] = GIB
    max_age: Annotated[float, form.duration("Events older than this expire. Default: `spool.max_age`.", 1.0)] = 7 * DAY
    profile_max_age: Annotated[
        float, form.duration("The same for identify, alias and group, which trigger nothing.", 1.0)
    ] = 7 * DAY
    expired: Annotated[
        Literal["drop", "dead_letter"], form.text("What becomes of expired events; both are counted.")
    ] = "drop"
    on_ambiguous: Annotated[
        Literal["retry", "dead_letter"],
        form.text("After a request that was sent but not answered: the event may have been processed."),
    ] = "retry"
    max_ambiguous: Annotated[
        int, form.count("Sends of one event that may end without an answer before it is a dead letter.", 1, 100)
    ] = 3
    max_attempts: Annotated[
        int,
        form.count("Failures of one event alone, while others succeed, before it is a dead letter.", 1, 1000),
    ] = 10
    concurrency: Annotated[int, form.count("Most requests at once.", 1, 1024)] = 4
    timeout: Annotated[float, form.duration("Longest time for one request.", 0.001, 10 * MINUTE)] = 30.0
    rate_limit: Annotated[RateLimit, form.text("Most events and requests a second.")] = RateLimit()
    retry: Annotated[Retry, form.text("How failed requests are spaced.")] = Retry()
    proxy: Annotated[
        str | None,
        form.text(
            '`"env"` (the default: HTTP_PROXY, HTTPS_PROXY and NO_PROXY as they were at start), `"none"`, or a URL. '
            "Loopback is never proxied.",
            "proxy",
            example="http://proxy.internal:3128",
        ),
    ] = None
    """A proxy URL, already resolved from "env" by the loader; None connects directly. It may hold a password."""
    ca_file: Annotated[
        str | None,
        form.text(
            "PEM file of certificate authorities to trust instead of the system's.",
            "path",
            example="/etc/forwarder/ca.pem",
        ),
    ] = None
    client_cert: Annotated[
        str | None,
        form.text("PEM file with a client certificate and its key.", "path", example="/etc/forwarder/client.pem"),
    ] = None
    allow_insecure: Annotated[bool, form.text("Allow plain `http://` beyond loopback.")] = False
    answers: Annotated[
        dict[str, Meaning],
        form.text(
            "What a status means, where the vendor's table is wrong: `delivered`; `isolate` (find the event at fault); "
            "`park` (the destination); `park_key` (this app or namespace); `back_off` (try later).",
            "statuses",
            example={"409": "delivered"},
        ),
    ] = {}
    storm: Annotated[Storm, form.text("When refusals are not the events' fault.")] = Storm()
    order: Annotated[Order, form.text("Limits of the order per person.")] = Order()

    def __repr__(self) -> str:
        """Return the usual form without the password that `proxy` may hold."""
        return mask.redacted(msgspec.Struct.__repr__(self))


class Log(_Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[log]."""

    level: Annotated[Literal["debug", "info", "warning", "error"], form.text("Least severity that is logged.")] = "info"
    format: Annotated[
        Literal["auto", "json", "console"], form.text("`auto`: for people on a terminal, else JSON lines.")
    ] = "auto"


class Drain(_Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[drain]: what happens at SIGTERM."""

    timeout: Annotated[
        float, form.duration("Longest time to deliver what is queued; the rest stays on disk.", 0, HOUR)
    ] = 20.0


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
