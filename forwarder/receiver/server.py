"""The stand-in itself: an HTTP server that reads requests, lets `judge` decide, and carries out the faults ordered.

The order of things in one request: a cut before the body; the body (413 when too large); a cut after it; a status that
was ordered; the vendor's own judgement; the events are stored; a cut after that; the latency; the answer.
"""

import asyncio
import contextlib
import random
import socket
import ssl
import struct
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Literal, Self

import msgspec
from aiohttp import web

from forwarder.receiver import control, routes
from forwarder.receiver.faults import Faults, Orders, When
from forwarder.receiver.journal import Journal, Received, Seen
from forwarder.receiver.judge import Refusal, Rules, Taken, count, judge
from forwarder.receiver.routes import Target, Vendor

MAX_BODY = 256 * 1024**2
HIDDEN = frozenset({"x-encharge-token", "authorization", "cookie"})
OK = 200
NO_CONTENT = 204
FIRST_FAILURE = 300
LINGER_NONE = struct.pack("ii", 1, 0)  # close() sends RST


class Receiver:
    """`async with Receiver() as r` listens at `r.url` until the block ends. One event loop, no threads.

    `port` 0 takes any free one. `key` is the Encharge write key to demand. `journal` says what is kept. `on_request`
    is called with every finished request. `wall` and `chance` are the clock and the lots for `fail_rate`.
    """

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        key: str | None = None,
        vendors: Sequence[Vendor] = routes.VENDORS,
        require_received_at: bool = False,
        faults: Faults | Sequence[Faults] = (),
        fast: bool = False,
        journal: Journal | None = None,
        ssl_context: ssl.SSLContext | None = None,
        on_request: Callable[[Seen], None] | None = None,
        wall: Callable[[], float] = time.time,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self.journal = journal or Journal()
        self._rules = Rules(vendors=tuple(vendors), key=key, require_received_at=require_received_at)
        self._address = (host, port)
        self._fast = fast
        self._ssl = ssl_context
        self._on_request = on_request
        self._wall = wall
        self._chance = chance
        self._number = 0
        self._arrived = asyncio.Event()
        self._lifted = asyncio.Event()
        self._orders = Orders((faults,) if isinstance(faults, Faults) else faults, chance)
        self._runner: web.ServerRunner | None = None

    async def __aenter__(self) -> Self:
        self.journal.open()
        server = web.Server(self._serve, handler_cancellation=True, access_log=None, lingering_time=1.0)
        self._runner = web.ServerRunner(server, shutdown_timeout=0.5)
        await self._runner.setup()
        host, port = self._address
        site = web.TCPSite(self._runner, host, port, ssl_context=self._ssl, backlog=1024)
        try:
            await site.start()
        except OSError:
            await self.__aexit__(None, None, None)
            raise
        bound = self._runner.addresses[0]
        self._address = (bound[0], bound[1])
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lifted.set()
        if self._runner is not None:
            await self._runner.cleanup()
        self.journal.close()

    @property
    def port(self) -> int:
        """Return the port that is bound."""
        return self._address[1]

    @property
    def url(self) -> str:
        """Return the base URL, without a trailing slash."""
        host, port = self._address
        scheme = "https" if self._ssl else "http"
        return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"

    @property
    def orders(self) -> Orders:
        """Return the orders in force."""
        return self._orders

    def order(self, orders: Sequence[Faults]) -> None:
        """Replace all orders; connections that an old one holds are reset."""
        self._orders = Orders(orders, self._chance)
        self._lifted.set()
        self._lifted = asyncio.Event()

    @property
    def faults(self) -> tuple[Faults, ...]:
        """Return the orders as they were given; assign one or several to replace them."""
        return self._orders.all

    @faults.setter
    def faults(self, orders: Faults | Sequence[Faults]) -> None:
        self.order((orders,) if isinstance(orders, Faults) else tuple(orders))

    def events(self, vendor: Vendor | None = None) -> list[Received]:
        """Return the events in memory, oldest first."""
        return self.journal.events(vendor)

    def requests(self, vendor: Vendor | None = None) -> list[Seen]:
        """Return the requests in memory, oldest first."""
        return self.journal.requests(vendor)

    async def wait_for(self, condition: Callable[[Self], bool], *, timeout_s: float = 10.0) -> None:
        """Return once `condition(self)` holds, asked whenever events were stored or a request ended.

        Raises TimeoutError.
        """
        async with asyncio.timeout(timeout_s):
            while not condition(self):
                self._arrived.clear()
                await self._arrived.wait()

    async def _serve(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.path == control.PREFIX or request.path.startswith(control.PREFIX + "/"):
            return await self._control(request)
        self._number += 1
        seen = Seen(number=self._number, at=self._wall(), method=request.method, path=request.path)
        seen.headers = {k: "(hidden)" if k.lower() in HIDDEN else v for k, v in request.headers.items()}
        try:
            response = await self._vendor(request, seen)
            gone = request.transport is None or request.transport.is_closing()
            seen.status = 0 if gone else response.status
        finally:
            self._finish(seen)
        return response

    def _finish(self, seen: Seen) -> None:
        self.journal.tally(seen)
        if self._on_request is not None:
            self._on_request(seen)
        self._arrived.set()

    async def _control(self, request: web.BaseRequest) -> web.Response:
        body = await _read(request, MAX_BODY)
        reply = control.answer(request.method, request.path, request.query, body or b"", self)
        headers = {"Allow": reply.allow} if reply.allow else None
        return web.Response(status=reply.status, body=reply.body, content_type=reply.content_type, headers=headers)

    async def _vendor(self, request: web.BaseRequest, seen: Seen) -> web.Response:
        target = routes.find(request.path, request.headers.get("X-Encharge-Token"), self._rules.vendors)
        if target is None:
            return _failure(
                seen, None, 404, f"no vendor serves {request.path}; control paths are under {control.PREFIX}"
            )
        seen.path, seen.vendor = target.path, target.vendor
        if request.method != "POST":
            return _failure(seen, target, 405, f"{request.method} is not allowed on {target.path}", {"Allow": "POST"})
        order = self._orders.take(target.vendor, target.path)
        return await self._cut(request, seen, order, "before-body") or await self._body(request, seen, target, order)

    async def _body(self, request: web.BaseRequest, seen: Seen, target: Target, order: Faults) -> web.Response:
        if "Content-Encoding" in request.headers:
            return _failure(seen, target, 415, "Content-Encoding: neither vendor documents any")
        limit = MAX_BODY if order.max_body is None else order.max_body
        body = await _read(request, limit)
        if body is None:
            seen.fault = "max_body" if order.max_body is not None else ""
            return _ordered(_failure(seen, target, 413, f"the body is larger than {limit} bytes"), order)
        seen.size = len(body)
        try:
            self.journal.keep_body(seen, body)
            cut = await self._cut(request, seen, order, "after-body")
            return cut or await self._decide(request, seen, target, order, body)
        except OSError as error:
            return _failure(seen, target, 500, f"the stand-in cannot store what it got: {error}")

    async def _decide(
        self, request: web.BaseRequest, seen: Seen, target: Target, order: Faults, body: bytes
    ) -> web.Response:
        ordered = order.fail_status if self._orders.unlucky(order) else order.status
        if ordered is not None and ordered >= FIRST_FAILURE:
            seen.fault = f"status {ordered}"
            response = _ordered(_failure(seen, target, ordered, "this answer was ordered"), order)
            return await _late(response, order)
        verdict = self._judge(request, target, order, body)
        seen.vendor = verdict.target.vendor
        if isinstance(verdict, Refusal):
            seen.fault = verdict.fault
            response = _failure(seen, verdict.target, verdict.status, verdict.error)
            return await _late(_ordered(response, order) if verdict.fault else response, order)
        seen.fault = f"status {ordered}" if ordered else ""
        self._store(seen, verdict)
        cut = await self._cut(request, seen, order, "after-storing")
        return cut or await _late(_success(ordered or OK, order), order)

    def _judge(self, request: web.BaseRequest, target: Target, order: Faults, body: bytes) -> Taken | Refusal:
        if self._fast:
            return count(body, target)
        content_type = request.headers.get("Content-Type", "")
        return judge(body, target, content_type=content_type, rules=self._rules, order=order)

    def _store(self, seen: Seen, taken: Taken) -> None:
        if not self._fast:
            self.journal.add(seen, taken.target.vendor, taken.events)
        seen.events, seen.types, seen.unstamped = len(taken.events), taken.types, taken.unstamped
        self._arrived.set()

    async def _cut(self, request: web.BaseRequest, seen: Seen, order: Faults, when: When) -> web.Response | None:
        if when not in (order.reset, order.hang):
            return None
        seen.fault = f"{'reset' if order.reset == when else 'hang'} {when}"
        if order.reset != when:
            await self._lifted.wait()
        _reset(request)
        return web.Response()


async def _read(request: web.BaseRequest, limit: int) -> bytes | None:
    """Return the body, or None when it is larger than `limit` (not all of it was read then)."""
    if request.headers.get("Expect", "").lower() == "100-continue":
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0
    if (request.content_length or 0) > limit:
        return None
    chunks: list[bytes] = []
    size = 0
    while chunk := await request.content.readany():
        chunks.append(chunk)
        size += len(chunk)
        if size > limit:
            return None
    return b"".join(chunks)


def _reset(request: web.BaseRequest) -> None:
    """Make the client see a reset, not an orderly end."""
    if request.transport is None:
        return
    connection = request.transport.get_extra_info("socket")
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_NONE)
    request.transport.abort()


def _success(status: int, order: Faults) -> web.Response:
    text = order.answer if order.answer is not None else "{}"
    return web.Response(status=status, text="" if status == NO_CONTENT else text, content_type="application/json")


def _failure(
    seen: Seen, target: Target | None, status: int, error: str, headers: dict[str, str] | None = None
) -> web.Response:
    """Answer in the vendor's words: Encharge `{"error":text}`, TelemetryDeck `{"error":true,"reason":text}`."""
    seen.error = error
    plain: dict[Literal["error", "reason"], object] = {"error": error}
    if target is not None and target.vendor == "telemetrydeck":
        plain = {"error": True, "reason": error}
    body = msgspec.json.encode(plain)
    return web.Response(status=status, body=body, content_type="application/json", headers=headers)


def _ordered(response: web.Response, order: Faults) -> web.Response:
    """Dress an answer that an order brought about."""
    if order.retry_after is not None:
        response.headers["Retry-After"] = order.retry_after
    if order.answer is not None:
        response.text = order.answer
    return response


async def _late(response: web.Response, order: Faults) -> web.Response:
    if order.latency > 0:
        await asyncio.sleep(order.latency)
    return response
