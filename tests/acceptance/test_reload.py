"""SIGHUP puts a new file into force without dropping a connection, a lease or an event; a bad one changes nothing."""

import http.client
import socket
from collections.abc import Iterator
from pathlib import Path
from signal import SIGHUP

import pytest

from tests.acceptance.conftest import KEY, Client
from tests.support.clients import Numbered, Poster, Pounder, send_datagrams
from tests.support.configs import BOTH
from tests.support.processes import Daemon, ReceiverProcess, free_port


class Reloader:
    """A daemon whose configuration a test changes by replacing text."""

    def __init__(self, daemon: Daemon) -> None:
        self.daemon = daemon
        self._done = 0

    def change(self, *changes: tuple[str, str]) -> None:
        text = self.daemon.config.read_text()
        for old, new in changes:
            assert old in text, f"{old!r} is not in the configuration"
            text = text.replace(old, new)
        self.daemon.config.write_text(text)

    def reload(self, *changes: tuple[str, str]) -> None:
        """Change the file, send SIGHUP, return when the change is in force."""
        self.change(*changes)
        self._reload("reloaded")

    def refused(self, *changes: tuple[str, str]) -> str:
        """Change the file, send SIGHUP, return the problems when they are logged; the file is put back."""
        before = self.daemon.config.read_text()
        known = len(self.daemon.logged("reload_refused"))
        self.change(*changes)
        self._reload("reload_refused")
        self.daemon.config.write_text(before)
        return "\n".join(self.daemon.logged("reload_refused")[known]["problems"])

    def _reload(self, event: str) -> None:
        known = len(self.daemon.logged(event))
        self.daemon.signal(SIGHUP)
        self.daemon.wait_for_line(lambda _: len(self.daemon.logged(event)) > known)


@pytest.fixture
def live(daemon: Daemon) -> Reloader:
    return Reloader(daemon)


@pytest.fixture
def second(tmp_path: Path) -> Iterator[ReceiverProcess]:
    directory = tmp_path / "second"
    directory.mkdir()
    with ReceiverProcess(directory) as process:
        yield process


def spool_files(daemon: Daemon, destination: str) -> list[Path]:
    return list((daemon.spool / "spool" / destination).iterdir())


def test_reloads_under_load_lose_no_request_no_connection_and_no_event(
    live: Reloader, receiver: ReceiverProcess
) -> None:
    pounders = [Pounder(live.daemon.http, first=0), Pounder(f"{live.daemon.spool}.http.sock", first=1_000_000)]
    for pounder in pounders:
        pounder.start()
    interval = "200ms"
    for turn in range(5):
        for pounder in pounders:
            pounder.wait_for_acknowledged(40 * (turn + 1))
        fresh = f"{turn + 3}00ms"
        live.reload((f'interval = "{interval}"', f'interval = "{fresh}"'))
        interval = fresh
    posted = set().union(*(pounder.stop() for pounder in pounders))

    receiver.wait_for_numbers(posted)
    for pounder in pounders:
        assert not pounder.poster.refused
        assert not pounder.poster.unanswered
    arrived = [Numbered.of(row.event) for row in receiver.events()]
    assert len(arrived) == len(set(arrived)), "a reload must not send anything twice"


def test_every_kind_of_change_under_load_costs_no_request_no_connection_and_no_event(
    live: Reloader, receiver: ReceiverProcess, second: ReceiverProcess, client: Client, key_file: Path
) -> None:
    daemon = live.daemon
    pounders = [Pounder(daemon.http, first=0), Pounder(f"{daemon.spool}.http.sock", first=1_000_000)]
    for pounder in pounders:
        pounder.start()
    turns = iter(range(1, 100))

    def under_load() -> None:
        turn = next(turns)
        for pounder in pounders:
            pounder.wait_for_acknowledged(40 * turn)

    under_load()
    text = daemon.config.read_text()
    persons = text[text.index("[destinations.encharge]") : text.index("[drain]")]
    receiver.order({"status": 503, "vendor": "encharge"})
    assert client(daemon.http).post("/v1", [5_000_000], Numbered.encharge) == http.client.OK
    live.reload((persons, ""))  # a destination goes, with an event queued
    under_load()
    assert "spool/encharge has no destination" in " ".join(daemon.status()["notes"])
    live.reload(("[drain]", persons.replace(receiver.url, second.url) + "[drain]"))  # and comes back, elsewhere
    second.wait_for_numbers([5_000_000])
    under_load()
    extra = f"127.0.0.1:{free_port()}"
    live.reload((f'http = ["{daemon.http}"', f'http = ["{daemon.http}", "{extra}"'))  # a listener more
    assert client(extra).post("/v2/", [5_000_001]) == http.client.OK
    under_load()
    live.reload(  # intervals, limits and the level of the log
        ('interval = "200ms"', 'interval = "50ms", max_events = 7'),
        ("[spool]\n", '[log]\nlevel = "debug"\n[spool]\nmax_total = "1GiB"\n'),
        ('/v1"\n', '/v1"\nmax_size = "64MiB"\nconcurrency = 2\n'),
    )
    daemon.wait_for_line(lambda line: '"level":"debug"' in line)
    under_load()
    key_file.write_text("another key\n")
    live.reload()  # a key
    under_load()
    assert "intervall" in live.refused(("interval =", "intervall ="))  # a file that cannot be used
    assert daemon.metrics()["forwarder_config_reload_success"] == 0
    under_load()
    live.reload((f', "{extra}"', ""), ('level = "debug"', 'level = "info"'))  # a listener less
    assert daemon.metrics()["forwarder_config_reload_success"] == 1
    under_load()

    posted = {5_000_001}.union(*(pounder.stop() for pounder in pounders))
    receiver.wait_for_numbers(posted)
    assert not any(pounder.poster.refused or pounder.poster.unanswered for pounder in pounders)
    arrived = [Numbered.of(row.event) for row in receiver.events()]
    assert len(arrived) == len(set(arrived)), "a reload must not send anything twice"
    limits = {found["name"]: found["spool"]["limit_bytes"] for found in daemon.status()["destinations"]}
    assert limits["encharge"] == 64 * 1024**2
    assert daemon.status()["disk"]["limit_bytes"] == 1024**3


