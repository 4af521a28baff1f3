"""One kept connection, without a network: what it makes of every kind of answer, and when it may be used again."""

import asyncio
import ssl
from collections.abc import Callable
from typing import Any, cast

import pytest

from forwarder.core.lane.outcome import Unreachable
from forwarder.flusher import transport
from forwarder.flusher.alarm import Alarm
from forwarder.flusher.connection import HEAD_LIMIT, PART, Connection
from forwarder.flusher.transport import Exchange, Reply

REQUEST = b"POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n"


class Wire(asyncio.Transport):
    """A transport that keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []
        self.closed = False

    def write(self, data: Any) -> None:
        self.written.append(bytes(data))

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    abort = close


class Line:
    """A connection and its wire."""

    def __init__(self) -> None:
        self.wire = Wire()
        self.connection = Connection()
        self.connection.connection_made(self.wire)

    def ask(self, rest: bytes = b"", *, timeout_s: float = 60.0) -> "asyncio.Future[Exchange]":
        return self.connection.ask(REQUEST, rest, timeout_s)

    def answer(self, *pieces: bytes) -> Exchange:
        waiter = self.ask()
        for piece in pieces:
            self.connection.data_received(piece)
        return waiter.result()


@pytest.fixture
async def line() -> Line:
    return Line()


async def test_an_answer_may_come_byte_by_byte_and_the_connection_is_kept(line: Line) -> None:
    for _ in range(2):
        assert line.answer(*(OK[at : at + 1] for at in range(len(OK)))) == Reply(200, "{}")
        assert line.connection.usable
    assert line.wire.written == [REQUEST] * 2


async def test_headers_that_matter_are_kept_the_first_of_each(line: Line) -> None:
    head = (
        b"HTTP/1.1 503 No\r\nRETRY-AFTER: 1\r\nRetry-After: 2\r\nLocation: /x\r\nDate: d\r\nContent-Length: 0\r\n\r\n"
    )
    assert line.answer(head) == Reply(503, "", retry_after="1", date="d", location="/x")


@pytest.mark.parametrize(
    "answer",
    [
        OK + b"x",
        OK + OK,
        b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}more",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\nZ\r\n",
    ],
    ids=["a byte more", "two answers", "1.0", "close", "close and more", "a broken chunk"],
)
async def test_a_connection_that_cannot_be_trusted_is_closed_and_its_answer_counts(line: Line, answer: bytes) -> None:
    assert line.answer(answer) == Reply(200, "{}")
    assert not line.connection.usable
    assert line.wire.closed


@pytest.mark.parametrize("status", [100, 102, 103])
async def test_interim_answers_are_passed_over_with_their_headers(line: Line, status: int) -> None:
    interim = b"HTTP/1.1 %d Go on\r\nRetry-After: 9\r\n\r\n" % status
    assert line.answer(interim, interim, OK) == Reply(200, "{}")
    assert line.connection.usable


async def test_switching_protocols_is_an_answer_and_the_end(line: Line) -> None:
    answer = line.answer(b"HTTP/1.1 101 Switching\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\nbytes")
    assert isinstance(answer, Reply)
    assert answer.status == 101
    assert line.wire.closed


@pytest.mark.parametrize("pieces", [[b"SSH-2.0\r\n\r\n"], [b"\0" * 9000], [b"HTTP/1.1 200 OK\r\nbad header\r\n\r\n"]])
async def test_what_is_no_http_is_ambiguous(line: Line, pieces: list[bytes]) -> None:
    assert line.answer(*pieces) == transport.NOT_HTTP
    assert line.wire.closed


async def test_a_head_without_end_is_not_read_for_ever(line: Line) -> None:
    waiter = line.ask()
    line.connection.data_received(b"HTTP/1.1 200 OK\r\n")
    sent = 0
    while not waiter.done():
        line.connection.data_received(b"a: " + b"b" * 1000 + b"\r\n")
        sent += 1005
    assert HEAD_LIMIT <= sent + 17 <= HEAD_LIMIT + 2000
    assert waiter.result() == transport.NOT_HTTP


async def test_interim_answers_without_end_are_not_read_for_ever(line: Line) -> None:
    waiter = line.ask()
    for _ in range(HEAD_LIMIT // 25 + 1):
        if not waiter.done():
            line.connection.data_received(b"HTTP/1.1 100 Continue\r\n\r\n")
    assert waiter.result() == transport.NOT_HTTP


async def test_a_body_without_end_is_cut_at_what_is_kept(line: Line) -> None:
    waiter = line.ask()
    line.connection.data_received(b"HTTP/1.1 400 No\r\nTransfer-Encoding: chunked\r\n\r\n")
    while not waiter.done():
        line.connection.data_received(b"3e8\r\n" + b"x" * 1000 + b"\r\n")
    assert waiter.result() == Reply(400, "x" * transport.ANSWER_BYTES)
    assert line.wire.closed


@pytest.mark.parametrize("unasked", [b"x", OK, b"HTTP/1.1 408 Request Timeout\r\n\r\n"])
async def test_what_comes_unasked_ends_the_connection(line: Line, unasked: bytes) -> None:
    line.answer(OK)
    line.connection.data_received(unasked)
    assert not line.connection.usable
    assert line.ask().result() == transport.NOT_SENT


async def test_a_greeting_before_the_first_request_ends_the_connection(line: Line) -> None:
    line.connection.data_received(b"HTTP")
    assert not line.connection.usable


async def test_a_connection_that_is_closed_before_the_answer_is_ambiguous(line: Line) -> None:
    waiter = line.ask()
    line.connection.connection_lost(None)
    result = waiter.result()
    assert isinstance(result, Unreachable)
    assert (result.kind, result.ambiguous) == ("reset", True)


async def test_a_status_that_came_counts_even_if_the_connection_breaks(line: Line) -> None:
    waiter = line.ask()
    line.connection.data_received(HEAD + b"half")
    line.connection.connection_lost(ConnectionResetError())
    assert waiter.result() == Reply(200, "half")


async def test_nothing_is_written_to_a_closing_connection_so_it_is_not_ambiguous(line: Line) -> None:
    line.wire.close()
    assert line.ask().result() == transport.NOT_SENT
    assert line.wire.written == []


async def test_a_large_body_is_written_as_fast_as_it_is_taken_and_half_of_it_was_never_a_request(line: Line) -> None:
    body = b"x" * (3 * PART)
    line.connection.pause_writing()
    waiter = line.ask(body)
    assert line.wire.written == [REQUEST]
    line.connection.resume_writing()
    assert b"".join(line.wire.written) == REQUEST + body
    assert max(map(len, line.wire.written)) == PART
    line.connection.data_received(OK)
    assert waiter.result() == Reply(200, "{}")
    assert line.connection.usable

    line.connection.pause_writing()
    waiter = line.ask(body)
    line.connection.connection_lost(ConnectionResetError())
    assert waiter.result() == transport.NOT_SENT


async def test_an_answer_before_the_whole_body_was_written_counts_and_ends_the_connection(line: Line) -> None:
    line.connection.pause_writing()
    waiter = line.ask(b"x" * PART)
    line.connection.data_received(b"HTTP/1.1 413 Too large\r\nContent-Length: 0\r\n\r\n")
    assert waiter.result() == Reply(413)
    assert line.wire.closed


async def test_an_alert_about_certificates_is_not_ambiguous(line: Line) -> None:
    alert = ssl.SSLError(1, "[SSL: TLSV13_ALERT_CERTIFICATE_REQUIRED] tlsv13 alert certificate required")
    alert.reason = "TLSV13_ALERT_CERTIFICATE_REQUIRED"
    waiter = line.ask()
    line.connection.connection_lost(alert)
    result = waiter.result()
    assert isinstance(result, Unreachable)
    assert (result.kind, result.ambiguous) == ("tls", False)


async def test_no_answer_in_time_closes_the_connection(line: Line) -> None:
    assert await line.ask(timeout_s=0.01) == transport.NO_ANSWER
    assert line.wire.closed


async def test_a_status_in_time_is_the_answer_when_its_body_does_not_come(line: Line) -> None:
    waiter = line.ask(timeout_s=0.01)
    line.connection.data_received(HEAD + b"begun")
    assert await waiter == Reply(200, "begun")
    assert line.wire.closed


async def test_a_request_that_is_given_up_disturbs_nothing(line: Line) -> None:
    waiter = line.ask()
    waiter.cancel()
    line.connection.close()
    line.connection.data_received(OK)
    line.connection.connection_lost(None)
    assert waiter.cancelled()


class HandLoop:
    """Timers that fire when told."""

    def __init__(self) -> None:
        self.now = 0.0
        self.timers: list[HandTimer] = []

    def time(self) -> float:
        return self.now

    def call_at(self, at: float, callback: Callable[[], None]) -> "HandTimer":
        self.timers.append(HandTimer(at, callback))
        return self.timers[-1]

    def advance(self, to: float) -> None:
        self.now = to
        due = [timer for timer in self.timers if timer.at <= to and not timer.cancelled]
        self.timers = [timer for timer in self.timers if timer not in due]
        for timer in due:
            timer.callback()


class HandTimer:
    def __init__(self, at: float, callback: Callable[[], None]) -> None:
        self.at = at
        self.callback = callback
        self.cancelled = False

    def when(self) -> float:
        return self.at

    def cancel(self) -> None:
        self.cancelled = True


@pytest.fixture
def hand() -> HandLoop:
    return HandLoop()


def test_an_alarm_rings_at_the_last_deadline_it_was_given_and_once(hand: HandLoop) -> None:
    rung: list[float] = []
    alarm = Alarm(cast("asyncio.AbstractEventLoop", hand), lambda: rung.append(hand.now))
    for deadline in (5.0, 6.0, 7.0):
        alarm.set(deadline)
    assert len(hand.timers) == 1, "moving it back costs no timer"
    for moment in (5.0, 6.9, 7.0, 20.0):
        hand.advance(moment)
    assert rung == [7.0]
    alarm.set(30.0)
    alarm.set(25.0)
    hand.advance(25.0)
    assert rung == [7.0, 25.0]
    alarm.set(40.0)
    alarm.stop()
    hand.advance(50.0)
    assert rung == [7.0, 25.0]


async def test_an_alarm_that_is_already_due_can_be_set_again() -> None:
    rung = asyncio.Event()
    alarm = Alarm(asyncio.get_running_loop(), rung.set)
    for seconds in (0.0, 0.0, -1.0):  # uvloop answers these with a handle that does not know its time
        alarm.set_in(seconds)
    await rung.wait()
