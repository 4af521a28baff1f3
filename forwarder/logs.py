"""Logging: structlog to standard error, JSON lines or a console, without secrets and without floods.

Event names and levels are stable and listed in docs/LOGS.md; every line has `event`, `level`, `timestamp` and the facts
as further keys. A configuration key is named under `setting=`.
"""

import contextlib
import logging
import os
import re
import sys
from collections import OrderedDict
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, TextIO

import orjson
import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from forwarder.config.model import Log
from forwarder.core.seams import Clock

LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40, "critical": 50}
_JOURNAL_PRIORITIES = {"debug": 7, "info": 6, "warning": 4, "error": 3, "critical": 2}
REDACTED = "[redacted]"
REPEAT_BURST = 5
"""Lines of one kind that pass at once."""
REPEAT_EVERY_S = 5.0
"""After those, one line of the kind in this time; it says how many were suppressed."""
MAX_KINDS = 1000

_SECRET_KEY = re.compile(
    r"(^|[_-])(key|token|secret|password|passwd|authorization|cookie|credentials?)s?$", re.IGNORECASE
)
_HARMLESS_KEYS = frozenset({"batch_key", "parked_key", "parked_keys"})
_URL_USER = re.compile(r"(://)[^/@\s]*@")
_URL_QUERY = re.compile(r"(https?://[^\s?#'\"]*)\?[^\s#'\"]*")
_KEY_IN_PATH = re.compile(r"((?:^|://[^/\s]+)/v1/)[^/?\s'\"]+")
_AUTH_VALUE = re.compile(r"(?i)\b(bearer|basic)\s+[\w.~+/=-]+")


class LogControl:
    """Changes the level while the daemon runs."""

    def __init__(self, level: str) -> None:
        self.level = level

    def set_level(self, level: str) -> None:
        """Let `level` and what is more serious through; a ValueError names the levels there are."""
        if level not in LEVELS:
            raise ValueError(f"no such level: {level}; use one of {', '.join(LEVELS)}")
        self.level = level

    def __call__(self, _: WrappedLogger, method: str, event: EventDict) -> EventDict:
        """Drop what is below the level (a structlog processor)."""
        if LEVELS.get(method, 40) < LEVELS[self.level]:
            raise structlog.DropEvent
        return event


class Repetition:
    """Lets a burst of lines of one kind pass, then one every few seconds with the number suppressed between.

    A kind is the event's name with its destination and listener. Nothing is limited at level debug.
    """

    def __init__(self, control: LogControl, clock: Clock) -> None:
        self._control = control
        self._clock = clock
        self._kinds: OrderedDict[tuple[object, ...], list[float]] = OrderedDict()

    def __call__(self, _: WrappedLogger, method: str, event: EventDict) -> EventDict:
        """Drop a repetition, or say how many were dropped."""
        if self._control.level == "debug":
            return event
        now = self._clock.monotonic()
        kind = (method, event.get("event"), event.get("destination"), event.get("listener"), event.get("logger"))
        state = self._kinds.pop(kind, None) or [float(REPEAT_BURST), now, 0.0]
        self._kinds[kind] = state
        if len(self._kinds) > MAX_KINDS:
            self._kinds.popitem(last=False)
        allowance, refilled_at, suppressed = state
        allowance = min(REPEAT_BURST, allowance + (now - refilled_at) / REPEAT_EVERY_S)
        if allowance < 1:
            state[:] = [allowance, now, suppressed + 1]
            raise structlog.DropEvent
        state[:] = [allowance - 1, now, 0.0]
        return {**event, "suppressed": int(suppressed)} if suppressed else event


