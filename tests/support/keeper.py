"""A source that keeps requests for the next commit."""

from forwarder.core.joining import Joining


class Keeper:
    """Implements `joining.Joiner`; `called` tells how many requests it kept each time, and whether anybody waited."""

    def __init__(self, joining: Joining, requests: int = 0) -> None:
        self.requests = requests
        self.called: list[tuple[int, bool]] = []
        self.joining = joining
        joining.attach(self)

    def join(self) -> None:
        self.called.append((self.requests, self.joining.waiting))
        self.requests = 0
