"""The requests that wrk sends (signals.lua), for cases that must say when each of them comes."""

DIFFERENT = 64
"""Requests sent in turn, so that nothing can be remembered by its body."""
SIZE = 330
_PERSON = "787d5b7c06ca0a21" * 4


def signal(number: int) -> bytes:
    """Return one TelemetryDeck signal of SIZE bytes."""
    head = (
        f'{{"appID":"7E4A8C12-5B1F-4E57-9C43-2F6D0C1B9A10","clientUser":"{_PERSON}{number:04d}",'
        f'"sessionID":"0D3B6E51-0000-4A7E-9B51-{number:012d}","type":"Database.updated","isTestMode":"false",'
        '"floatValue":3.5,"payload":{"platform":"macOS","note":"'
    ).encode()
    return head + b"x" * (SIZE - len(head) - 3) + b'"}}'


def requests(port: int, events: int) -> list[bytes]:
    """Return DIFFERENT requests with so many events each."""
    return [_request(port, turn, events) for turn in range(DIFFERENT)]


def _request(port: int, turn: int, events: int) -> bytes:
    body = b"[%s]" % b",".join(signal(turn * 100 + event % 100) for event in range(events))
    return (
        b"POST /v2/ HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nContent-Type: application/json\r\n"
        b"Content-Length: %d\r\n\r\n%s" % (port, len(body), body)
    )
