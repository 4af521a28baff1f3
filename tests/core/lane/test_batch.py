from hypothesis import given
from hypothesis import strategies as st

from forwarder.core.lane.batch import Batch, Batcher, Cut
from forwarder.core.lane.expiry import Ages
from forwarder.core.lane.limit import Limits
from forwarder.core.spool.frame import Span
from tests.support.fake_spool import build_frame

WALL = 1000.0


def span(count: int, *, sequence: int = 1, key: bytes = b"k", size: int = 10, accepted_at: float = WALL) -> Span:
    events = [b"x" * size for _ in range(count)]
    frame = build_frame(events, sequence=sequence, key=key, accepted_at=accepted_at)
    return Span(frame, 0, count)


def batcher(
    *, interval: float = 10.0, max_events: int = 100, max_bytes: int = 100_000, single: bool = False
) -> Batcher:
    return Batcher(interval=interval, max_events=max_events, limits=Limits(max_bytes), single=lambda _: single)


def test_a_frame_of_exactly_max_events_passes_whole() -> None:
    queue = batcher()
    whole = span(100)
    queue.add([whole], now=0, wall=WALL)
    batch = queue.take(0)
    assert batch is not None
    assert batch.spans == [whole]
    assert queue.take(0) is None


def test_a_partial_batch_goes_when_its_oldest_record_has_waited_the_interval() -> None:
    queue = batcher()
    queue.add([span(3)], now=0, wall=WALL)
    queue.add([span(2, sequence=4)], now=4, wall=WALL + 4)
    assert queue.due_at() == 10
    assert queue.take(9.99) is None
    batch = queue.take(10)
    assert batch is not None
    assert batch.count == 5
    assert queue.due_at() is None


def test_time_spent_in_the_spool_counts_as_waiting() -> None:
    queue = batcher()
    queue.add([span(3, accepted_at=WALL - 7)], now=100, wall=WALL)
    assert queue.due_at() == 103


def test_a_clock_that_jumped_back_cannot_make_a_record_wait_longer_than_the_interval() -> None:
    queue = batcher()
    queue.add([span(3, accepted_at=WALL + 5000)], now=100, wall=WALL)
    assert queue.due_at() == 110


def test_only_full_batches_are_cut_while_more_is_about_to_be_leased() -> None:
    queue = batcher()
    queue.add([span(130, accepted_at=WALL - 60)], now=0, wall=WALL)
    first = queue.take(0, Cut.FULL)
    assert first is not None
    assert first.count == 100
    assert queue.take(0, Cut.FULL) is None
    rest = queue.take(0, Cut.DUE)
    assert rest is not None
    assert rest.count == 30


def test_batch_keys_are_never_mixed() -> None:
    queue = batcher()
    queue.add([span(2, key=b"a"), span(2, sequence=3, key=b"b"), span(2, sequence=5, key=b"a")], now=0, wall=WALL)
    batches = [queue.take(0, Cut.ALL), queue.take(0, Cut.ALL)]
    assert sorted((b.key, b.count) for b in batches if b) == [(b"a", 4), (b"b", 2)]


def test_a_single_event_key_goes_one_record_a_request() -> None:
    queue = batcher(single=True)
    queue.add([span(3)], now=0, wall=WALL)
    counts = [batch.count for batch in iter(lambda: queue.take(0), None)]
    assert counts == [1, 1, 1]


def test_a_record_larger_than_the_limit_goes_alone() -> None:
    queue = batcher(max_bytes=100)
    queue.add([span(1, size=40), span(1, sequence=2, size=500), span(1, sequence=3, size=40)], now=0, wall=WALL)
    batches = list(iter(lambda: queue.take(0, Cut.ALL), None))
    assert [[s.first for s in batch.spans] for batch in batches] == [[1], [2], [3]]


def test_a_dropped_key_leaves_the_others() -> None:
    queue = batcher()
    queue.add([span(2, key=b"a"), span(2, sequence=3, key=b"b")], now=0, wall=WALL)
    assert [s.first for s in queue.drop(b"a")] == [1]
    left = queue.take(0, Cut.ALL)
    assert left is not None
    assert left.key == b"b"
    assert queue.take(0, Cut.ALL) is None


def test_a_sweep_takes_out_only_what_is_too_old() -> None:
    queue = batcher()
    queue.add([span(2, accepted_at=WALL - 100), span(2, sequence=3, accepted_at=WALL)], now=0, wall=WALL)
    expired = queue.sweep(Ages(max_age=50, profile_max_age=50), now=0, wall=WALL)
    assert [s.first for s in expired] == [1]
    left = queue.take(0, Cut.ALL)
    assert left is not None
    assert left.first == 3


def test_new_limits_apply_to_what_waits() -> None:
    queue = batcher(interval=100)
    queue.add([span(30)], now=0, wall=WALL)
    assert queue.take(0) is None
    queue.retune(interval=100, max_events=10, now=0, wall=WALL)
    assert [batch.count for batch in iter(lambda: queue.take(0), None)] == [10, 10, 10]


def test_the_far_end_is_taken_within_the_limits_and_nothing_is_lost() -> None:
    queue = batcher(max_events=100)
    queue.add([span(130), span(170, sequence=131)], now=0, wall=WALL)
    far = queue.far()
    assert far is not None
    assert [(s.first, s.end) for s in far.spans] == [(201, 301)]
    assert [batch.count for batch in iter(lambda: queue.take(0, Cut.ALL), None)] == [100, 100]
    assert queue.far() is None
    assert queue.due_at() is None


@given(
    st.lists(st.tuples(st.integers(1, 40), st.integers(1, 60), st.sampled_from([b"a", b"b"])), max_size=20),
    st.integers(1, 30),
    st.integers(20, 400),
    st.integers(0, 5),
)
def test_every_record_leaves_once_in_order_within_both_limits(
    frames: list[tuple[int, int, bytes]], max_events: int, max_bytes: int, takes_far: int
) -> None:
    queue = batcher(max_events=max_events, max_bytes=max_bytes)
    sequence = 1
    expected: dict[bytes, list[int]] = {b"a": [], b"b": []}
    for count, size, key in frames:
        queue.add([span(count, sequence=sequence, key=key, size=size)], now=0, wall=WALL)
        expected[key] += range(sequence, sequence + count)
        sequence += count
    seen: dict[bytes, list[int]] = {b"a": [], b"b": []}
    far = [batch for _ in range(takes_far) if (batch := queue.far())]
    far.sort(key=lambda batch: batch.first)
    for batch in (*iter(lambda: queue.take(0, Cut.ALL), None), *far):
        assert batch.count <= max_events
        assert batch.count == 1 or batch.size + 2 <= max_bytes
        assert batch.size == len(b",".join(bytes(s.data) for s in batch.spans))
        seen[batch.key] += [seq for s in batch.spans for seq in range(s.first, s.end)]
    assert seen == expected


@given(st.lists(st.integers(1, 9), min_size=1, max_size=9), st.data())
def test_a_split_keeps_all_records_in_order(counts: list[int], data: st.DataObject) -> None:
    spans, sequence = [], 1
    for count in counts:
        spans.append(span(count, sequence=sequence))
        sequence += count
    batch = Batch(b"k", spans)
    at = data.draw(st.integers(0, batch.count))
    head, tail = batch.split(at)
    assert head.count == at
    assert [seq for s in (*head.spans, *tail.spans) for seq in range(s.first, s.end)] == list(range(1, sequence))
