"""The request being read: llhttp's callbacks, its body, and the limits that llhttp does not have.

`feed` is given small slices, so that limits are looked at often. Whatever is wrong raises `body.Refused`.
"""

from collections.abc import Callable
from typing import Protocol

import httptools

from forwarder.sources import body, head
from forwarder.sources.answers import Denial, Shape
from forwarder.sources.body import Refused
from forwarder.sources.inflight import Inflight
from forwarder.sources.plan import Accept, Fixed, Plan
from forwarder.sources.rtsp import Reading, Watch

SLICE = 16 * 1024
"""Bytes to feed at once."""
SLICE_INFLATED = 1024
"""The same for a compressed body: at most about a thousand times as much comes out."""
MAX_QUIET = 32 * 1024
"""Bytes of chunk headers, extensions or trailers in a row without any body."""
MAX_OVERHEAD = 16
"""Times as many bytes of chunking as of body, beside MAX_QUIET."""
MAX_DISCARD = 1024 * 1024
"""Bytes of an unwanted body that are read, to keep the connection, before it is answered at once and closed."""


class Sink(Protocol):
    """What a connection does with what its reader finds."""

    def plan(self, method: str, target: bytes, version: str, headers: list[tuple[bytes, bytes]], keep: bool) -> Plan:  # noqa: FBT001 - llhttp's answer, handed on
        """Decide what to do with a request; raises Refused."""

    def learn(self, raw: bytes, method: str, headers: int, plan: Plan) -> None:
        """Remember the plan of this head."""

    def proceed(self) -> None:
        """Send 100 Continue."""

    def accept(self, action: Accept, shape: Shape, data: bytes, size: int) -> None:
        """Take a whole request; `size` bytes of it count as in flight."""

    def reply(self, action: Fixed | Denial, shape: Shape) -> None:
        """Take a whole request whose body does not matter."""

    def last(self) -> None:
        """No request follows: a trailer said so."""


