"""What the receiver's tests share."""

from collections.abc import AsyncIterator

import aiohttp
import pytest

from forwarder.receiver import Journal, Receiver
from tests.support.standin import standin  # noqa: F401  pytest finds the fixture here

KEY = "k-123"


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with Receiver(key=KEY, journal=Journal(keep_bodies=True)) as receiver:
        yield receiver


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10)) as session:
        yield session
