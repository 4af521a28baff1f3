"""Heads that were read before: equal bytes, but for the number behind Content-Length, mean the same request again.

Hot path (`make bench`): a head that is known costs a few comparisons instead of a dozen parser callbacks.
What llhttp and we checked for the first such head holds for the next: nothing is skipped, only not repeated.
"""

from typing import TYPE_CHECKING

from forwarder.sources.answers import PLAIN
from forwarder.sources.plan import Accept, Plan

if TYPE_CHECKING:
    from forwarder.sources.burst import Burst

MAX_HEADS = 512
"""Heads remembered; at the limit all are forgotten. None holds a write key, some may hold our own auth_token."""
MAX_BYTES = 2048
"""Bytes of a head that is remembered."""
MAX_KEPT = 1024 * 1024
"""Bytes of whole heads kept, all sizes together; at the limit all are forgotten."""
_MARKS = (b"\r\nContent-Length: ", b"\r\ncontent-length: ")
_MARK = len(_MARKS[0])
_END = b"\r\n\r\n"
_MAX_DIGITS = 10


class Known:
    """A head that was learnt: `start` up to the digits of its length, `rest` from behind them to its end."""

    __slots__ = ("accept", "burst", "rest", "start", "whole")

    def __init__(self, start: bytes, rest: bytes, accept: Accept) -> None:
        self.start = start
        self.rest = rest
        self.accept = accept
        self.whole: dict[int, bytes] = {}
        """The head with its length, by the size of head and body together (only for small bodies)."""
        self.burst: Burst | None = None
        """What requests with this head go into until they are checked."""

    def body(self, data: bytes, at: int) -> tuple[int, int] | None:
        """Return where the body starts and stops, if `data[at:]` starts with this head; None if not."""
        start, rest = self.start, self.rest
        if not data.startswith(start, at):
            return None
        first = at + len(start)
        last = data.find(b"\r", first)
        digits = data[first:last]
        if not data.startswith(rest, last) or not digits.isdigit() or len(digits) > _MAX_DIGITS:
            return None
        last += len(rest)
        return last, last + int(digits)


class Familiar:
    """The heads one listener has learnt."""

    __slots__ = ("_heads", "_kept", "latest")

    def __init__(self) -> None:
        self.latest: Known | None = None
        """What a new connection may try first: clients of one kind send the same head."""
        self._heads: dict[bytes, Known] = {}
        self._kept = 0

    def forget(self) -> None:
        """Forget everything: the rules have changed."""
        self._forget_sizes()
        self._heads.clear()
        self.latest = None

    def _forget_sizes(self) -> None:
        self._kept = 0
        for known in self._heads.values():
            known.whole.clear()

    def keep(self, known: Known, size: int, head: bytes) -> bool:
        """Keep the whole head of a request of so many bytes: one comparison finds its body the next time.

        False if `known` itself has been forgotten: nothing would ever clear what it keeps.
        """
        if self._heads.get(known.start + known.rest) is not known:
            return False
        if self._kept >= MAX_KEPT:
            self._forget_sizes()
        if size not in known.whole:
            known.whole[size] = head
            self._kept += len(head)
        return True

    def find(self, data: bytes, at: int) -> Known | None:
        """Return the head that `data[at:]` may start with (`Known.body` tells); None when none is known."""
        end = data.find(_END, at)
        mark = data.find(_MARKS[0], at, end)
        if mark < 0:
            mark = data.find(_MARKS[1], at, end)
            if mark < 0:
                return None
        first = mark + _MARK
        found = self._heads.get(data[at:first] + data[data.find(b"\r\n", first) : end + 4])
        if found is not None:
            self.latest = found
        return found

    def learn(self, raw: bytes, method: str, headers: int, plan: Plan) -> None:
        """Remember the plan of a head, if `raw` is that whole head and nothing but a length frames the body.

        The parser has read the same bytes: as many lines as headers, each with its CRLF, from the method to the empty
        line. llhttp has refused a second Content-Length, so the mark stands for the only one.
        """
        action = plan.action
        if not isinstance(action, Accept) or plan.shape is not PLAIN or plan.expect or plan.coding:
            return
        if plan.length is None or action.key is not None or not action.route.cacheable:
            return
        lines = raw.count(b"\r\n")
        whole = lines == headers + 2 and raw.count(b"\n") == lines and raw.endswith(_END)
        mark = max(raw.find(each) for each in _MARKS)
        if whole and mark >= 0 and raw.startswith(method.encode() + b" "):
            first = mark + _MARK
            start, rest = raw[:first], raw[raw.find(b"\r\n", first) :]
            if start + rest in self._heads:  # known already; its body came in another read
                return
            if len(self._heads) >= MAX_HEADS:
                self.forget()
            self._heads[start + rest] = Known(start, rest, action)