def test_a_new_address_is_listened_on_and_an_old_one_closed_while_open_connections_get_their_answer(
    live: Reloader, client: Client
) -> None:
    old, new = live.daemon.http, f"127.0.0.1:{free_port()}"
    kept = client(old)
    assert kept.post("/v2/", [1]) == http.client.OK
    live.reload((f'http = ["{old}"', f'http = ["{new}"'))

    assert client(new).post("/v2/", [2]) == http.client.OK
    assert kept.post("/v2/", [3]) == http.client.OK, "this connection was open before the reload"
    assert client(old).post("/v2/", [4]) == 0, "nobody listens there any more"


def test_the_mode_of_a_unix_socket_changes_while_it_stays_open(live: Reloader, client: Client) -> None:
    path = Path(f"{live.daemon.spool}.http.sock")
    kept, inode = client(str(path)), path.stat().st_ino
    assert kept.post("/v2/", [1]) == http.client.OK
    live.reload((f'{{ unix = "{path}" }}', f'{{ unix = "{path}", mode = "0600" }}'))

    assert path.stat().st_mode & 0o777 == 0o600
    assert path.stat().st_ino == inode
    assert kept.post("/v2/", [2]) == http.client.OK


def test_a_new_destination_takes_events_and_a_removed_one_keeps_its_spool_and_is_reported(
    live: Reloader, receiver: ReceiverProcess, second: ReceiverProcess, client: Client
) -> None:
    receiver.order({"status": 503})
    poster = client(live.daemon.http)
    assert poster.post("/v2/", range(50)) == http.client.OK
    live.reload(
        ("[destinations.telemetrydeck]", "[destinations.other]"),
        (f'url = "{receiver.url}"\n', f'url = "{second.url}"\n'),
    )
    assert poster.post("/v2/", range(50, 60)) == http.client.OK
    second.wait_for_numbers(range(50, 60))

    assert spool_files(live.daemon, "telemetrydeck")
    notes = " ".join(live.daemon.status()["notes"])
    assert "spool/telemetrydeck has no destination" in notes

    live.reload(("[destinations.other]", "[destinations.telemetrydeck]"))
    second.wait_for_numbers(range(60))


def test_requests_under_way_to_a_removed_destination_end_and_are_not_sent_again(
    live: Reloader, receiver: ReceiverProcess, client: Client
) -> None:
    poster = client(live.daemon.http)
    receiver.order({"latency": 3.0})
    assert poster.post("/v2/", range(100)) == http.client.OK
    receiver.wait_for_numbers(range(100))  # stored, not answered
    text = live.daemon.config.read_text()
    start, end = text.index("[destinations.telemetrydeck]"), text.index("[destinations.encharge]")
    live.reload((text[start:end], ""))
    receiver.order()

    live.daemon.config.write_text(text)
    live.reload()
    assert poster.post("/v2/", [100]) == http.client.OK
    receiver.wait_for_numbers(range(101))
    assert sorted(Numbered.of(row.event) for row in receiver.events()) == list(range(101))


def test_a_key_that_changes_together_with_the_reload_is_used_at_once(
    live: Reloader, receiver: ReceiverProcess, client: Client, key_file: Path
) -> None:
    key_file.write_text("some other key\n")
    live.reload()
    client(live.daemon.http).post("/v1", [1], Numbered.encharge)
    live.daemon.wait_for_line(lambda line: "parked" in line)

    key_file.write_text(KEY + "\n")
    live.reload()

    receiver.wait_for_numbers([1])


