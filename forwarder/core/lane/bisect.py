"""Bisection: a refused batch is halved until the culprits stand alone.

Each culprit among N records costs at most two requests a level of halving, so k of them cost at most
2·k·⌈log₂ N⌉ + 1 requests in one uninterrupted isolation (the 1 is the refused batch itself).
"""


class Isolation:
    """What is known of one refused batch while its parts are tried; shared by all its parts."""

    __slots__ = ("accepted", "open")

    def __init__(self) -> None:
        self.accepted = False
        """A part was delivered, so the vendor refuses events, not us."""
        self.open = 1
        """Parts that are neither delivered nor found guilty."""

    def halved(self) -> None:
        """One part became two."""
        self.open += 1

    def closed(self, *, accepted: bool) -> None:
        """One part is delivered, or stands alone and refused."""
        self.open -= 1
        self.accepted = self.accepted or accepted
