"""Events cut out in bulk are what the careful way finds, whatever the bytes; or the careful way decides."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forwarder.config.model import Destination
from forwarder.vendors import pieces
from forwarder.vendors.base import BadRequest, Checked
from forwarder.vendors.door import BodyRoute
from forwarder.vendors.telemetrydeck import paths
from forwarder.vendors.telemetrydeck.check import SignalCheck
from forwarder.vendors.telemetrydeck.paths import IngestPath
from forwarder.vendors.telemetrydeck.targets import Targets
from tests.support.bodies import STAMP, STAMPED

TD = Destination(name="td", kind="telemetrydeck", url="http://127.0.0.1:1")
MAX_EVENT = 100_000
MUST = b'"appID":"a","clientUser":"u","type":"t"'
GOOD = b"{" + MUST + b',"payload":{"x":1}}'
NESTED = b"{" + MUST + b',"payload":{"a":{"b":1}}}'
FILL = b'{"fill":"' + b"-" * 5000 + b'",' + MUST + b',"payload":{}}'
"""Makes an array long enough to be cut in bulk."""

HOSTILE = (
    b'{"x":"},{",' + MUST + b"}",
    b'{"x":"}, {",' + MUST + b"}",
    b'{"x":"\\"},{\\"",' + MUST + b"}",
    b'{"},{":1,' + MUST + b"}",
    b'{"receivedAt":"2020-01-01T00:00:00Z",' + MUST + b"}",
    b'{"received\\u0041t":"2020-01-01T00:00:00Z",' + MUST + b"}",
    b'{"receivedAt":null,' + MUST + b"}",
    b'{"x":"\\"receivedAt\\":1",' + MUST + b"}",
    b"{" + MUST + b',"payload":{"a":{"b":{}}}}',
    b"{" + MUST + b',"payload":[{},{"a":1}]}',
    b"{" + MUST + b',"payload":[[{"x":1},{"y":2}]]}',
    b"{" + MUST + b',"payload":"{"}',
    b"{" + MUST + b',"payload":{"a":[1]}}',
    b"{" + MUST + b',"type":"again"}',
    b"{" + MUST + b',"type":1}',
    b"{\n " + MUST + b"\n}",
    b'{"x":"{",' + MUST + b"}",
    b'{"x":"[",' + MUST + b"}",
    b'{"x":"\xc3\xa9",' + MUST + b"}",
    b'{"x":"\\ud800",' + MUST + b"}",
    b'{"x":NaN,' + MUST + b"}",
    b'{"appID":"b","clientUser":"u","type":"t"}',
    b'{"x":' + b'{"x":' * 600 + b"1" + b"}" * 600 + b"," + MUST + b"}",
    b"{" + MUST,
    MUST + b"}",
    b"{}",
    b"1",
    b"",
    GOOD + b"\n" + GOOD,
)
PATHS = (paths.V2, paths.in_namespace("v3", "ns"), paths.V1)
BETWEEN = st.sampled_from([b",", b", ", b" ,", b",\n", b"\r\n,\t", b",,", b""])
EDGES = st.sampled_from([(b"[", b"]"), (b"[ ", b"\n]"), (b"[", b",]"), (b"[", b""), (b" [", b"] "), (b"[", b"]]")])
events = st.lists(st.sampled_from((GOOD, GOOD, *HOSTILE)), max_size=5)


class Careful(SignalCheck):
    """Leaves everything to the careful way."""

    def fast(self, text: bytes, received_at: bytes, key: bytes | None) -> Checked | None:
        del text, received_at, key
        return None


def route(kind: type[SignalCheck], path: IngestPath) -> BodyRoute:
    check = kind(path, Targets([TD], lambda _: path), max_event=MAX_EVENT)
    return BodyRoute(array=check, single=check, max_event=MAX_EVENT)


FAST = [route(SignalCheck, path) for path in PATHS]
CAREFUL = [route(Careful, path) for path in PATHS]
SIGNALS, SLOW = FAST[0], CAREFUL[0]


def told(way: BodyRoute, body: bytes) -> Checked | BadRequest:
    answer = way.check(body, received_at=STAMP)
    if isinstance(answer, Checked):
        answer.refused = [*answer.refused]
    return answer


def array(events: list[bytes], between: bytes = b",") -> bytes:
    return b"[" + between.join(events) + b"]"


@given(events, BETWEEN, EDGES, st.integers(0, 5))
def test_an_array_cut_in_bulk_is_what_the_careful_way_makes_of_it(
    found: list[bytes], between: bytes, edges: tuple[bytes, bytes], at: int
) -> None:
    body = edges[0] + between.join([*found[:at], FILL, *found[at:]]) + edges[1]
    for fast, careful in zip(FAST, CAREFUL, strict=True):
        assert told(fast, body) == told(careful, body)


@given(st.lists(st.tuples(st.sampled_from((GOOD, FILL, *HOSTILE)), EDGES), min_size=1, max_size=5), st.booleans())
def test_bodies_checked_together_are_what_the_careful_way_makes_of_each(
    found: list[tuple[bytes, tuple[bytes, bytes]]],
    arrays: bool,  # noqa: FBT001
) -> None:
    bodies = [edges[0] + event + edges[1] if arrays else event for event, edges in found]
    for fast, careful in zip(FAST, CAREFUL, strict=True):
        checked = fast.check_each(bodies, received_at=STAMP)
        if checked is None:
            continue
        each = [careful.check(body, received_at=STAMP) for body in bodies]
        taken = [one for one in each if isinstance(one, Checked) and one.accepted == 1 and not one.refused]
        assert len(taken) == len(bodies) == checked.accepted
        stored = [event for group in checked.groups for event in group.events]
        assert sorted(stored) == sorted(one.groups[0].events[0] for one in taken)
        assert all(group.size == sum(map(len, group.events)) for group in checked.groups)
        assert sum(checked.warnings.values()) == sum(sum(one.warnings.values()) for one in taken)


@pytest.mark.parametrize("between", [b",", b", ", b" ,", b",\n  ", b"\r\n,\t"])
def test_evenly_written_arrays_are_cut_in_bulk_whatever_stands_between_events(between: bytes) -> None:
    cut = pieces.of_array(array([GOOD, FILL, GOOD], between))
    assert cut is not None
    assert cut.pieces == [event[1:-1] for event in (GOOD, FILL, GOOD)]
    assert cut.size == 2 * len(GOOD) + len(FILL)


@pytest.mark.parametrize(
    "body",
    [
        array([b'{"x":"},{",' + MUST + b"}", GOOD, FILL]),
        b"[" + GOOD + b"," + b'{"x":"},{",' + MUST + b"} , " + FILL + b"]",
        array([b'{"x":"},{","y":1} , {' + MUST + b"}", FILL]),
        array([b"{" + MUST + b',"payload":[{"x":1},{"y":2}]}', GOOD, FILL]),
        array([GOOD, GOOD + b"\n" + GOOD, FILL]),
        array([GOOD + GOOD, FILL]),
        array([GOOD, b"", FILL]),
        array([GOOD, FILL], b",,"),
        array([GOOD, FILL]) + b"]",
        b"[" + GOOD + b"," + FILL + b"}]",
        b"[{" + GOOD + b"," + FILL + b"]",
        b"[" + GOOD + b",1," + FILL + b"]",
        b"[" + GOOD + b'},{"x":1' + FILL + b"]",
        array([GOOD, MUST + b"}", b"{" + MUST, FILL]),
        b"[ " + MUST + b"}," + FILL + b"]",
        b"[" + FILL + b"," + GOOD[:-1] + b" ]",
        array([b"{" + MUST + b',"payload":{"a":[1]}}', FILL]),
    ],
)
def test_a_wrong_cut_is_never_believed(body: bytes) -> None:
    assert told(SIGNALS, body) == told(SLOW, body)


@pytest.mark.parametrize(
    "bodies",
    [
        [b"{" + MUST + b"}\n{" + MUST + b',"x":1', b'"y":1}'],
        [b"{" + MUST + b',"x":[{"y":1}', b'{"z":1}]}'],
        [b"{" + MUST + b',"x":"', b'"}'],
        [GOOD + b"\n" + GOOD],
        [GOOD, GOOD + GOOD],
        [b"[" + GOOD, GOOD + b"]"],
        [b"[" + GOOD + b"]", GOOD],
        [b"[" + GOOD + b"]\n[" + GOOD + b"]"],
        [b"[" + GOOD + b"}]"],
        [b"[", b"]"],
        [b"[{]"],
        [b"[}]"],
        [b"{"],
        [b""],
        [b"", GOOD],
        [b'{"x":"}', b'{",' + MUST + b"}", GOOD + GOOD],
        [b"[[" + GOOD + b"]]"],
    ],
)
def test_bodies_that_are_only_events_together_are_not_checked_together(bodies: list[bytes]) -> None:
    assert SIGNALS.check_each(bodies, received_at=STAMP) is None


def test_arrays_are_cut_in_bulk_and_their_events_stamped_in_place() -> None:
    checked = SIGNALS.check(array([GOOD, FILL, GOOD]), received_at=STAMP)
    assert isinstance(checked, Checked)
    assert checked.groups[0].events == [STAMPED + event[1:] for event in (GOOD, FILL, GOOD)]
    assert checked.groups[0].size == sum(map(len, checked.groups[0].events))


@pytest.mark.parametrize("together", [True, False])
@pytest.mark.parametrize(
    ("events", "warnings"),
    [
        ([GOOD, FILL, GOOD], {}),
        ([b"{" + MUST + b"}", NESTED, FILL], {"nested_payload": 1}),
        ([NESTED, b"{" + MUST + b"}", FILL], {"nested_payload": 1}),
        ([b"{" + MUST + b"}", FILL], {}),
        ([NESTED, FILL, NESTED], {"nested_payload": 2}),
        ([b"{" + MUST + b',"payload":{"a":[1]}}', FILL], {"nested_payload": 1}),
    ],
    ids=["plain", "one has none and the next has two", "the same the other way", "one has none", "two", "a list"],
)
def test_the_containers_of_one_event_do_not_make_up_for_those_of_another(
    events: list[bytes],
    warnings: dict[str, int],
    together: bool,  # noqa: FBT001
) -> None:
    answer = (
        SIGNALS.check_each(events, received_at=STAMP) if together else SIGNALS.check(array(events), received_at=STAMP)
    )
    assert isinstance(answer, Checked)
    assert answer.warnings == warnings


def test_an_event_of_many_containers_in_an_array_cut_in_bulk_is_refused_by_its_index() -> None:
    deep = b'{"x":' + b'{"x":' * 600 + b"1" + b"}" * 600 + b"," + MUST + b"}"
    checked = SIGNALS.check(array([GOOD, deep, FILL]), received_at=STAMP)
    assert isinstance(checked, Checked)
    assert [(each.index, each.reason) for each in checked.refused] == [(1, "too_deep")]
    assert checked.accepted == 2


def test_the_largest_event_passes_among_others_and_one_byte_more_is_refused() -> None:
    for beyond in (0, 1):
        width = MAX_EVENT - len(b'{"x":"",' + MUST + b"}") + beyond
        largest = b'{"x":"' + b"-" * width + b'",' + MUST + b"}"
        answer = SIGNALS.check(array([GOOD, largest]), received_at=STAMP)
        assert isinstance(answer, Checked)
        assert (answer.accepted, len(answer.refused)) == (2 - beyond, beyond)
        assert (SIGNALS.check_each([GOOD, largest], received_at=STAMP) is None) == bool(beyond)
