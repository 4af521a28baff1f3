"""Who an Encharge event is about: its identities, in whatever form it names them, and the order keys made of them."""

from collections.abc import Iterator
from hashlib import blake2b

import msgspec

from forwarder.core.json import text as json_text
from forwarder.core.seams import Trait
from forwarder.vendors import members as event_members
from forwarder.vendors.members import Members

MAX_KEYS = 4
"""Order keys of one event; a record has room for no more (see Trait)."""

_EMAIL, _USER_ID, _ANONYMOUS, _GROUP = b"email", b"user", b"anonymous", b"group"
_FIELDS = (
    ("email", _EMAIL),
    ("userId", _USER_ID),
    ("previousEmail", _EMAIL),
    ("previousUserId", _USER_ID),
)
_NUMBER = b"-0123456789"
_PROFILE = frozenset(("identify", "alias", "group"))
_KINDS = _PROFILE | {"track", "page"}

Identity = tuple[bytes, str]
"""A namespace (e-mail addresses, user ids, …) and a normalised name in it."""


class Person(msgspec.Struct, frozen=True):
    """What the door must know of one event."""

    identities: tuple[Identity, ...]
    group: bool
    trait: Trait


def read(members: Members) -> Person:
    """Return who the event with these top-level members is about."""
    user = _object(members, "user")
    kind = _text(members, "type")
    group = kind == "group"
    found = tuple(dict.fromkeys(_identities(user, members)))
    fallback = tuple(_group_identities(members)) if group else ()
    order = tuple(key(identity) for identity in (found or fallback)[:MAX_KEYS])
    return Person(found, group, Trait(aged=int(_is_profile(members, kind)), order=order))


def key(identity: Identity) -> int:
    """Return the stable 64-bit order key of an identity; never 0, which means "none" in a record."""
    namespace, name = identity
    digest = blake2b(name.encode(errors="surrogatepass"), digest_size=8, person=namespace).digest()
    return int.from_bytes(digest, "little") or 1


def _identities(user: Members, members: Members) -> Iterator[Identity]:
    """Yield the identities under `user`, then at the top level; an anonymous id only when there is no other."""
    anonymous = True
    for source in (user, members):
        for field, namespace in _FIELDS:
            name = _name(source, field, namespace)
            if name:
                anonymous = False
                yield namespace, name
    if anonymous:
        name = _name(user, "anonymousId", _ANONYMOUS) or _name(members, "anonymousId", _ANONYMOUS)
        if name:
            yield _ANONYMOUS, name


def _group_identities(members: Members) -> Iterator[Identity]:
    """Yield the object that a group event without a person follows."""
    external = _name(_object(members, "properties"), "externalId", _GROUP) or _name(members, "groupId", _GROUP)
    if external:
        yield _GROUP, external


def _name(members: Members, field: str, namespace: bytes) -> str | None:
    """Return the normalised identity in a field: a string, or (not for addresses) a number as it is written."""
    found = members.get(field)
    if found is None:
        return None
    value = bytes(found)
    if value[:1] == b'"':
        text = json_text.string(value).strip()
        return text.lower() if namespace == _EMAIL else text
    if namespace != _EMAIL and value[0] in _NUMBER:
        return value.decode()
    return None


def _text(members: Members, field: str) -> str:
    if field not in members:
        return ""
    value = bytes(members[field])
    return json_text.string(value) if value[:1] == b'"' else ""


def _object(members: Members, field: str) -> Members:
    value = bytes(members.get(field, b"null"))
    return event_members.members(value) if value[:1] == b"{" else {}


def _is_profile(members: Members, kind: str) -> bool:
    """Return whether the event only describes a person or group: it triggers nothing by being late."""
    if kind in _KINDS:
        return kind in _PROFILE
    name = _text(members, "name") or _text(members, "event")
    return not name or name in _PROFILE
