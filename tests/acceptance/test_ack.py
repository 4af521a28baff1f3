"""`?ack=delivered` at a real daemon: the answer says how far the events have come, and comes in time."""

import http.client
import json

from tests.support.clients import Numbered
from tests.support.processes import Daemon, ReceiverProcess


def ask(daemon: Daemon, path: str, body: bytes) -> tuple[int, str | None]:
    """Post; return the status and the level reached."""
    host, _, port = daemon.http.rpartition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=20)
    try:
        connection.request("POST", path, body)
        answer = connection.getresponse()
        json.loads(answer.read())
        return answer.status, answer.getheader("Forwarder-Ack")
    finally:
        connection.close()


def test_delivered_is_said_once_the_vendor_has_taken_the_events(daemon: Daemon, receiver: ReceiverProcess) -> None:
    assert ask(daemon, "/v2/?ack=delivered", b"[%s]" % Numbered.telemetrydeck(1)) == (200, "delivered")
    mixed = b"[%s,%s]" % (Numbered.telemetrydeck(2), Numbered.encharge(3))
    assert ask(daemon, "/events?ack=delivered", mixed) == (202, "delivered")
    assert receiver.numbers() == {1, 2, 3}


def test_the_level_reached_is_said_when_the_time_is_up(daemon: Daemon, receiver: ReceiverProcess) -> None:
    receiver.order({"status": 503})
    assert ask(daemon, "/v2/?ack=delivered&timeout=0.2", b"[%s]" % Numbered.telemetrydeck(1)) == (200, "fsync")
    assert ask(daemon, "/v2/?ack=delivered&timeout=0", b"[%s]" % Numbered.telemetrydeck(2)) == (200, "fsync")
    receiver.order()
    receiver.wait_for_numbers({1, 2})


def test_the_level_reached_is_said_at_once_when_the_event_dies(daemon: Daemon, receiver: ReceiverProcess) -> None:
    receiver.order({"status": 400})
    assert ask(daemon, "/v1?ack=delivered&timeout=60", Numbered.encharge(1)) == (200, "fsync")
    assert daemon.metrics()['forwarder_dead_letters{destination="encharge"}'] == 1
