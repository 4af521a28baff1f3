"""The real clock and the real dice; everything else is handed these."""

import random
import time


class SystemClock:
    """Implements `seams.Clock`."""

    monotonic = staticmethod(time.monotonic)
    wall = staticmethod(time.time)


def jitter() -> float:
    """Return a number in [0, 1) for full-jitter backoff; needs no secrecy."""
    return random.random()  # noqa: S311  spreading retries is not cryptography
