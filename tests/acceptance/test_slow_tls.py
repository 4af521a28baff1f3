"""A vendor over TLS whose handshakes and answers come slowly, in part, as garbage, or not at all."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from tests.acceptance.conftest import KEY, Client
from tests.acceptance.test_hostile_vendor import CONFIG
from tests.support.account import Account
from tests.support.processes import Daemon, ReceiverProcess
from tests.support.tls_relay import Slowness, TlsRelayThread

MIB = 1024 * 1024
PADDING = 2400
UNANSWERED = "forwarder_ambiguous_requests_total"
SLOW = [mode for mode in Slowness if mode is not Slowness.FAITHFUL]
AMBIGUOUS = {Slowness.STALL_ANSWER, Slowness.CRAWL_ANSWER, Slowness.RESET_ANSWER}
"""The request has reached the vendor."""


@pytest.fixture
def authority(tmp_path: Path) -> Path:
    """Return the PEM file of an authority; the certificate of 127.0.0.1 and its key stand beside it."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(tmp_path / "server.pem")
    return tmp_path / "ca.pem"


@pytest.fixture
def secured(tmp_path: Path, authority: Path) -> Iterator[ReceiverProcess]:
    certificate = authority.with_name("server.pem")
    with ReceiverProcess(tmp_path, "--key", KEY, "--tls-cert", str(certificate)) as process:
        yield process


@pytest.fixture
def relay(secured: ReceiverProcess) -> Iterator[TlsRelayThread]:
    with TlsRelayThread(secured.port) as thread:
        yield thread


def daemon_behind(
    relay: TlsRelayThread, directory: Path, key_file: Path, *, timeout: str, initial: str, longest: str
) -> Daemon:
    config = CONFIG.replace('url = "', f'ca_file = "{directory / "ca.pem"}"\nurl = "')
    return Daemon(
        directory, config, UPSTREAM=relay.url, KEYFILE=key_file, TIMEOUT=timeout, INITIAL=initial, MAX=longest
    )


def reasons(mode: Slowness) -> set[str]:
    return {"ambiguous"} if mode in AMBIGUOUS else set()


def test_however_slow_tls_is_every_event_arrives_or_is_dead_with_a_reason(
    tmp_path: Path, key_file: Path, secured: ReceiverProcess, relay: TlsRelayThread, client: Client
) -> None:
    with daemon_behind(relay, tmp_path, key_file, timeout="500ms", initial="40ms", longest="200ms") as daemon:
        account = Account(daemon, secured, client(daemon.http))
        for round_, mode in enumerate(SLOW):
            known = set(account.dead())
            before, began = relay.attempts, time.monotonic()
            relay.misbehave(mode)
            account.send(round_ * 1000, signals=40, events=6)
            if mode is Slowness.TRICKLE:
                account.wait()
            else:
                relay.wait_for_attempts(before + 4)
            made, took = relay.attempts - before, time.monotonic() - began
            assert made <= 60 + 60 * took, f"{mode}: {made} connections in {took:.1f} s"
            relay.misbehave(Slowness.FAITHFUL)
            account.wait()
            assert {why for n, why in account.dead().items() if n not in known} <= reasons(mode), mode
        assert account.balanced()
        assert not [one for one in daemon.status()["destinations"] if one["lane"]["state"] == "parked"]
        assert not [line for line in daemon.lines if "Traceback" in line or "lane_crashed" in line]


@pytest.mark.prove
@pytest.mark.timeout(400)
@pytest.mark.parametrize("mode", SLOW, ids=lambda mode: mode.name.lower())
def test_a_long_time_of_slow_tls_costs_few_connections_and_no_memory(
    tmp_path: Path, key_file: Path, secured: ReceiverProcess, relay: TlsRelayThread, client: Client, *, mode: Slowness
) -> None:
    with daemon_behind(relay, tmp_path, key_file, timeout="1s", initial="250ms", longest="2s") as daemon:
        account = Account(daemon, secured, client(daemon.http))
        account.send(0, signals=2000, events=50, padding=PADDING)
        account.wait()
        memory, before, began = daemon.rss_bytes, relay.attempts, time.monotonic()
        relay.misbehave(mode)
        for step in range(1, 16):
            account.send(step * 10_000, signals=2000, events=10, padding=PADDING)
            if mode is Slowness.TRICKLE:
                account.wait()
            else:
                relay.wait_for_attempts(before + step)
        made, took = relay.attempts - before, time.monotonic() - began
        # Per lane: full jitter waits half of the longest delay on average, or the time-out of a request.
        assert made <= 40 + 2 * 4 * took, f"{made} connections in {took:.0f} s"
        assert daemon.rss_bytes - memory < 48 * MIB, "the backlog of 75 MiB is on disk"
        unanswered = sum(n for name, n in daemon.metrics().items() if name.startswith(UNANSWERED))
        assert (unanswered > 0) is (mode in AMBIGUOUS), f"{unanswered} requests were written and not answered"
        relay.misbehave(Slowness.FAITHFUL)
        account.wait(timeout_s=180)
        assert set(account.dead().values()) <= reasons(mode)
        assert account.balanced()