def redact(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """Blank what looks like a secret: values by their key, and queries, users and write keys in addresses."""
    return {key: _clean(key, value) for key, value in event.items()}


def _clean(key: object, value: Any) -> Any:
    name = str(key)
    if name not in _HARMLESS_KEYS and _SECRET_KEY.search(name) and value is not None:
        return REDACTED
    match value:
        case str() | bytes():
            return _clean_text(value if isinstance(value, str) else value.decode("utf-8", "replace"))
        case Mapping():
            return {inner: _clean(inner, found) for inner, found in value.items()}
        case list() | tuple():
            return [_clean("", found) for found in value]
        case BaseException():
            return _clean_text(str(value) or type(value).__name__)
        case _:
            return value


def _clean_text(text: str) -> str:
    text = _URL_USER.sub(r"\1", text)
    text = _URL_QUERY.sub(rf"\1?{REDACTED}", text)
    text = _KEY_IN_PATH.sub(rf"\1{REDACTED}", text)
    return _AUTH_VALUE.sub(rf"\1 {REDACTED}", text)


class _Stamp:
    """Adds time and level in front."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def __call__(self, _: WrappedLogger, method: str, event: EventDict) -> EventDict:
        now = datetime.fromtimestamp(self._clock.wall(), UTC).isoformat(timespec="milliseconds")
        return {"timestamp": now.replace("+00:00", "Z"), "level": method, **event}


def _journal_priority(_: WrappedLogger, method: str, line: Any) -> str:
    """Put the priority that journald reads in front of every line."""
    prefix = f"<{_JOURNAL_PRIORITIES[method]}>"
    return prefix + str(line).replace("\n", f"\n{prefix}")


class _Writer:
    """Writes whole lines. A standard error that is gone must not end the daemon."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, line: str) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._stream.write(line + "\n")
            self._stream.flush()

    debug = info = warning = error = critical = write


class _FromLibraries(logging.Handler):
    """Hands what libraries log (warnings and worse) to structlog, so that it looks and is redacted like the rest."""

    def emit(self, record: logging.LogRecord) -> None:
        structlog.get_logger().log(
            record.levelno, "library", logger=record.name, message=record.getMessage(), exc_info=record.exc_info
        )


def configure(log: Log, clock: Clock, *, environ: Mapping[str, str], stream: TextIO | None = None) -> LogControl:
    """Set structlog and the standard library's logging up; return what changes the level later."""
    stream = stream or sys.stderr
    control = LogControl(log.level)
    on_terminal = stream.isatty()
    json_lines = log.format == "json" or (log.format == "auto" and not on_terminal)
    processors: list[Processor] = [
        control,
        Repetition(control, clock),
        structlog.contextvars.merge_contextvars,
        structlog.processors.format_exc_info,
        redact,
        _Stamp(clock),
        _to_json if json_lines else _console(colors=on_terminal),
    ]
    if _is_journal(stream, environ):
        processors.append(_journal_priority)
    structlog.configure(
        processors=processors,
        wrapper_class=_logger(control),
        logger_factory=lambda *_: _Writer(stream),
        cache_logger_on_first_use=False,
    )
    root = logging.getLogger()
    root.handlers[:] = [_FromLibraries(logging.WARNING)]
    root.setLevel(logging.WARNING)
    return control


def _logger(control: LogControl) -> type[structlog.typing.FilteringBoundLogger]:
    """Return a logger whose `debug`, called for every request, costs next to nothing while nobody wants to see it."""
    every: Any = structlog.make_filtering_bound_logger(logging.DEBUG)

    class Logger(every):  # type: ignore[misc]
        def debug(self, event: str, *args: Any, **facts: Any) -> Any:
            return super().debug(event, *args, **facts) if control.level == "debug" else None

    return Logger


def _to_json(_: WrappedLogger, __: str, event: EventDict) -> str:
    return orjson.dumps(event, default=repr, option=orjson.OPT_NON_STR_KEYS).decode()


def _console(*, colors: bool) -> Processor:
    return structlog.dev.ConsoleRenderer(
        colors=colors, pad_event_to=24, exception_formatter=structlog.dev.plain_traceback
    )


def _is_journal(stream: TextIO, environ: Mapping[str, str]) -> bool:
    """Return whether `stream` is the one that systemd connected to the journal."""
    try:
        found = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return environ.get("JOURNAL_STREAM") == f"{found.st_dev}:{found.st_ino}"
