"""Real processes for the acceptance tests: the daemon and the stand-in (clients.py holds who talks to them).

    with ReceiverProcess(tmp_path) as receiver, Daemon(tmp_path, CONFIG, receiver=receiver.url) as daemon:
        with Poster(daemon.http) as poster:
            poster.post("/v2/", range(100))
        daemon.kill9()
        daemon.start()
        …
        assert poster.acknowledged <= receiver.numbers()

CONFIG is TOML with `$HTTP`, `$UDP`, `$ADMIN` (host:port), `$SPOOL` (directory) and what else is given by keyword.
"""

import http.client
import json
import os
import re
import secrets
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from itertools import count
from pathlib import Path
from signal import SIGCONT, SIGKILL, SIGSTOP, SIGTERM, Signals
from string import Template
from types import TracebackType
from typing import Any, Self

from forwarder.receiver import Received, read_store
from tests.support.clients import Numbered

START_S = 60.0
END_S = 60.0
"""Bounds for what never comes, not for what is slow: a machine that is busy with other tests needs half of that."""
DAEMON = (sys.executable, "-m", "forwarder", "run", "--config")
RECEIVE = (sys.executable, "-m", "forwarder", "receive")
_PORTS = count(secrets.randbelow(10_000))


def free_port() -> int:
    """Return a port that is free for TCP and UDP on 127.0.0.1 right now.

    It is below the range from which the kernel takes ports for outgoing connections: otherwise a client that retries
    while the daemon is down may be given the daemon's own port, and connect to itself.
    """
    while True:
        port = 20_000 + next(_PORTS) % 10_000  # in turn: a daemon that is about to start must find its own still free
        with socket.socket() as tcp, socket.socket(type=socket.SOCK_DGRAM) as udp:
            try:
                tcp.bind(("127.0.0.1", port))
                udp.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


class Process:
    """One child process whose output lines are read on threads as they come."""

    def __init__(self, command: Sequence[str], *, env: dict[str, str] | None = None) -> None:
        self._command = list(command)
        self._env = {**os.environ, "PYTHONUNBUFFERED": "1", **(env or {})}
        self.pass_fds: Sequence[int] = ()
        """Descriptors that the next start hands on (socket activation)."""
        self._popen: subprocess.Popen[str] | None = None
        self._news = threading.Condition()
        self._readers: list[threading.Thread] = []
        self.lines: list[str] = []
        """Everything printed to stdout and stderr, over all starts, in the order of arrival."""
        self._seen = 0

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill9()

    @property
    def pid(self) -> int:
        """Return the process id."""
        assert self._popen is not None, "not started"
        return self._popen.pid

    @property
    def running(self) -> bool:
        """Return whether the process has not ended."""
        return self._popen is not None and self._popen.poll() is None

    @property
    def exit_code(self) -> int | None:
        """Return how it ended; None while it runs."""
        return None if self._popen is None else self._popen.poll()

    @property
    def rss_bytes(self) -> int:
        """Return the resident memory."""
        match = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{self.pid}/status").read_text())
        assert match is not None, "the process has ended"
        return int(match[1]) * 1024

    @property
    def cpu_s(self) -> float:
        """Return the processor time used so far, in seconds."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def start(self) -> None:
        """Start it (again) and return when it is ready; raises AssertionError with its output when it ends instead."""
        assert not self.running, "it runs already"
        self._join_readers()
        self._seen = len(self.lines)
        self._popen = subprocess.Popen(
            self._command,
            env=self._env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            pass_fds=self.pass_fds,
        )
        for stream in (self._popen.stdout, self._popen.stderr):
            reader = threading.Thread(target=self._read, args=(stream,), daemon=True)
            reader.start()
            self._readers.append(reader)
        try:
            self._until_ready()
        except AssertionError:
            self.kill9()
            raise

    def restart(self) -> int:
        """Terminate it, start it again; return the exit code."""
        code = self.terminate()
        self.start()
        return code

    def kill9(self) -> None:
        """SIGKILL it, if it runs, and wait until it is gone."""
        self._end(SIGKILL)

    def terminate(self, timeout_s: float = END_S) -> int:
        """SIGTERM it; return its exit code."""
        return self._end(SIGTERM, timeout_s)

    def signal(self, number: Signals) -> None:
        """Send any other signal."""
        assert self._popen is not None, "not started"
        self._popen.send_signal(number)

    def pause(self) -> None:
        """SIGSTOP it."""
        self.signal(SIGSTOP)

    def resume(self) -> None:
        """SIGCONT it."""
        self.signal(SIGCONT)

    def wait(self, timeout_s: float = END_S) -> int:
        """Wait until it ends by itself; return its exit code."""
        assert self._popen is not None, "not started"
        code = self._popen.wait(timeout_s)
        self._join_readers()
        return code

    def wait_for_line(self, wanted: Callable[[str], bool], timeout_s: float = START_S) -> str:
        """Return the first line since the start that is wanted, now or when it comes."""
        deadline = time.monotonic() + timeout_s
        position = self._seen
        with self._news:
            while True:
                for line in self.lines[position:]:
                    if wanted(line):
                        return line
                position = len(self.lines)
                left = deadline - time.monotonic()
                assert left > 0, f"no such line within {timeout_s} s\n{self.output()}"
                ended = not any(reader.is_alive() for reader in self._readers)
                assert not ended, f"ended with {self.wait()} before such a line\n{self.output()}"
                self._news.wait(min(left, 0.2))  # bounded: a reader thread that ends does not notify

    def output(self) -> str:
        """Return what it printed since the last start."""
        return "\n".join(self.lines[self._seen :])

    def records(self) -> list[dict[str, Any]]:
        """Return the lines that are JSON objects, over all starts."""
        return [record for line in list(self.lines) if (record := _record(line)) is not None]

    def logged(self, event: str) -> list[dict[str, Any]]:
        """Return the log records of one event name, over all starts."""
        return [record for record in self.records() if record.get("event") == event]

    def _until_ready(self) -> None:
        """Block until it can be used."""

    def _end(self, number: Signals, timeout_s: float = END_S) -> int:
        if self._popen is None:
            return 0
        if self.running:
            self._popen.send_signal(number)
        try:
            return self.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self._popen.kill()
            self.wait()
            raise

    def _read(self, stream: Any) -> None:
        with stream:
            for line in stream:
                with self._news:
                    self.lines.append(line.rstrip("\n"))
                    self._news.notify_all()

    def _join_readers(self) -> None:
        for reader in self._readers:
            reader.join(END_S)
        self._readers.clear()


class Daemon(Process):
    """`forwarder run`. Its addresses stay the same over restarts: `http`, `udp`, `admin` ("127.0.0.1:PORT")."""

    def __init__(
        self,
        directory: Path,
        config_text: str,
        *,
        command: Sequence[str] = DAEMON,
        env: dict[str, str] | None = None,
        **values: object,
    ) -> None:
        self.spool = directory / "spool"
        self.config = directory / "forwarder.toml"
        port = free_port()
        self.http = f"127.0.0.1:{port}"
        self.udp = f"127.0.0.1:{port}"
        self.admin = f"127.0.0.1:{free_port()}"
        places = {"HTTP": self.http, "UDP": self.udp, "ADMIN": self.admin, "SPOOL": self.spool}
        self.config.write_text(Template(config_text).substitute(places, **values))
        super().__init__([*command, str(self.config)], env=env)

    @property
    def control_socket(self) -> Path:
        """Return the path of the control socket."""
        return self.spool / "control.sock"

    def status(self) -> dict[str, Any]:
        """Return the admin listener's /status."""
        code, body = self.get("/status")
        assert code == http.client.OK, body
        document: dict[str, Any] = json.loads(body)
        return document

    def metrics(self) -> dict[str, float]:
        """Return /metrics as {"name{labels}": value}."""
        _, body = self.get("/metrics")
        rows = (line.rpartition(" ") for line in body.decode().splitlines() if line and not line.startswith("#"))
        return {name: float(value) for name, _, value in rows}

    def get(self, path: str) -> tuple[int, bytes]:
        """GET from the admin listener; return status and body."""
        host, _, port = self.admin.rpartition(":")
        connection = http.client.HTTPConnection(host, int(port), timeout=10)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def _until_ready(self) -> None:
        """Wait for the log line `ready`, which comes after the listeners are bound; then /readyz must agree."""
        self.wait_for_line(lambda line: (_record(line) or {}).get("event") == "ready")
        code, body = self.get("/readyz")
        assert code == http.client.OK, f"ready was logged, but /readyz says {code}: {body!r}"


