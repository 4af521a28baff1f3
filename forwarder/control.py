"""The control socket: DIRECTORY/control.sock, the only way to change something in a running daemon.

    GET  /status                        the report
    POST /resume/DESTINATION            probe a parked lane now
    POST /log-level                     {"level": "debug"}
    POST /reload                        read the configuration again
    POST /dead/DESTINATION/replay       {"sequences": [1, 2], "keep_age": false}
    POST /dead/DESTINATION/purge        {"sequences": [1, 2]}
    POST /erase                         {"by": "email", "value": "a@example.com", "dry_run": false}

Answers are JSON; errors are {"error": "…"}. Only the daemon's own user and root are let in: by the socket's mode
0600 and, on Linux, by the peer's credentials.
"""

import asyncio
import contextlib
import os
import socket
import struct
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, Self, TypeVar

import msgspec
import structlog
from aiohttp import web

from forwarder.core.report import SAMPLE_GAP_S, Reporter
from forwarder.core.seams import Controls
from forwarder.errors import ForwarderError

MAX_BODY = 16 * 1024 * 1024
SHUTDOWN_TIMEOUT_S = 2.0
_LONGEST_PATH = 100
"""The kernel takes 107 bytes (macOS 103)."""
_CREDENTIALS = struct.Struct("3i")
"""struct ucred: pid, uid, gid."""

log = structlog.get_logger()
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
_Body = TypeVar("_Body", bound=msgspec.Struct)


class _Level(msgspec.Struct, forbid_unknown_fields=True):
    level: str


class _Letters(msgspec.Struct, forbid_unknown_fields=True):
    sequences: list[int]
    keep_age: bool = False


class _Person(msgspec.Struct, forbid_unknown_fields=True):
    by: str
    value: str
    dry_run: bool = False


class ControlServer:
    """Serves the control socket. `async with` binds it, replacing a stale one; `run` samples for the rates.

    The caller holds the directory's lock, so a socket that is there already is stale.
    """

    def __init__(self, path: Path, reporter: Reporter, controls: Controls) -> None:
        self._path = path
        self._reporter = reporter
        self._controls = controls
        self._runner: web.AppRunner | None = None
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        app = web.Application(middlewares=[_guard], client_max_size=MAX_BODY)
        app.router.add_get("/status", self._status)
        app.router.add_post("/resume/{destination}", self._resume)
        app.router.add_post("/log-level", self._log_level)
        app.router.add_post("/reload", self._reload)
        app.router.add_post("/dead/{destination}/replay", self._replay)
        app.router.add_post("/dead/{destination}/purge", self._purge)
        app.router.add_post("/erase", self._erase)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=SHUTDOWN_TIMEOUT_S)
        await self._runner.setup()
        assert self._runner.server is not None  # noqa: S101 (set up one line above)
        loop = asyncio.get_running_loop()
        self._server = await loop.create_unix_server(self._runner.server, sock=_bind(self._path))
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._server is not None:
            self._server.close()
        if self._runner is not None:
            await self._runner.cleanup()
        with contextlib.suppress(OSError):
            os.unlink(self._path)  # noqa: PTH108 (no event loop blocked longer than by any other name for it)

    async def run(self) -> None:
        """Take a sample for the rates every few seconds, until cancelled."""
        while True:
            self._reporter.sample()
            await asyncio.sleep(SAMPLE_GAP_S)

    async def _status(self, _: web.Request) -> web.Response:
        return _json(self._reporter.report())

    async def _resume(self, request: web.Request) -> web.Response:
        destination = request.match_info["destination"]
        return _json({"message": await self._named(destination, self._controls.resume(destination))})

    async def _log_level(self, request: web.Request) -> web.Response:
        body = await _body(request, _Level)
        try:
            return _json({"message": self._controls.log_level(body.level)})
        except ValueError as exc:
            raise _Refused(400, f"level: {exc}") from exc

    async def _reload(self, _: web.Request) -> web.Response:
        return _json({"problems": await self._controls.reload()})

    async def _replay(self, request: web.Request) -> web.Response:
        destination, body = request.match_info["destination"], await _body(request, _Letters)
        work = self._controls.replay(destination, body.sequences, keep_age=body.keep_age)
        return _json({"replayed": await self._named(destination, work)})

    async def _purge(self, request: web.Request) -> web.Response:
        destination, body = request.match_info["destination"], await _body(request, _Letters)
        return _json({"purged": await self._named(destination, self._controls.purge(destination, body.sequences))})

    async def _erase(self, request: web.Request) -> web.Response:
        body = await _body(request, _Person)
        try:
            return _json(await self._controls.erase(body.by, body.value, dry_run=body.dry_run))
        except ValueError as exc:
            raise _Refused(400, str(exc)) from exc

    async def _named(self, destination: str, work: Awaitable[Any]) -> Any:
        try:
            return await work
        except KeyError as exc:
            names = ", ".join(found.name for found in self._reporter.report().destinations)
            raise _Refused(404, f"no destination {destination!r}; there are: {names}") from exc


class _Refused(ForwarderError):
    def __init__(self, status: int, error: str) -> None:
        super().__init__(error)
        self.status = status


@web.middleware
async def _guard(request: web.Request, handler: Handler) -> web.StreamResponse:
    if (uid := _peer_uid(request)) not in (None, 0, os.geteuid()):
        return _json({"error": f"uid {uid} may not control this daemon; use its own user or root"}, 403)
    try:
        return await handler(request)
    except _Refused as exc:
        return _json({"error": str(exc)}, exc.status)
    except ForwarderError as exc:
        return _json({"error": str(exc)}, 503)
    except web.HTTPException as exc:
        return _json({"error": f"{exc.reason}: {request.method} {request.path}"}, exc.status)


def _peer_uid(request: web.Request) -> int | None:
    """Return the user at the other end; None where the kernel does not tell or the peer is gone."""
    peer = request.transport.get_extra_info("socket") if request.transport is not None else None
    option = getattr(socket, "SO_PEERCRED", None)
    if peer is None or option is None:
        return None
    return int(_CREDENTIALS.unpack(peer.getsockopt(socket.SOL_SOCKET, option, _CREDENTIALS.size))[1])


async def _body(request: web.Request, kind: type[_Body]) -> _Body:
    try:
        return msgspec.json.decode(await request.read(), type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as exc:
        raise _Refused(400, f"body: {exc}") from exc


def _json(value: object, status: int = 200) -> web.Response:
    return web.Response(body=msgspec.json.encode(value), status=status, content_type="application/json")


def _bind(path: Path) -> socket.socket:
    """Return a socket that nobody but us could have connected to before its mode was 0600."""
    with contextlib.suppress(FileNotFoundError):
        path.unlink()
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with short_path(path) as name:
            bound.bind(name)
        path.chmod(0o600)
    except OSError:
        bound.close()
        raise
    return bound


@contextlib.contextmanager
def short_path(path: Path) -> Iterator[str]:
    """Yield a name of `path` that fits into a socket address: itself, or one through /proc where it is too long."""
    if len(os.fsencode(path)) <= _LONGEST_PATH or not Path("/proc/self/fd").is_dir():
        yield str(path)
        return
    descriptor = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{descriptor}/{path.name}"
    finally:
        os.close(descriptor)
