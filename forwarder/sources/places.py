"""Places: each request that a reader finds gets its place among the answers that its connection owes."""

from typing import TYPE_CHECKING

from forwarder.sources.answers import CONTINUE, Denial, Shape
from forwarder.sources.body import Refused
from forwarder.sources.exchange import Exchange, Submission
from forwarder.sources.plan import Accept, Fixed, Plan

if TYPE_CHECKING:
    from forwarder.sources.connection import Connection


class Places:
    """Takes what the reader of one connection finds."""

    def __init__(self, connection: "Connection") -> None:
        self._connection = connection

    def plan(self, method: str, target: bytes, version: str, headers: list[tuple[bytes, bytes]], keep: bool) -> Plan:  # noqa: FBT001 - llhttp's answer, handed on
        """Decide what to do with a request."""
        plan = self._connection.listener.plan(method, target, version, headers, keep=keep)
        if isinstance(plan, Denial):
            raise Refused(plan)
        return plan

    def learn(self, raw: bytes, method: str, headers: int, plan: Plan) -> None:
        """Remember the plan of this head."""
        self._connection.listener.familiar.learn(raw, method, headers, plan)

    def proceed(self) -> None:
        """Send 100 Continue, after the answers that are still owed."""
        self._connection.owe(Exchange(CONTINUE))

    def accept(self, action: Accept, shape: Shape, data: bytes, size: int) -> None:
        """Submit the events of a whole request."""
        connection = self._connection
        if shape.close:
            connection.deaf = True
        submission = Submission(connection, action, shape, size)
        connection.owed.append(submission)
        submission.submit(data)

    def reply(self, action: Fixed | Denial, shape: Shape) -> None:
        """Answer a request whose body does not matter."""
        connection = self._connection
        answers = connection.door.answers
        if connection.ending:
            shape = shape.closing()
        if isinstance(action, Denial):
            connection.listener.deny(action)
            answer = answers.denial(action, shape)
        else:
            answer = answers.build(action.status, action.body, shape, action.extra)
        connection.deaf = connection.deaf or shape.close
        connection.owe(Exchange(answer, last=shape.close))

    def last(self) -> None:
        """Close after the request that is just complete."""
        self._connection.ending = True
