"""The `receivedAt` stamp, made once a millisecond."""

from datetime import UTC, datetime

from forwarder.core.seams import Clock


class Stamp:
    """ISO 8601 in UTC with milliseconds, `2026-06-05T10:11:12.123Z`, from the wall clock."""

    __slots__ = ("_clock", "_millis", "_second", "_stamp", "_text")

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._millis = -1
        self._second = -1
        self._text = b""
        self._stamp = b""

    def now(self) -> bytes:
        """Return the stamp of this millisecond."""
        millis = int(self._clock.wall() * 1000)
        if millis != self._millis:
            self._millis = millis
            second, rest = divmod(millis, 1000)
            if second != self._second:
                self._second = second
                self._text = datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S").encode()
            self._stamp = b"%s.%03dZ" % (self._text, rest)
        return self._stamp
