"""The look-ahead: how much a lane leases, so that its memory does not grow with the backlog."""

from collections.abc import Sequence

from forwarder.core.lane.rules import Rules
from forwarder.core.lane.window import Window
from forwarder.core.spool.frame import Span

MIB = 1024 * 1024
BATCHED_WINDOW = 8 * MIB
"""Enough for every request in flight and as much again; memory per lane, whatever the backlog."""
REFILL = 0.75
"""Share of an ordered lane's records from which on it leases again: a frame that does not fit whole must not be split
anew for every record resolved."""
BATCHED_STEP = MIB
ORDERED_STEP = MIB // 4
"""One lease: the least that the spool reads from disk at once; small, so that it overshoots the records little."""


def step(window: Window, rules: Rules) -> int:
    """Return how many bytes to lease now; 0 while the window is full enough."""
    if rules.batched:
        limit = max(BATCHED_WINDOW, 4 * rules.concurrency * rules.max_bytes)
        return BATCHED_STEP if window.bytes < limit // 2 else 0
    if window.records > rules.order.records * REFILL or window.bytes >= rules.order.bytes:
        return 0
    return ORDERED_STEP


def fitting(spans: Sequence[Span], window: Window, rules: Rules) -> tuple[Sequence[Span], Sequence[Span]]:
    """Return what an ordered lane takes of a lease, and what must go back."""
    room = rules.order.records - window.records
    if sum(span.count for span in spans) <= room:
        return spans, ()
    kept: list[Span] = []
    back: list[Span] = []
    for span in spans:
        head, tail = span.split(min(max(room, 0), span.count))
        room -= head.count
        if head.count:
            kept.append(head)
        if tail.count:
            back.append(tail)
    return kept, back
