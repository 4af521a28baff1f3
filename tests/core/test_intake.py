"""The intake stores a request everywhere or nowhere."""

from forwarder.core.intake import SpoolIntake
from forwarder.core.joining import Joining
from forwarder.core.seams import Busy, Done, Durability, Failed, Group, Stored


class Room:
    """As much of a spool as the intake sees."""

    def __init__(self, destination: str, *, full: bool = False) -> None:
        self.destination = destination
        self.full = full
        self.reserved = 0
        self.appended: list[tuple[Group, Durability, Done]] = []

    def reserve(self, size: int, events: int) -> Busy | None:
        if self.full:
            return Busy(self.destination, "max_size", f"destinations.{self.destination}.max_size is reached", 5)
        self.reserved += size
        return None

    def cancel(self, size: int, events: int) -> None:
        self.reserved -= size

    def append(self, group: Group, level: Durability, done: Done) -> None:
        self.appended.append((group, level, done))


def group(destination: str) -> Group:
    return Group(destination=destination, batch_key=b"k", events=[b"{}"], size=2)


def intake(*rooms: Room) -> SpoolIntake:
    return SpoolIntake({room.destination: room for room in rooms}, Joining())  # type: ignore[misc]


def test_a_full_destination_leaves_nothing_reserved_or_stored_in_the_others() -> None:
    roomy, full = Room("a"), Room("b", full=True)

    busy = intake(roomy, full).submit([group("a"), group("b")], Durability.FSYNC, lambda _: None)

    assert busy is not None
    assert busy.destination == "b"
    assert roomy.reserved == 0
    assert roomy.appended == []


def test_a_request_to_two_destinations_is_answered_once_when_both_are_durable() -> None:
    a, b = Room("a"), Room("b")
    results: list[Stored | Failed] = []

    assert intake(a, b).submit([group("a"), group("b")], Durability.FSYNC, results.append) is None
    a.appended[0][2](Stored(Durability.FSYNC))
    assert results == []
    b.appended[0][2](Stored(Durability.WRITTEN))

    assert results == [Stored(Durability.WRITTEN)]


def test_one_failed_commit_fails_the_whole_request() -> None:
    a, b = Room("a"), Room("b")
    results: list[Stored | Failed] = []
    intake(a, b).submit([group("a"), group("b")], Durability.FSYNC, results.append)

    a.appended[0][2](Failed("EIO"))
    b.appended[0][2](Stored(Durability.FSYNC))

    assert results == [Failed("EIO")]


def test_a_request_for_delivery_is_told_of_the_commit_and_then_of_the_end() -> None:
    a, b = Room("a"), Room("b")
    results: list[Stored | Failed] = []
    intake(a, b).submit([group("a"), group("b")], Durability.DELIVERED, results.append)

    a.appended[0][2](Stored(Durability.FSYNC))
    a.appended[0][2](Stored(Durability.DELIVERED))  # delivered before the other one is even committed
    assert results == []
    b.appended[0][2](Stored(Durability.FSYNC))
    assert results == [Stored(Durability.FSYNC)]
    b.appended[0][2](Failed("not delivered: died"))

    assert results == [Stored(Durability.FSYNC), Failed("not delivered: died")]


def test_a_request_for_delivery_is_not_told_that_it_arrived_when_one_spool_no_longer_knows() -> None:
    a, b = Room("a"), Room("b")
    results: list[Stored | Failed] = []
    intake(a, b).submit([group("a"), group("b")], Durability.DELIVERED, results.append)

    for room in (a, b):
        room.appended[0][2](Stored(Durability.FSYNC))
    a.appended[0][2](Stored(Durability.FSYNC))
    b.appended[0][2](Stored(Durability.DELIVERED))

    assert results == [Stored(Durability.FSYNC), Stored(Durability.FSYNC)]


def test_a_request_for_delivery_whose_commit_failed_is_told_so_once() -> None:
    a, b = Room("a"), Room("b")
    results: list[Stored | Failed] = []
    intake(a, b).submit([group("a"), group("b")], Durability.DELIVERED, results.append)

    a.appended[0][2](Stored(Durability.FSYNC))
    b.appended[0][2](Failed("EIO"))
    a.appended[0][2](Stored(Durability.DELIVERED))

    assert results == [Failed("EIO")]


def test_a_single_group_is_answered_by_its_spool_directly() -> None:
    room = Room("a")
    results: list[Stored | Failed] = []

    intake(room).submit([group("a")], Durability.WRITTEN, results.append)
    room.appended[0][2](Stored(Durability.WRITTEN))

    assert results == [Stored(Durability.WRITTEN)]


def test_a_single_full_destination_is_busy() -> None:
    room = Room("a", full=True)

    assert intake(room).submit([group("a")], Durability.FSYNC, lambda _: None) is not None
    assert room.appended == []
