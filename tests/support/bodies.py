"""Request bodies for tests: the vendors' samples, and what only tests send (tests/data)."""

from pathlib import Path

from forwarder.vendors.samples import Sample, samples

DATA = Path(__file__).parent.parent / "data"

STAMP = b"2026-06-05T10:11:12.123Z"
STAMPED = b'{"receivedAt":"2026-06-05T10:11:12.123Z",'

TELEMETRYDECK = [sample for sample in samples() if sample.vendor == "telemetrydeck"]
ENCHARGE = [sample for sample in samples() if sample.vendor == "encharge"]


def data(name: str) -> bytes:
    """Return a file of tests/data as it is."""
    return (DATA / name).read_bytes()


def sample(name: str) -> Sample:
    """Return the sample of this name."""
    return next(each for each in samples() if each.name == name)


def signal(app: str = "app", extra: bytes = b"") -> bytes:
    """Return a signal without `receivedAt`; `extra` is appended as it is, comma included."""
    return b'{"appID":"' + app.encode() + b'","clientUser":"u","type":"t","payload":{}' + extra + b"}"


def array(*events: bytes) -> bytes:
    """Return a compact JSON array of these events."""
    return b"[" + b",".join(events) + b"]"
