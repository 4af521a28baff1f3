"""`forwarder send` against real sockets: what goes out, and what it makes of every answer."""

import json
import socket
import threading
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from forwarder.cli import feed, post
from forwarder.cli.send import send
from tests.support.clients import Numbered
from tests.support.processes import free_port
from tests.support.standin import StandinThread

EVENT = '{"appID":"a","clientUser":"u","type":"t"}'
Answer = tuple[int, dict[str, str], Any]


class Door:
    """A scripted counterpart: answers in turn, the last one for ever; remembers (path, headers, body)."""

    def __init__(self) -> None:
        self.answers: list[Answer] = [(202, {"Forwarder-Ack": "fsync"}, {})]
        self.requests: list[tuple[str, dict[str, str], bytes]] = []
        door = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                door.requests.append((self.path, dict(self.headers), body))
                status, headers, document = door.answers[0] if len(door.answers) == 1 else door.answers.pop(0)
                text = document if isinstance(document, bytes) else json.dumps(document).encode()
                self.send_response(status)
                for name, value in {**headers, "Content-Length": str(len(text))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(text)

            def log_message(self, *_: object) -> None:
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        self.thread = threading.Thread(target=lambda: self.server.serve_forever(poll_interval=0.01), daemon=True)


@pytest.fixture
def door() -> Iterator[Door]:
    door = Door()
    door.thread.start()
    yield door
    door.server.shutdown()
    door.server.server_close()
    door.thread.join()


def run(*arguments: str, stdin: bytes | None = None) -> Result:
    return CliRunner().invoke(send, arguments, input=stdin)


def test_arguments_are_sent_as_they_stand_and_the_level_is_shown(door: Door) -> None:
    door.answers = [(202, {"Forwarder-Ack": "fsync"}, {"accepted": 2})]
    result = run("--to", door.url, "--ack", "fsync", "--strict", EVENT, '{ "name" : "é" }')
    assert (result.exit_code, result.stdout) == (0, "2 accepted (fsync), 0 refused\n")
    path, headers, body = door.requests[0]
    assert path == "/events?strict=1&ack=fsync"
    assert headers["Content-Type"] == "application/x-ndjson"
    assert body == EVENT.encode() + b"\n" + '{ "name" : "é" }'.encode()


@pytest.mark.parametrize(
    "text",
    [
        b'{"n":1}\n{"n":2}\n\n{"n":3}',
        b'\n{"n":1}\r\n{"n":2}\r\n{"n":3}\r\n',
        b'[{"n":1},{"n":2},{"n":3}]',
        b'\n[\n  {"n":1},\n  {"n":2},\n  {"n":3}\n]\n',
    ],
)
@pytest.mark.parametrize("by_stdin", [True, False])
def test_an_array_and_ndjson_are_the_same_events_from_a_file_and_from_stdin(
    door: Door, tmp_path: Path, text: bytes, *, by_stdin: bool
) -> None:
    file = tmp_path / "events"
    file.write_bytes(text)
    result = run("--to", door.url, stdin=text) if by_stdin else run("--to", door.url, "--file", str(file))
    assert result.exit_code == 0, result.output
    assert door.requests[0][2] == b'{"n":1}\n{"n":2}\n{"n":3}'


def test_a_pretty_printed_object_is_one_event_on_one_line(door: Door) -> None:
    assert run("--to", door.url, stdin=b'{\n  "n": {\n    "a": "b\\n"\n  }\n}\n').exit_code == 0
    assert b"\n" not in door.requests[0][2]
    assert json.loads(door.requests[0][2]) == {"n": {"a": "b\n"}}


@given(
    st.lists(st.dictionaries(st.text(), st.integers() | st.text(), min_size=1), min_size=1), st.sampled_from([None, 2])
)
def test_any_document_is_read_as_the_events_it_holds(events: list[Any], indent: int | None) -> None:
    import io

    array = io.BytesIO(json.dumps(events, indent=indent).encode())
    lines = io.BytesIO(b"\n".join(json.dumps(event).encode() for event in events))
    for source in (array, lines):
        assert [json.loads(event.text) for event in feed.from_file(source, "x")] == events


def test_events_go_out_in_batches_and_refusals_keep_their_place_in_the_input(door: Door) -> None:
    door.answers = [
        (202, {}, {"accepted": 2}),
        (202, {}, {"accepted": 1, "refused": [{"index": 1, "error": "type: expected a string"}]}),
        (400, {}, {"error": "nothing valid", "refused": [{"index": 0, "error": "appID: missing"}]}),
    ]
    text = b"\n".join(b'{"n":%d}' % n for n in range(5))
    result = run("--to", door.url, "--batch", "2", "--json", stdin=text)
    report = json.loads(result.stdout)
    assert result.exit_code == 1
    assert (report["sent"], report["accepted"], report["refused"]) == (5, 3, 2)
    assert report["refusals"] == [
        {"index": 3, "place": "line 4", "error": "type: expected a string"},
        {"index": 4, "place": "line 5", "error": "appID: missing"},
    ]
    assert [body.count(b"\n") + 1 for _, _, body in door.requests] == [2, 2, 1]


def test_a_batch_refused_as_a_whole_refuses_each_event_and_the_next_batch_still_goes(door: Door) -> None:
    door.answers = [(413, {}, {"error": "the body is too large"}), (202, {}, {"accepted": 2})]
    result = run("--to", door.url, "--batch", "2", stdin=b'{"n":0}\n{"n":1}\n{"n":2}\n{"n":3}')
    assert result.exit_code == 1
    assert "event 1 (line 2): 413: the body is too large" in result.stderr
    assert result.stdout == "2 accepted, 2 refused\n"


@pytest.mark.parametrize(
    ("path", "form", "bodies"),
    [
        ("/v2/", None, [b'[{"n":0},{"n":1}]']),
        ("/v2/namespace/com.example/", None, [b'[{"n":0},{"n":1}]']),
        ("/v1", None, [b'{"n":0}', b'{"n":1}']),
        ("/v1/a-key", None, [b'{"n":0}', b'{"n":1}']),
        ("/api/v1/apps/a/signals/", None, [b'{"n":0}', b'{"n":1}']),
        ("/api/v1/apps/a/signals/multiple/", None, [b'[{"n":0},{"n":1}]']),
        ("/v1/", "array", [b'[{"n":0},{"n":1}]']),
        ("/events?destination=x", None, [b'{"n":0}\n{"n":1}']),
    ],
)
def test_each_path_gets_the_body_form_that_it_takes(
    door: Door, path: str, form: str | None, bodies: Sequence[bytes]
) -> None:
    options = ["--form", form] if form else []
    assert run("--to", door.url, "--path", path, *options, '{"n":0}', '{"n":1}').exit_code == 0
    assert [body for _, _, body in door.requests] == bodies
    assert {sent for sent, _, _ in door.requests} == {path}


def test_a_busy_door_is_asked_again_after_retry_after(door: Door) -> None:
    door.answers = [(503, {"Retry-After": "0"}, {"error": "full"}), (429, {"Retry-After": "0"}, {}), (202, {}, {})]
    assert run("--to", door.url, EVENT).exit_code == 0
    assert len(door.requests) == 3


def test_a_door_that_stays_busy_ends_the_sending_with_its_reason(door: Door) -> None:
    door.answers = [(503, {"Retry-After": "0"}, {"error": "spool is full"})]
    result = run("--to", door.url, "--retries", "2", "--batch", "1", EVENT, EVENT)
    assert result.exit_code == 1
    assert len(door.requests) == 3
    assert "answered 503: spool is full" in result.stderr


@pytest.mark.parametrize("status", [401, 403, 404, 500])
def test_an_answer_that_concerns_all_that_follow_ends_the_sending(door: Door, status: int) -> None:
    door.answers = [(status, {}, {"error": "no such path"})]
    result = run("--to", door.url, "--batch", "1", EVENT, EVENT)
    assert (result.exit_code, len(door.requests)) == (1, 1)
    assert f"answered {status}: no such path" in result.stderr


@pytest.mark.parametrize(
    ("after", "attempt", "seconds"),
    [("7", 0, 7.0), ("9999", 0, 30.0), (None, 0, 1.0), (None, 3, 8.0), (None, 9, 30.0), ("Fri, 01 Jan 2027", 1, 2.0)],
)
def test_the_wait_follows_retry_after_and_is_bounded(after: str | None, attempt: int, seconds: float) -> None:
    assert post._wait_s(after, attempt) == seconds


def test_an_answer_that_is_no_json_is_still_understood(door: Door) -> None:
    door.answers = [(200, {}, b"OK")]
    assert run("--to", door.url, EVENT).stdout == "1 accepted, 0 refused\n"
    door.answers = [(400, {}, {"error": True, "reason": "type is missing"})]
    assert "400: type is missing" in run("--to", door.url, EVENT).stderr
    door.answers = [(400, {}, b"<h1>Bad Request</h1>")]
    assert "400: <h1>Bad Request</h1>" in run("--to", door.url, EVENT).stderr


def test_many_refusals_are_summed_up(door: Door) -> None:
    door.answers = [(400, {}, {"error": "no"})]
    result = run("--to", door.url, stdin=b'{"n":0}\n' * 50)
    assert result.stderr.count("refused: event") == 20
    assert "… and 30 more refused" in result.stderr


@pytest.mark.parametrize("to", ["http://127.0.0.1:{}", "127.0.0.1:{}", "udp://127.0.0.1:{}"])
def test_nobody_at_the_address_is_exit_4_and_says_what_to_do(to: str) -> None:
    result = run("--to", to.format(free_port()), EVENT)
    assert result.exit_code == 4, result.output
    assert "Connection refused" in result.stderr
    assert "forwarder run" in result.stderr


@pytest.mark.parametrize("to", ["unix:{}/none.sock", "unixgram:{}/none.sock"])
def test_no_socket_at_the_path_is_exit_4(tmp_path: Path, to: str) -> None:
    assert run("--to", to.format(tmp_path), EVENT).exit_code == 4


def test_a_door_that_breaks_off_is_exit_4_and_says_that_it_is_ambiguous() -> None:
    from forwarder.receiver import Faults

    with StandinThread(faults=Faults(reset="after-storing")) as standin:
        result = run("--to", standin.url, "--path", "/v2/", EVENT)
    assert result.exit_code == 4
    assert "may be accepted" in result.stderr


def test_a_door_that_hangs_is_given_up_after_the_time_out() -> None:
    from forwarder.receiver import Faults

    with StandinThread(faults=Faults(hang="after-body")) as standin:
        result = run("--to", standin.url, "--path", "/v2/", "--timeout", "0.1", EVENT)
    assert result.exit_code == 4
    assert "did not answer within 0.1 s" in result.stderr


def test_what_it_sends_is_what_the_vendors_take() -> None:
    with StandinThread(key="k") as standin:
        assert run("--to", standin.url, "--path", "/v2/", EVENT, EVENT).exit_code == 0
        person = Numbered.encharge(1).decode()
        assert run("--to", standin.url, "--path", "/v1", "--header", "X-Encharge-Token: k", person).exit_code == 0
        assert [row.event for row in standin.events()] == [EVENT.encode(), EVENT.encode(), person.encode()]


def test_http_over_a_unix_socket(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        got: list[bytes] = []

        def answer() -> None:
            connection, _ = listener.accept()
            with connection:
                got.append(connection.recv(65536))
                while b"}" not in got[-1]:
                    got.append(connection.recv(65536))
                connection.sendall(b'HTTP/1.1 202 Accepted\r\nContent-Length: 14\r\n\r\n{"accepted":1}')

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        result = run("--to", f"unix:{path}", EVENT)
        thread.join(10)
    assert (result.exit_code, result.stdout) == (0, "1 accepted, 0 refused\n")
    assert EVENT.encode() in b"".join(got)


@pytest.mark.parametrize("kind", ["udp", "unixgram"])
def test_each_event_is_a_datagram_of_its_own(tmp_path: Path, kind: str) -> None:
    family = socket.AF_INET if kind == "udp" else socket.AF_UNIX
    with socket.socket(family, socket.SOCK_DGRAM) as listener:
        listener.bind(("127.0.0.1", 0) if kind == "udp" else str(tmp_path / "d"))
        listener.settimeout(10)
        to = f"udp://127.0.0.1:{listener.getsockname()[1]}" if kind == "udp" else f"unixgram:{tmp_path}/d"
        result = run("--to", to, stdin=b'[{"n":1},\n{"n":2}]')
        assert [listener.recv(65536), listener.recv(65536)] == [b'{"n":1}', b'{"n":2}']
    assert result.exit_code == 0
    assert result.stdout.startswith("2 sent as datagrams")


def test_an_event_too_large_for_a_datagram_is_refused_and_the_others_go() -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as listener:
        listener.bind(("127.0.0.1", 0))
        listener.settimeout(10)
        large = json.dumps({"n": "x" * 70_000})
        result = run("--to", f"udp://127.0.0.1:{listener.getsockname()[1]}", large, '{"n":1}')
        assert listener.recv(65536) == b'{"n":1}'
    assert result.exit_code == 1
    assert "too large for a datagram" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--to", "ftp://x"], "--to"),
        (["--to", "http://127.0.0.1:1/events"], "--to"),
        (["--to", "udp://127.0.0.1"], "--to"),
        (["--to", "unix:relative"], "--to"),
        (["--path", "events"], "--path"),
        (["--header", "no colon"], "--header"),
        (["--to", "udp://127.0.0.1:9", "--ack", "fsync"], "--ack"),
        (["--file", "-"], "not both"),
        (["--batch", "0"], "--batch"),
    ],
)
def test_wrong_usage_is_exit_2_and_names_the_option(arguments: list[str], says: str) -> None:
    result = run(*arguments, EVENT)
    assert result.exit_code == 2
    assert says in result.stderr


def test_unreadable_input_is_exit_2_and_says_where(door: Door, tmp_path: Path) -> None:
    result = run("--to", door.url, stdin=b'[{"n":1},')
    assert result.exit_code == 2
    assert "stdin is neither a JSON document nor NDJSON" in result.stderr
    assert run("--to", door.url, '{"n":').exit_code == 2
    assert "--file" in run("--to", door.url, "--file", str(tmp_path / "none")).stderr
    assert door.requests == []


def test_no_events_at_all_is_fine_for_a_pipe(door: Door) -> None:
    result = run("--to", door.url, stdin=b"\n")
    assert (result.exit_code, result.stdout) == (0, "0 accepted, 0 refused\n")
