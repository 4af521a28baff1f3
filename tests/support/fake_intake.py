"""Counterparts of the door: an intake that commits when told, and a router that knows a few paths."""

from collections.abc import Callable, Mapping, Sequence

import orjson

from forwarder.core.joining import Joining
from forwarder.core.seams import Busy, Done, Durability, Failed, Group, Stored
from forwarder.vendors.base import BadRequest, Checked, Refusal, Route


class FakeIntake:
    """Implements `seams.Intake` in memory. With `prompt` it commits inside `submit`; else when `commit` is called."""

    def __init__(self, *, prompt: bool = True) -> None:
        self.prompt = prompt
        self.joining = Joining()
        self.busy: Busy | None = None
        self.submitted: list[Group] = []
        self.levels: list[Durability] = []
        self.waiting: list[tuple[Durability, Done]] = []
        self.arrived: Callable[[], None] = lambda: None

    def submit(self, groups: Sequence[Group], level: Durability, done: Done) -> Busy | None:
        if self.busy is not None:
            return self.busy
        self.submitted += groups
        self.levels.append(level)
        self.waiting.append((level, done))
        if self.prompt:
            self.commit()
        self.arrived()
        return None

    @property
    def events(self) -> list[bytes]:
        return [event for group in self.submitted for event in group.events]

    def commit(self, count: int | None = None) -> None:
        """Commit the first `count` of what waits (all by default)."""
        now, self.waiting = self.waiting[:count], self.waiting[len(self.waiting) if count is None else count :]
        later: list[tuple[Durability, Done]] = []
        for level, done in now:
            done(Stored(min(level, Durability.FSYNC)))
            if level is Durability.DELIVERED:
                later.append((Durability.DELIVERED, done))
        self.delivering = later

    def deliver(self, *, failed: bool = False) -> None:
        for level, done in self.delivering:
            done(Failed("died") if failed else Stored(level))

    def fail(self) -> None:
        waiting, self.waiting = self.waiting, []
        for _, done in waiting:
            done(Failed("the disk failed"))


class BrokenIntake(FakeIntake):
    """An intake with a bug: it raises for the group that holds this event."""

    bad = b"t1"

    def submit(self, groups: Sequence[Group], level: Durability, done: Done) -> Busy | None:
        if any(self.bad in event for group in groups for event in group.events):
            raise ZeroDivisionError
        return super().submit(groups, level, done)


class FakeRoute:
    """Takes a JSON object with `ok`, or an array of them; others are refused. `limit` bytes an event."""

    def __init__(self, destination: str, status: int = 200) -> None:
        self.destination = destination
        self.cacheable = True
        self.together = False
        self.success_status = status
        self.keys: list[bytes | None] = []
        self.stamps: list[bytes] = []

    def check_each(self, bodies: list[bytes], *, received_at: bytes) -> Checked | None:
        return None

    def check(self, body: bytes, *, received_at: bytes, presented_key: bytes | None = None) -> Checked | BadRequest:
        self.keys.append(presented_key)
        self.stamps.append(received_at)
        try:
            parsed = orjson.loads(body)
        except orjson.JSONDecodeError as exc:
            return BadRequest(400, f"not JSON at byte {exc.pos}", "not_json")
        events = parsed if isinstance(parsed, list) else [parsed]
        good = [orjson.dumps(event) for event in events if isinstance(event, dict) and "ok" in event]
        if not isinstance(parsed, list) and good:
            good = [body]
        refused = [
            Refusal(index, "ok is missing", "missing_field", b"sample")
            for index, event in enumerate(events)
            if not (isinstance(event, dict) and "ok" in event)
        ]
        group = Group(self.destination, b"key", good, sum(map(len, good)))
        warnings = {"nested": 1} if b"nested" in body else {}
        return Checked([group] if good else [], len(good), refused, warnings, key_mismatch=presented_key == b"other")


class FakeRouter:
    """Implements `base.Router`: `/v2/`, `/v2/namespace/NAME/`, `/v1` with a token, `/events`."""

    def __init__(self) -> None:
        self.telemetrydeck = FakeRoute("telemetrydeck")
        self.encharge = FakeRoute("encharge")
        self.any = FakeRoute("telemetrydeck", status=202)
        self.asked: list[tuple[str, dict[str, str]]] = []

    def resolve(self, path: str, query: Mapping[str, str], *, encharge_token: bool) -> Route | BadRequest:
        self.asked.append((path, dict(query)))
        path = path.rstrip("/")
        if path == "/v1" or (encharge_token and path):
            return self.encharge
        if path == "/v2" or path.startswith("/v2/namespace/"):
            return self.telemetrydeck
        if path == "/events":
            return self.any
        return BadRequest(404, f"{path} is not served: /v2/, /v1, /events are", "unknown_path")

    def datagrams(self) -> Route:
        return self.any