class ReceiverProcess(Process):
    """`forwarder receive` as a process, storing what it gets. It keeps its port over restarts."""

    def __init__(
        self, directory: Path, *options: str, command: Sequence[str] = RECEIVE, port: int | None = None
    ) -> None:
        self.store = directory / "received.ndjson"
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        address = f"127.0.0.1:{self.port}"
        super().__init__([*command, "--http", address, "--store", str(self.store), "--quiet", *options])

    def order(self, *orders: dict[str, Any]) -> None:
        """Replace the faults; none given: all is well."""
        self._control("PUT", "/_receiver/faults", json.dumps(orders))

    def counts(self) -> dict[str, Any]:
        """Return what the stand-in counted since its start."""
        counts: dict[str, Any] = json.loads(self._control("GET", "/_receiver/received"))
        return counts

    def events(self) -> list[Received]:
        """Return everything stored, over all starts, in the order of arrival."""
        return list(read_store(self.store)) if self.store.exists() else []

    def numbers(self) -> set[int]:
        """Return the numbers of all `Numbered` events that arrived."""
        return set(map(Numbered.of, (row.event for row in self.events())))

    def wait_for_numbers(self, numbers: Iterable[int], timeout_s: float = END_S) -> None:
        """Return when all of `numbers` have arrived; raises AssertionError that names some that are missing.

        The one place that polls: the file grows in another process, and what is waited for may come in any order.
        """
        wanted = set(numbers)
        deadline = time.monotonic() + timeout_s
        while missing := wanted - self.numbers():
            assert time.monotonic() < deadline, f"{len(missing)} never arrived, such as {sorted(missing)[:10]}"
            time.sleep(0.05)

    def _until_ready(self) -> None:
        self.wait_for_line(lambda line: line.startswith("listening on "))

    def _control(self, method: str, path: str, body: str | None = None) -> bytes:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request(method, path, body)
            answer = connection.getresponse()
            text = answer.read()
            assert answer.status == http.client.OK, text
            return text
        finally:
            connection.close()


def _record(line: str) -> dict[str, Any] | None:
    if not line.startswith("{"):
        return None
    try:
        record = json.loads(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) else None
