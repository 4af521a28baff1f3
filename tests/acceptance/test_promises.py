"""What is promised of delivery (P6, P10), over real processes and sockets."""

import http.client
import json
from pathlib import Path

from tests.acceptance.conftest import Client
from tests.support.clients import Numbered
from tests.support.configs import BOTH
from tests.support.processes import Daemon, ReceiverProcess

SMALL = 'kind = "encharge"\nmax_size = "2MiB"\n'


def lanes(daemon: Daemon) -> dict[str, str]:
    return {found["name"]: found["lane"]["state"] for found in daemon.status()["destinations"]}


def test_p6_a_dead_destination_takes_neither_the_time_nor_the_disk_of_the_other_one(
    tmp_path: Path, key_file: Path, receiver: ReceiverProcess, client: Client
) -> None:
    config = BOTH.replace('kind = "encharge"\n', SMALL).replace("[spool]\n", '[spool]\nsegment_size = "1MiB"\n')
    with Daemon(tmp_path, config, UPSTREAM=receiver.url, KEYFILE=key_file) as daemon:
        receiver.order({"vendor": "encharge", "status": 503})
        poster = client(daemon.http)
        answers = [poster.post("/v1", [n], lambda n: Numbered.encharge(n, padding=50_000)) for n in range(60)]
        assert answers[0] == http.client.OK
        assert answers[-1] == http.client.SERVICE_UNAVAILABLE, "its own share is full"
        stored = {n for n in range(60) if n in poster.acknowledged}

        signals = range(20_000, 24_000)
        for start in range(signals.start, signals.stop, 500):
            part = range(start, start + 500)
            assert poster.post("/v2/", part, lambda n: Numbered.telemetrydeck(n, padding=1000)) == http.client.OK
        receiver.wait_for_numbers(signals)
        assert lanes(daemon)["telemetrydeck"] == "flowing"
        assert lanes(daemon)["encharge"] in ("backing_off", "probing")
        receiver.order()
        receiver.wait_for_numbers(stored)
        assert receiver.numbers() == stored | set(signals)


def test_p10_what_the_sender_wrote_arrives_byte_for_byte_through_spool_retries_and_bisection(
    daemon: Daemon, receiver: ReceiverProcess, client: Client
) -> None:
    head = b'{ "receivedAt" : "2026-06-05T10:11:12.123Z",\t"appID":"a" , "clientUser":"c","type":"%s",'
    odd = [
        b'"payload":{"number":"%d","x":1.0e+01,"\\u0061":"\xc3\xa9","big":12345678901234567890.10}}',
        b'"payload":{"number":"%d"},"a":1,"a":2 }',
        b'"payload":{"number":"%d","slash":"\\/","pair":"\\ud83d\\ude00","e":-0.0E-0}}',
    ]
    events = [head % b"odd" + odd[n % 3] % n for n in range(60)]
    events[30] = head % b"bad" + odd[0] % 30
    person = b'{"name" : "n", "user":{"email":"p%d@example.com" ,"k":1E4},"properties":{"number":%d,"\\u00e9":[ ]}}'
    people = [person % (n, n) for n in range(100, 120)]
    receiver.order({"status": 503, "requests": 3}, {"refuse_types": ["bad"], "refuse_status": 400})
    poster = client(daemon.http)
    assert poster.post_body("/v2/", b"[" + b" ,\r\n ".join(events) + b"]", range(60)) == http.client.OK
    assert poster.post_body("/events", b"\n".join(people), range(100, 120)) == http.client.ACCEPTED
    receiver.wait_for_numbers({*range(60), *range(100, 120)} - {30})
    arrived = {row.event for row in receiver.events()}
    assert arrived == {*events, *people} - {events[30]}
    letter = Path(daemon.spool / "dead" / "telemetrydeck" / f"{1:012d}.ndjson").read_bytes()
    assert events[30] in letter, "as sent, in the dead letter too"
    assert json.loads(letter)["reason"] == "refused"


def test_p10_only_the_stamp_and_the_repair_of_numbers_that_json_does_not_know_change_an_event(
    daemon: Daemon, receiver: ReceiverProcess, client: Client
) -> None:
    plain = b'{"appID":"a","clientUser":"c","type":"t","payload":{"number":"1"}}'
    broken = (
        b'{"receivedAt":"2026-06-05T10:11:12.123Z","appID":"a","clientUser":"c","type":"t","floatValue":NaN,"number":2}'
    )
    assert client(daemon.http).post_body("/v2/", b"[" + plain + b"," + broken + b"]", []) == http.client.OK
    receiver.wait_for_numbers([1, 2])
    stamped, repaired = sorted((row.event for row in receiver.events()), key=Numbered.of)
    assert repaired == broken.replace(b"NaN", b"null")
    at = stamped.index(b'"receivedAt":')
    stamp = stamped[at : at + len(b'"receivedAt":"2026-06-05T10:11:12.123Z",')]
    assert stamped.replace(stamp, b"") == plain
