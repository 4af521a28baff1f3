"""Who is who, and who must wait in the spool: identities united by linking events, and persons set aside.

`Links` unites order keys that one event named together. `Holds` is what a lane does not want leased just now.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable

LINKS_LIMIT = 100_000
HELD_PERSONS_LIMIT = 1000
KEYS_A_PERSON = 100
"""Identities of held persons, on average; each skipped event may add some. At the limit everything is held: the lane
waits."""


class Links:
    """Identities united for the last `limit` links (least recently used forgotten first)."""

    def __init__(self, limit: int = LINKS_LIMIT) -> None:
        self.limit = limit
        self._parent: OrderedDict[int, int] = OrderedDict()

    def expand(self, keys: tuple[int, ...]) -> tuple[int, ...]:
        """Return the keys and their roots: two events of one person share at least one of them."""
        if not self._parent:
            return keys
        return tuple(dict.fromkeys((*keys, *map(self.root, keys))))

    def root(self, key: int) -> int:
        """Return the key that stands for a person."""
        while (parent := self._parent.get(key)) is not None:
            self._parent.move_to_end(key)
            key = parent
        return key

    def unite(self, keys: tuple[int, ...]) -> None:
        """Take note that one event named all these keys."""
        root = self.root(keys[0])
        for key in keys[1:]:
            other = self.root(key)
            if other != root:
                self._parent[other] = root
        while len(self._parent) > self.limit:
            self._parent.popitem(last=False)


class Person:
    """One held person: every identity seen while held."""

    __slots__ = ("keys",)

    def __init__(self, keys: Iterable[int]) -> None:
        self.keys = set(keys)


class Holds:
    """What lease passes over: parked batch keys and held persons (seams.Held).

    Asking `order` about an event that links a held person to another identity holds that identity too: what comes
    after a skipped linking event must not overtake it. Nothing is let go while a lease runs: `settle` does it just
    before the next one, together with a rewind, so that skipped records come before later ones.
    """

    def __init__(
        self, links: Links, *, persons_limit: int = HELD_PERSONS_LIMIT, keys_a_person: int = KEYS_A_PERSON
    ) -> None:
        self.persons_limit = persons_limit
        self.keys_a_person = keys_a_person
        self.persons = 0
        self.batch_keys: set[bytes] = set()
        self._links = links
        self._by_key: dict[int, Person] = {}
        self._free: list[Person] = []
        self._let_go: set[bytes] = set()
        self._rewind = False

    @property
    def keys_limit(self) -> int:
        """Return how many identities may be held in all."""
        return self.persons_limit * self.keys_a_person

    def __bool__(self) -> bool:
        return bool(self.batch_keys or self._by_key)

    def key(self, batch_key: bytes) -> bool:
        """Return whether records of this batch key are held."""
        return batch_key in self.batch_keys

    def order(self, keys: tuple[int, ...]) -> bool:
        """Return whether records with these order keys are held; identities named beside a held one become held."""
        if not self._by_key:
            return False
        if len(self._by_key) >= self.keys_limit:
            return True
        every = self._links.expand(keys)
        if not any(key in self._by_key for key in every):
            return False
        self._join(every)
        return True

    def hold_person(self, keys: tuple[int, ...]) -> bool:
        """Hold a person from here on; False if there is no room for another."""
        if self.persons >= self.persons_limit or len(self._by_key) >= self.keys_limit:
            return False
        person = Person(keys)
        self.persons += 1
        for key in person.keys:
            self._by_key[key] = person
        return True

    def hold_key(self, batch_key: bytes) -> None:
        """Hold a batch key."""
        self.batch_keys.add(batch_key)
        self._let_go.discard(batch_key)

    def let_go_key(self, batch_key: bytes) -> None:
        """Let a batch key go before the next lease."""
        if batch_key in self.batch_keys:
            self._let_go.add(batch_key)

    def relieve(self, keys: tuple[int, ...], waiting: Callable[[int], int], low: int) -> None:
        """Let the person of these keys go before the next lease if few enough of its records wait in the window."""
        for key in keys:
            person = self._by_key.get(key)
            if person is not None and all(waiting(other) <= low for other in person.keys):
                self._free.append(person)

    def rewind(self) -> None:
        """Ask for a rewind before the next lease (records were released)."""
        self._rewind = True

    @property
    def restless(self) -> bool:
        """Return whether `settle` would ask for a rewind."""
        return self._rewind or bool(self._free) or bool(self._let_go)

    def settle(self) -> bool:
        """Let go what may go; return whether the spool must be rewound. To be called right before a lease."""
        for person in self._free:
            # A person that was joined to another, or freed twice, owns no keys any more.
            own = [key for key in person.keys if self._by_key.get(key) is person]
            for key in own:
                del self._by_key[key]
            self.persons -= bool(own)
        rewind = self.restless
        self._free.clear()
        self.batch_keys -= self._let_go
        self._let_go.clear()
        self._rewind = False
        return rewind

    def _join(self, keys: tuple[int, ...]) -> None:
        """Make all these keys, and all the persons they belong to, one held person."""
        persons = list(dict.fromkeys(self._by_key[key] for key in keys if key in self._by_key))
        whole = persons[0]
        for other in persons[1:]:
            whole.keys |= other.keys
            self.persons -= 1
            for key in other.keys:
                self._by_key[key] = whole
        for key in keys:
            whole.keys.add(key)
            self._by_key[key] = whole


class HoldNothing:
    """Leases whatever there is (seams.Held)."""

    def __bool__(self) -> bool:
        return False

    def key(self, batch_key: bytes) -> bool:
        """Return False."""
        del batch_key
        return False

    def order(self, keys: tuple[int, ...]) -> bool:
        """Return False."""
        del keys
        return False
