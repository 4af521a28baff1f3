import json
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import msgspec
import pytest
from aiohttp.test_utils import unused_port

from forwarder.admin import AdminServer, Gauges
from forwarder.config.model import Address
from forwarder.core.report import Report, Reporter
from forwarder.metrics import Metrics
from tests.support.fake_view import FakeDaemon, lane, letters, spool

LOCAL = Address(host="127.0.0.1")


def server(daemon: FakeDaemon, address: Address = LOCAL) -> AdminServer:
    metrics = Metrics()
    metrics.add_source(Gauges(daemon, daemon.clock))
    return AdminServer(daemon, Reporter(daemon, daemon.clock), metrics, address=address)


@pytest.fixture
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


class Answer:
    def __init__(self, status: int, text: str, headers: dict[str, str]) -> None:
        self.status = status
        self.text = text
        self.headers = headers


async def ask(session: aiohttp.ClientSession, port: int, path: str, *, method: str = "GET", **headers: str) -> Answer:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    async with session.request(method, f"http://127.0.0.1:{port}{path}", headers=named) as answer:
        return Answer(answer.status, await answer.text(), dict(answer.headers))


async def test_livez_fails_only_while_something_is_stuck(client: aiohttp.ClientSession) -> None:
    daemon = FakeDaemon()
    daemon.refusal = "the disk is full"
    async with server(daemon) as admin:
        assert (await ask(client, admin.port, "/livez")).status == 200
        daemon.wedged = "the writer thread made no progress for 61 s"
        answer = await ask(client, admin.port, "/livez")
    assert (answer.status, answer.text) == (503, "the writer thread made no progress for 61 s\n")


async def test_readyz_says_why_not_and_does_not_care_about_vendors(client: aiohttp.ClientSession) -> None:
    daemon = FakeDaemon()
    daemon.lane_list = [lane(state="parked", reason="401: check write_key")]
    async with server(daemon) as admin:
        assert (await ask(client, admin.port, "/readyz")).text == "ok\n"
        daemon.refusal = "spool.min_free: 3 MB are free"
        answer = await ask(client, admin.port, "/readyz")
    assert (answer.status, answer.text) == (503, "spool.min_free: 3 MB are free\n")


async def test_readyz_tells_of_a_disk_that_hurts_no_acceptance_and_stays_ready(client: aiohttp.ClientSession) -> None:
    daemon = FakeDaemon()
    daemon.ill = "encharge: cannot read segment 3: Input/output error"
    async with server(daemon) as admin:
        answer = await ask(client, admin.port, "/readyz")
    assert (answer.status, answer.text) == (200, "ok, but encharge: cannot read segment 3: Input/output error\n")


async def test_metrics_hold_counters_and_the_gauges_of_spools_and_lanes(client: aiohttp.ClientSession) -> None:
    daemon = FakeDaemon()
    daemon.spool_list = [spool("encharge", imbalance=3)]
    daemon.lane_list = [lane("encharge", state="backing_off", parked_keys={"v1": "404"})]
    daemon.letters_list = [letters("encharge")]
    async with server(daemon) as admin:
        answer = await ask(client, admin.port, "/metrics")
    assert answer.headers["Content-Type"].startswith("text/plain; version=")
    lines = answer.text.splitlines()
    for line in (
        'forwarder_build_info{version="1.2.3"} 1.0',
        "forwarder_accepting 1.0",
        "forwarder_disk_used_bytes 1e+06",
        'forwarder_ledger_events{destination="encharge",outcome="delivered"} 900.0',
        'forwarder_ledger_imbalance_events{destination="encharge"} 3.0',
        'forwarder_spool_events{destination="encharge"} 90.0',
        'forwarder_spool_oldest_event_age_seconds{destination="encharge"} 125.0',
        'forwarder_lane_state{destination="encharge",state="backing_off"} 1.0',
        'forwarder_lane_state{destination="encharge",state="flowing"} 0.0',
        'forwarder_parked_keys{destination="encharge"} 1.0',
        'forwarder_dead_letters{destination="encharge"} 7.0',
    ):
        assert line in lines
    assert "# TYPE forwarder_accepted_events_total counter" in answer.text


async def test_an_empty_spool_has_no_age(client: aiohttp.ClientSession) -> None:
    daemon = FakeDaemon()
    daemon.spool_list = [spool(oldest_accepted_at=None, queued_events=0)]
    async with server(daemon) as admin:
        answer = await ask(client, admin.port, "/metrics")
    assert 'forwarder_spool_oldest_event_age_seconds{destination="telemetrydeck"} 0.0' in answer.text


