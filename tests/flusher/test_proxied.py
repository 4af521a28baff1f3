"""The aiohttp transport: what only its own words can tell."""

from collections.abc import Iterable
from typing import Any

import pytest
from aiohttp import http_writer

from forwarder.core.lane.outcome import Answer, Result, Unreachable
from forwarder.flusher import Client
from forwarder.flusher.proxied import Proxied
from tests.flusher.harness import HEADERS, RealClock, serve, telemetrydeck


async def post(url: str, body: bytes) -> Result:
    client = Client(telemetrydeck(url), clock=RealClock(), open_=Proxied)
    try:
        return await client.post(url, HEADERS, body)
    finally:
        await client.close()


class Closing(http_writer.StreamWriter):
    """aiohttp's writer on a connection that has just been closed: nothing of the request can be written."""

    closed = 0

    def _write(self, chunk: Any) -> None:
        self._refuse()
        super()._write(chunk)

    def _writelines(self, chunks: Iterable[Any]) -> None:
        self._refuse()
        super()._writelines(chunks)

    def _refuse(self) -> None:
        if Closing.closed:
            Closing.closed -= 1
            if self.transport is not None:
                self.transport.close()


@pytest.mark.parametrize("closed", [1, 2])
async def test_a_request_that_could_not_be_written_is_made_again_on_another_connection(
    monkeypatch: pytest.MonkeyPatch, closed: int
) -> None:
    """aiohttp then says "Can not write request body": the vendor has no request to act on, so it is not ambiguous."""
    monkeypatch.setattr("aiohttp.client_reqrep.StreamWriter", Closing)
    monkeypatch.setattr(Closing, "closed", closed)
    async with serve() as vendor:
        assert await post(vendor.url, b"[1]") == Answer(200, body_start="says the vendor")
    assert vendor.bodies == [b"[1]"]


async def test_a_request_that_can_never_be_written_is_a_failure_but_not_ambiguous(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("aiohttp.client_reqrep.StreamWriter", Closing)
    monkeypatch.setattr(Closing, "closed", 1000)
    async with serve() as vendor:
        result = await post(vendor.url, b"[1]")
    assert isinstance(result, Unreachable)
    assert (result.kind, result.ambiguous) == ("reset", False)
    assert vendor.bodies == []