def test_a_key_file_swapped_by_symlink_is_used_without_a_reload(
    tmp_path: Path, receiver: ReceiverProcess, client: Client
) -> None:
    """As the kubelet does it: `..data` is a symlink to a directory, replaced by a rename."""
    for version, key in (("v1", "wrong"), ("v2", KEY)):
        (tmp_path / version).mkdir()
        (tmp_path / version / "write-key").write_text(key)
    data, fresh = tmp_path / "..data", tmp_path / "..data_tmp"
    data.symlink_to("v1")
    fresh.symlink_to("v2")
    key_file = tmp_path / "mounted-key"
    key_file.symlink_to("..data/write-key")
    with Daemon(tmp_path, BOTH, UPSTREAM=receiver.url, KEYFILE=key_file) as daemon:
        client(daemon.http).post("/v1", [1], Numbered.encharge)
        daemon.wait_for_line(lambda line: "parked" in line)
        fresh.rename(data)
        receiver.wait_for_numbers([1])


def test_a_smaller_limit_refuses_and_a_larger_one_accepts_again(
    live: Reloader, receiver: ReceiverProcess, client: Client
) -> None:
    receiver.order({"status": 503})
    poster = client(live.daemon.http)

    def post(number: int) -> int:
        return poster.post("/events", [number], lambda n: Numbered.encharge(n, padding=900_000))

    live.reload(('/v1"\n', '/v1"\nmax_size = "1MiB"\n'), ("[spool]\n", '[spool]\nsegment_size = "1MiB"\n'))
    assert [post(1), post(2)] == [http.client.ACCEPTED, http.client.SERVICE_UNAVAILABLE]
    limits = {found["name"]: found["spool"]["limit_bytes"] for found in live.daemon.status()["destinations"]}
    assert limits["encharge"] == 1024**2

    live.reload(('max_size = "1MiB"', 'max_size = "64MiB"'))
    assert post(3) == http.client.ACCEPTED
    receiver.order()
    receiver.wait_for_numbers([1, 3])


def test_an_invalid_file_is_refused_with_the_report_of_check_and_the_old_one_stays_in_force(
    live: Reloader, receiver: ReceiverProcess, client: Client
) -> None:
    problems = live.refused(('interval = "200ms"', 'intervall = "200ms"'), ('timeout = "5s"', 'timeout = "soon"'))

    assert "destinations.telemetrydeck.flush.intervall" in problems
    assert "drain.timeout" in problems
    assert live.daemon.metrics()["forwarder_config_reload_success"] == 0
    assert client(live.daemon.http).post("/v2/", [1]) == http.client.OK
    receiver.wait_for_numbers([1])

    live.reload()
    assert live.daemon.metrics()["forwarder_config_reload_success"] == 1


def test_an_address_in_use_is_refused_and_nothing_else_of_the_file_applies(live: Reloader, client: Client) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        place = f"127.0.0.1:{taken.getsockname()[1]}"
        free = f"127.0.0.1:{free_port()}"
        problems = live.refused(
            ("http = [", f'http = ["{free}", "{place}", '),
            ('admin = "', f'admin = "127.0.0.1:{free_port()}" # "'),
            ("[destinations.telemetrydeck]", "[destinations.renamed]"),
        )
    assert f"cannot listen on {place}" in problems
    assert client(free).post("/v2/", [1]) == 0
    assert client(live.daemon.http).post("/v2/", [2]) == http.client.OK
    assert {found["name"] for found in live.daemon.status()["destinations"]} == {"telemetrydeck", "encharge"}


def test_a_destination_cannot_change_its_kind_under_its_name(live: Reloader) -> None:
    kind = 'kind = "telemetrydeck"\n'
    other = 'kind = "encharge"\nwrite_key = { env = "OTHER_KEY" }\n'
    problems = live.refused((kind, other), ("[destinations.encharge]", "[destinations.second]"))
    assert "destinations.telemetrydeck.kind: telemetrydeck cannot become encharge" in problems


def test_the_admin_listener_moves(live: Reloader) -> None:
    old, new = live.daemon.admin, f"127.0.0.1:{free_port()}"
    live.reload((f'admin = "{old}"', f'admin = "{new}"'))
    live.daemon.admin = new
    assert live.daemon.get("/readyz")[0] == http.client.OK
    with Poster(old) as poster:
        assert poster.post("/", [1]) == 0


def test_datagrams_sent_during_reloads_arrive(live: Reloader, receiver: ReceiverProcess) -> None:
    for turn in range(5):
        send_datagrams(live.daemon.udp, map(Numbered.telemetrydeck, range(turn * 100, turn * 100 + 100)))
        live.reload(
            ('udp_receive_buffer = "1MiB"\n', "")
            if turn % 2
            else ("[listen]\n", '[listen]\nudp_receive_buffer = "1MiB"\n')
        )
    receiver.wait_for_numbers(range(500))