class Reader:
    """Reads the requests of one connection. `max_body` is looked up for every request: a reload changes it."""

    between: bool
    """No request has begun."""
    _begun: bool
    _lined: bool
    """The request line is known to be over."""
    _progress: bool
    _upgrading: bool
    _plan: Plan | None
    _inflater: body.Inflater | None
    _headers: list[tuple[bytes, bytes]]
    _parts: list[bytes]
    _target: bytes
    _raw: bytes
    _size: int
    """Bytes of `_parts`: the body so far, inflated; counted as in flight."""
    _taken: int
    """Bytes of the body as they came."""
    _wire: int
    """Bytes fed for this request."""
    _quiet: int
    """Bytes fed since the last progress."""

    def __init__(self, sink: Sink, inflight: Inflight) -> None:
        self.phase = 0
        """Counts heads begun and bodies begun: each has its own time-out."""
        self._sink = sink
        self._inflight = inflight
        self.max_body = 0
        self._synthetic = False
        self._refused: Refused | None = None
        self._parser = httptools.HttpRequestParser(self)
        self._watch = Watch(self._in_target)
        self._aimed = False
        """A piece of the target came."""
        self._reset()

    @property
    def in_head(self) -> bool:
        """Return whether the head is still incomplete."""
        return self._plan is None

    def stop(self, data: bytes, at: int) -> int:
        """Return up to where to feed `data[at:]` next. Raises Refused."""
        stop = min(at + (SLICE if self._inflater is None else SLICE_INFLATED), len(data))
        plan = self._plan
        if plan is None:
            return self._watch.stop(Reading.HEADERS if self._lined else Reading.LINE, data, at, stop)
        if plan.length is None:
            return self._watch.stop(Reading.CHUNKS, data, at, stop)
        return min(at + plan.length - self._taken, stop)

    @property
    def shape(self) -> Shape | None:
        """Return how the request being read wants its answer, once known."""
        return None if self._plan is None else self._plan.shape

    def candidate(self, raw: bytes) -> None:
        """Offer the bytes that may be the whole head of the next request, to be learnt."""
        self._raw = raw

    def feed(self, piece: memoryview) -> int:
        """Parse; return how many bytes are used up (fewer only after an ignored Upgrade). Raises Refused."""
        used = len(piece)
        self._progress = False
        try:
            self._parser.feed_data(piece)
        except httptools.HttpParserUpgrade as upgrade:
            used = upgrade.args[0]
            self._ignore_upgrade()
        except httptools.HttpParserCallbackError as error:
            raise self._refused or error from None
        except httptools.HttpParserError as error:
            raise Refused(_not_http(str(error))) from None
        if not self.between:
            self._count(used)
        return used

    def drop(self) -> None:
        """Forget the request being read and give its memory back."""
        size = self._size
        self._reset()
        self._inflight.release(size)

    def _in_target(self) -> bool:
        """Return whether the target is being read: fed nothing, llhttp then hands over an empty piece of it."""
        if self.between or self._plan is not None:
            return False
        self._aimed = False
        self._parser.feed_data(b"")
        self._lined = self._target != b"" and not self._aimed
        return self._aimed

    def _count(self, used: int) -> None:
        """Bound what llhttp keeps or skips without a callback: endless heads, chunk extensions, trailers."""
        if self._begun:
            self._begun = False  # where in this slice it began is unknown
            return
        self._wire += used
        self._quiet = 0 if self._progress else self._quiet + used
        if self._plan is None:
            if self._quiet > head.MAX_HEAD:
                raise Refused(head.too_long())
        elif self._quiet > MAX_QUIET or self._wire > MAX_QUIET + MAX_OVERHEAD * self._taken:
            raise Refused(_not_http("too much chunk overhead, or too long trailers"))

    def _ignore_upgrade(self) -> None:
        """Go on as if there had been no Upgrade: llhttp has dropped the body, so a new parser gets a head for it."""
        self._parser = httptools.HttpRequestParser(self)
        plan, self._upgrading = self._plan, False
        if plan is not None:
            framing = b"Transfer-Encoding: chunked" if plan.length is None else b"Content-Length: %d" % plan.length
            self._synthetic = True
            self.feed(memoryview(b"POST / HTTP/1.1\r\n%s\r\n\r\n" % framing))
            self._synthetic = False

    # ---- llhttp's callbacks

    def on_message_begin(self) -> None:
        """Start a request."""
        self.phase += 1
        self.between = False
        self._begun = True

    def on_url(self, piece: bytes) -> None:
        """Take a piece of the target."""
        self._target += piece
        self._aimed = True

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header; trailers are dropped."""
        if self._plan is None:
            self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        """Decide what to do with the request."""
        if not self._synthetic:
            self._guarded(self._head)

    def on_body(self, piece: bytes) -> None:
        """Take a piece of the body."""
        self._guarded(self._body, piece)

    def on_message_complete(self) -> None:
        """Hand the request over."""
        self._guarded(self._whole)

    def _guarded(self, step: Callable[..., None], *args: bytes) -> None:
        """Keep a refusal: what llhttp raises in its place has lost it."""
        try:
            step(*args)
        except Refused as refused:
            self._refused = refused
            raise

    # ---- what they do

    def _head(self) -> None:
        parser, headers = self._parser, self._headers
        method = parser.get_method().decode()
        plan = self._sink.plan(method, self._target, parser.get_http_version(), headers, parser.should_keep_alive())
        self._plan = plan
        self.phase += 1
        self._progress = True
        self._upgrading = parser.should_upgrade()
        if self._raw and not self._upgrading:
            self._sink.learn(self._raw, method, len(headers), plan)
        self._raw = b""
        if isinstance(plan.action, Accept):
            self._prepare(plan)
        elif isinstance(plan.action, Denial) and (plan.action.close or (plan.expect and plan.length != 0)):
            raise Refused(plan.action)

    def _body(self, piece: bytes) -> None:
        """Keep a piece of the body, or drop it when the answer is known already."""
        self._progress = True
        self._taken += len(piece)
        plan = self._plan
        if plan is None or not isinstance(plan.action, Accept):
            if self._taken > MAX_DISCARD:
                raise Refused(plan.action if plan and isinstance(plan.action, Denial) else body.too_large())
            return
        if self._inflater is not None:
            piece = self._inflater.feed(piece)
        self._size += len(piece)
        self._inflight.held += len(piece)
        self._parts.append(piece)
        if self._size > self.max_body:
            raise Refused(body.too_large())

    def _whole(self) -> None:
        plan = self._plan
        if plan is None or self._upgrading:
            return
        if self._inflater is not None:
            self._inflater.finish()
        if plan.length is None and not plan.shape.close and not self._parser.should_keep_alive():
            self._sink.last()
        parts, size = self._parts, self._size
        self._reset()
        if isinstance(plan.action, Accept):
            self._sink.accept(plan.action, plan.shape, parts[0] if len(parts) == 1 else b"".join(parts), size)
        else:
            self._sink.reply(plan.action, plan.shape)

    def _prepare(self, plan: Plan) -> None:
        if plan.coding:
            self._inflater = body.Inflater(plan.coding, self.max_body)
        if plan.expect and plan.length != 0:
            self._sink.proceed()

    def _reset(self) -> None:
        self.between = True
        self._begun = self._lined = self._progress = self._upgrading = False
        self._watch.lines = 0
        self._plan = None
        self._inflater = None
        self._headers = []
        self._parts = []
        self._target = self._raw = b""
        self._size = self._taken = self._wire = self._quiet = 0


def _not_http(what: str) -> Denial:
    return Denial(status=400, error=f"the request is not sound HTTP: {what}", reason="bad_http", close=True)
