"""A person whose events are to be erased: by what they are named, and how they are found in bytes."""

import re
from typing import Any, Literal

import msgspec

By = Literal["email", "user-id", "client-user"]

_USER_ID = frozenset({"userid", "user_id", "previoususerid"})
_CLIENT_USER = frozenset({"clientuser"})


class Person(msgspec.Struct, frozen=True):
    """One person, by e-mail address, user ID (Encharge) or clientUser (TelemetryDeck, as it was sent).

    An address is looked for in every string of an event, whatever the case; the others in the members of that name.
    """

    by: By
    value: str

    @property
    def needle(self) -> bytes:
        """Return bytes without which plain text cannot mean this person, in lower case."""
        return self.value.strip().lower().encode()

    def maybe(self, data: bytes) -> bool:
        """Return whether a look inside is worth it: cheap, and never wrongly False."""
        return self.needle in data.lower() or b"\\" in data

    def plainly(self, data: bytes) -> bool:
        """Return whether bytes that cannot be decoded name this person."""
        if self.by == "email":
            return self.needle in data.lower()
        name = rb"user_?id" if self.by == "user-id" else rb"clientuser"
        # quotes may be escaped: the bytes can be a string of another document
        return bool(re.search(name + rb'\\*"\s*:\s*\\*"?' + re.escape(self.needle) + rb"(?![\w-])", data.lower()))

    def named_in(self, event: bytes) -> bool:
        """Return whether an event names this person; bytes that are no JSON are searched as they are."""
        if not self.maybe(event):
            return False
        try:
            found = msgspec.json.decode(event)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return self.plainly(event)
        return self._inside(found, "")

    def _inside(self, value: Any, name: str) -> bool:
        if isinstance(value, dict):
            return any(self._inside(inner, key) for key, inner in value.items())
        if isinstance(value, list):
            return any(self._inside(inner, name) for inner in value)
        if isinstance(value, bool) or not isinstance(value, str | int):
            return False
        return self._is(str(value), re.sub(r"[^a-z_]", "", name.lower()))

    def _is(self, text: str, name: str) -> bool:
        match self.by:
            case "email":
                return text.strip().lower() == self.value.strip().lower()
            case "user-id":
                return name in _USER_ID and text.strip() == self.value.strip()
            case _:
                return name in _CLIENT_USER and text == self.value