async def test_status_is_a_report_that_the_command_line_can_read(client: aiohttp.ClientSession) -> None:
    daemon = FakeDaemon()
    async with server(daemon) as admin:
        answer = await ask(client, admin.port, "/status")
    report = msgspec.json.decode(answer.text, type=Report)
    assert msgspec.json.encode(report) == msgspec.json.encode(Reporter(daemon, daemon.clock).report())
    assert json.loads(answer.text)["destinations"][0]["spool"]["queued_events"] == 90


async def test_the_page_brings_everything_with_it_and_may_load_nothing_else(client: aiohttp.ClientSession) -> None:
    async with server(FakeDaemon()) as admin:
        answer = await ask(client, admin.port, "/")
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    assert answer.headers["Content-Security-Policy"].count("'sha256-") == 2
    assert answer.headers["X-Frame-Options"] == "DENY"
    assert "http://" not in answer.text
    assert "https://" not in answer.text
    assert "innerHTML" not in answer.text


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
@pytest.mark.parametrize("path", ["/", "/status", "/livez", "/nowhere"])
async def test_only_reading_is_allowed(client: aiohttp.ClientSession, method: str, path: str) -> None:
    async with server(FakeDaemon()) as admin:
        answer = await ask(client, admin.port, path, method=method)
    assert (answer.status, answer.headers["Allow"]) == (405, "GET, HEAD")
    assert "control socket" in answer.text


async def test_head_answers_like_get_without_a_body(client: aiohttp.ClientSession) -> None:
    async with server(FakeDaemon()) as admin:
        answer = await ask(client, admin.port, "/livez", method="HEAD")
    assert (answer.status, answer.text) == (200, "")


async def test_an_unknown_path_names_the_known_ones(client: aiohttp.ClientSession) -> None:
    async with server(FakeDaemon()) as admin:
        answer = await ask(client, admin.port, "/nowhere")
    assert answer.status == 404
    assert "/livez /readyz /metrics /status" in json.loads(answer.text)["error"]


@pytest.mark.parametrize("path", ["/status", "/metrics", "/livez", "/"])
async def test_a_rebound_host_name_is_refused(client: aiohttp.ClientSession, path: str) -> None:
    async with server(FakeDaemon()) as admin:
        answer = await ask(client, admin.port, path, Host="evil.example:8766")
        assert (await ask(client, admin.port, path, Host="localhost:1")).status == 200
    assert answer.status == 403
    assert "telemetrydeck" not in answer.text


async def test_other_sites_scripts_are_refused_and_the_pages_own_are_not(client: aiohttp.ClientSession) -> None:
    async with server(FakeDaemon()) as admin:
        assert (await ask(client, admin.port, "/status", Origin="https://evil.example")).status == 403
        assert (await ask(client, admin.port, "/status", Sec_Fetch_Site="cross-site")).status == 403
        assert (await ask(client, admin.port, "/status", Sec_Fetch_Site="same-origin")).status == 200
        own = f"http://127.0.0.1:{admin.port}"
        assert (await ask(client, admin.port, "/status", Origin=own)).status == 200


async def test_beyond_loopback_only_probes_and_metrics_are_served(client: aiohttp.ClientSession) -> None:
    async with server(FakeDaemon(), Address(host="0.0.0.0")) as admin:  # noqa: S104 (what is tested)
        for path in ("/livez", "/readyz", "/metrics"):
            assert (await ask(client, admin.port, path, Host="forwarder.pod.cluster")).status == 200
        for path in ("/", "/status"):
            answer = await ask(client, admin.port, path)
            assert answer.status == 404
            assert "beyond loopback" in answer.text


async def test_a_unix_socket_serves_everything(tmp_path: Path) -> None:
    path = str(tmp_path / "admin.sock")
    async with server(FakeDaemon(), Address(unix=path)) as admin:
        assert admin.port == 0
        session = aiohttp.ClientSession(connector=aiohttp.UnixConnector(path))
        async with session, session.get("http://anything/status") as answer:
            assert answer.status == 200


async def test_a_socket_from_systemd_is_served(client: aiohttp.ClientSession) -> None:
    import socket

    bound = socket.create_server(("127.0.0.1", 0))
    admin = AdminServer(
        (daemon := FakeDaemon()),
        Reporter(daemon, daemon.clock),
        Metrics(),
        address=Address(systemd="admin"),
        bound=bound,
    )
    async with admin:
        assert admin.port == bound.getsockname()[1]
        assert (await ask(client, admin.port, "/livez")).status == 200


async def test_a_port_that_is_taken_is_an_os_error() -> None:
    address = Address(host="127.0.0.1", port=unused_port())
    async with server(FakeDaemon(), address):
        with pytest.raises(OSError, match="address already in use"):
            async with server(FakeDaemon(), address):
                pass
