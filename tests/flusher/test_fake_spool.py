"""The fake spool is held to the contract of the real one."""

import pytest

from tests.support.fake_spool import FakeSpool
from tests.support.hand_clock import HandClock
from tests.support.spool_contract import SpoolContract


class TestFakeSpool(SpoolContract):
    @pytest.fixture
    def spool(self) -> FakeSpool:
        return FakeSpool(HandClock())
