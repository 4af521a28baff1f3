"""The admin listener. On a non-loopback address it serves only /livez, /readyz and /metrics."""

import base64
import hashlib
import ipaddress
import socket
from collections.abc import Awaitable, Callable, Iterable
from importlib import resources
from typing import Self

import msgspec
from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST

from forwarder.admin import letters
from forwarder.admin.history import History
from forwarder.config.model import Address
from forwarder.core.report import Reporter
from forwarder.core.seams import DaemonView
from forwarder.metrics import Metrics
from forwarder.sources import head
from forwarder.sources.answers import Denial
from forwarder.sources.gate import Gate

OPEN_PATHS = frozenset({"/livez", "/readyz", "/metrics"})
"""What is served beyond loopback."""
SHUTDOWN_TIMEOUT_S = 2.0
_READING = frozenset({"GET", "HEAD"})

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class AdminServer:
    """Serves the daemon's view. `async with` binds `address`, or takes the bound socket that systemd passed."""

    def __init__(
        self,
        view: DaemonView,
        reporter: Reporter,
        metrics: Metrics,
        *,
        address: Address,
        bound: socket.socket | None = None,
        allowed_hosts: Iterable[str] = (),
        history: History | None = None,
        latest_letters: letters.Latest | None = None,
    ) -> None:
        self._view = view
        self._reporter = reporter
        self._metrics = metrics
        self._address = address
        self._bound = bound
        self._hosts = tuple(allowed_hosts)
        self._history = history
        self._latest_letters = latest_letters
        self._page, self._policy = _load_page()
        self._runner: web.AppRunner | None = None
        self._local = True
        self._checks_host = True
        self._gate = Gate(check_host=True, check_token=False, hosts=self._hosts, origins=())

    async def __aenter__(self) -> Self:
        app = web.Application(middlewares=[self._guard], client_max_size=1024)
        app.router.add_get("/livez", self._livez)
        app.router.add_get("/readyz", self._readyz)
        app.router.add_get("/metrics", self._metrics_text)
        app.router.add_get("/status", self._status)
        app.router.add_get("/history", self._past)
        app.router.add_get("/dead-letters", self._letters)
        app.router.add_get("/", self._index)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=SHUTDOWN_TIMEOUT_S)
        await self._runner.setup()
        try:
            await self._site(self._runner).start()
        except OSError:
            await self._runner.cleanup()
            raise
        self._local = all(_is_local(name) for name in self._runner.addresses)
        is_tcp = any(isinstance(name, tuple) for name in self._runner.addresses)
        self._checks_host = self._local and is_tcp
        self.allow(self._hosts)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    @property
    def port(self) -> int:
        """Return the bound TCP port; 0 on a unix socket."""
        assert self._runner is not None  # noqa: S101 (only while open)
        name = self._runner.addresses[0]
        return int(name[1]) if isinstance(name, tuple) else 0

    def allow(self, hosts: Iterable[str]) -> None:
        """Take other `allowed_hosts` (reload)."""
        self._hosts = tuple(hosts)
        self._gate = Gate(check_host=self._checks_host, check_token=False, hosts=self._hosts, origins=())

    def _site(self, runner: web.AppRunner) -> web.BaseSite:
        if self._bound is not None:
            return web.SockSite(runner, self._bound)
        if self._address.unix is not None:
            return web.UnixSite(runner, self._address.unix)
        return web.TCPSite(runner, self._address.host, self._address.port)

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Let only reading, welcome requests through; errors are JSON."""
        denial = self._denial(request)
        if denial is not None:
            return _error(denial.status, denial.error)
        try:
            return await handler(request)
        except web.HTTPException as exc:
            return _error(exc.status, "no such path; there are /livez /readyz /metrics /status and /")

    def _denial(self, request: web.Request) -> Denial | None:
        if request.method not in _READING:
            error = "this listener only reads; use the command line, which talks to the control socket"
            return Denial(status=405, error=error, reason="method")
        version = f"{request.version.major}.{request.version.minor}"
        found = head.read(request.method, request.raw_path.encode("latin-1"), version, request.raw_headers)
        if isinstance(found, Denial):
            return found
        denial = self._gate.check(found, None).denial
        if denial is None and not self._local and request.path not in OPEN_PATHS:
            error = "beyond loopback only /livez /readyz /metrics are served"
            return Denial(status=404, error=error, reason="unknown_path")
        return denial

    async def _livez(self, _: web.Request) -> web.Response:
        return _state(self._view.stuck())

    async def _readyz(self, _: web.Request) -> web.Response:
        degraded = self._view.degraded()
        return _state(self._view.not_accepting(), well=f"ok, but {degraded}" if degraded else "ok")

    async def _metrics_text(self, _: web.Request) -> web.Response:
        return _answer(self._metrics.exposition(), content_type=CONTENT_TYPE_LATEST)

    async def _status(self, _: web.Request) -> web.Response:
        return _answer(msgspec.json.encode(self._reporter.report()), content_type="application/json")

    async def _past(self, _: web.Request) -> web.Response:
        series = self._history.series() if self._history is not None else {}
        return _answer(msgspec.json.encode(series), content_type="application/json")

    async def _letters(self, _: web.Request) -> web.Response:
        found = await letters.shown(self._latest_letters) if self._latest_letters is not None else {}
        return _answer(msgspec.json.encode(found), content_type="application/json")

    async def _index(self, _: web.Request) -> web.Response:
        response = _answer(self._page, content_type="text/html; charset=utf-8")
        response.headers["Content-Security-Policy"] = self._policy
        return response


def _state(problem: str | None, *, well: str = "ok") -> web.Response:
    text = f"{problem or well}\n"
    return _answer(text.encode(), status=503 if problem else 200, content_type="text/plain; charset=utf-8")


def _error(status: int, error: str) -> web.Response:
    response = _answer(msgspec.json.encode({"error": error}), status=status, content_type="application/json")
    if status == 405:  # noqa: PLR2004 (method not allowed)
        response.headers["Allow"] = "GET, HEAD"
    return response


def _answer(body: bytes, *, content_type: str, status: int = 200) -> web.Response:
    headers = {
        "Content-Type": content_type,
        "Cache-Control": "no-store",
        "X-Content-Type-Options": "nosniff",
        "X-Frame-Options": "DENY",
        "Referrer-Policy": "no-referrer",
    }
    return web.Response(body=body, status=status, headers=headers)


def _load_page() -> tuple[bytes, str]:
    """Return the page and the policy under which nothing but its own script and style can run."""
    page = resources.files("forwarder.admin").joinpath("page.html").read_bytes()
    script = _between(page, b"<script>", b"</script>")
    style = _between(page, b"<style>", b"</style>")
    policy = (
        f"default-src 'none'; script-src '{_hash(script)}'; style-src '{_hash(style)}'; connect-src 'self'; "
        "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return page, policy


def _between(page: bytes, start: bytes, end: bytes) -> bytes:
    return page.partition(start)[2].partition(end)[0]


def _hash(source: bytes) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(source).digest()).decode()


def _is_local(name: object) -> bool:
    """Return whether a bound socket name is loopback or a unix path."""
    if not isinstance(name, tuple):
        return True
    return ipaddress.ip_address(str(name[0]).partition("%")[0]).is_loopback
