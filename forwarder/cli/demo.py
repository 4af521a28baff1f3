"""`forwarder demo`: the whole job in one run that ends by itself, with real processes, sockets and signals."""

import asyncio
import signal
import socket
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
import click
import orjson
from rich.console import Console
from rich.padding import Padding

from forwarder.cli import control_client
from forwarder.config import loading
from forwarder.core.report import Report
from forwarder.core.seams import SpoolStats
from forwarder.errors import ForwarderError
from forwarder.receiver import Faults, Receiver
from forwarder.vendors.samples import Sample, samples

KEY = "demo-write-key"
WHILE_DOWN = 500
PATIENCE_S = 20.0
CONFIG = """
[listen]
http = ["127.0.0.1:{port}"]
udp = ["127.0.0.1:{port}"]
admin = "none"
[spool]
directory = "{directory}/spool"
min_free = "1MiB"
[destinations.telemetrydeck]
kind = "telemetrydeck"
url = "{upstream}"
flush = {{ interval = "200ms" }}
retry = {{ initial = "200ms", max = "1s" }}
[destinations.encharge]
kind = "encharge"
url = "{upstream}/v1"
write_key = {{ file = "{directory}/write-key" }}
retry = {{ initial = "200ms", max = "1s" }}
"""


class DemoFailed(ForwarderError):
    """The demo did not end as it must; the message says where."""


@click.command()
def demo() -> None:
    """See the whole job in one run: it needs nothing, leaves nothing behind and ends by itself in half a minute.

    A temporary spool, a local stand-in for both vendors, and a real daemon. Every SDK's bodies go in over HTTP and UDP;
    the vendors fail; the daemon is killed with SIGKILL and started again; everything arrives; the ledger adds up.

    \b
    Example:
      forwarder demo
    """  # noqa: D301  click's \b marks a verbatim block
    console = Console(highlight=False)
    with tempfile.TemporaryDirectory(prefix="forwarder-demo-") as directory:
        asyncio.run(_Story(console, Path(directory)).tell())


class _Daemon:
    """`forwarder run` as a child process."""

    def __init__(self, config: Path) -> None:
        self._config = config
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> dict[str, Any]:
        """Start it; return its log record `ready`."""
        command = (sys.executable, "-m", "forwarder", "run", "--config", str(self._config))
        self._process = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.PIPE)
        assert self._process.stderr is not None  # noqa: S101  asked for one line above
        said = b""
        async with asyncio.timeout(PATIENCE_S):
            async for line in self._process.stderr:
                said += line
                if line.startswith(b"{") and (record := orjson.loads(line))["event"] == "ready":
                    self._drain = asyncio.create_task(self._process.stderr.read(), name="log of the daemon")
                    return dict(record)
        raise DemoFailed(f"the daemon did not start:\n{said.decode()}")

    @property
    def pid(self) -> int:
        """Return its process id; 0 before the start."""
        return self._process.pid if self._process is not None else 0

    async def end(self, how: signal.Signals) -> int:
        """Send a signal and wait; return the exit code."""
        if self._process is None or self._process.returncode is not None:
            return 0
        self._process.send_signal(how)
        async with asyncio.timeout(PATIENCE_S):
            await self._drain
            return await self._process.wait()


class _Story:
    """The demo's steps, in order. `sent` and `arrived` are compared event by event at the end."""

    def __init__(self, console: Console, directory: Path) -> None:
        self._console = console
        self._directory = directory
        self._config = directory / "forwarder.toml"
        self._daemon = _Daemon(self._config)
        self._port = _free_port()
        self._sent: Counter[bytes] = Counter()
        self._step = 0

    async def tell(self) -> None:
        """Tell it; raises DemoFailed if the end is not a happy one."""
        begun = time.monotonic()
        async with Receiver(key=KEY, require_received_at=True) as standin:
            try:
                await self._open(standin)
                await self._send_samples(standin)
                await self._vendors_fail(standin)
                await self._kill()
                await self._vendors_recover(standin)
                self._sum_up(standin, await asyncio.to_thread(self._report), time.monotonic() - begun)
                await self._daemon.end(signal.SIGTERM)
            finally:
                await self._daemon.end(signal.SIGKILL)

    async def _open(self, standin: Receiver) -> None:
        text = CONFIG.format(port=self._port, directory=self._directory, upstream=standin.url)
        self._config.write_text(text)
        key = self._directory / "write-key"
        key.touch(mode=0o600)
        key.write_text(KEY)
        await self._daemon.start()
        self._say(f"a daemon (pid {self._daemon.pid}) listens on 127.0.0.1:{self._port}, HTTP and UDP")
        self._note(f"it delivers to a local stand-in for both vendors on {standin.url}")

    async def _send_samples(self, standin: Receiver) -> None:
        self._say("every SDK's body goes in: over HTTP, each answered after fsync, and over UDP")
        for vendor in ("telemetrydeck", "encharge"):
            mine = [sample for sample in samples() if sample.vendor == vendor]
            accepted = sum([await self._post(sample.path, sample.body) for sample in mine])
            datagrams = sum(map(self._datagram, mine))
            self._note(f"{vendor}: {accepted} events over HTTP, {datagrams} over UDP")
            self._console.print(Padding(f"[dim]{', '.join(sample.name for sample in mine)}[/dim]", (0, 0, 0, 5)))
        await self._until_arrived(standin)
        self._note(f"all {self._sent.total()} arrived at the stand-in")

    async def _vendors_fail(self, standin: Receiver) -> None:
        standin.order([Faults(status=503)])
        self._say(f"[yellow]both vendors fail[/yellow]: 503 for every request; {WHILE_DOWN} more events come in")
        for number in range(0, WHILE_DOWN, 2):
            await self._post("/events", _pair(number))
        await self._until(lambda report: all(one.lane and one.lane.last_error for one in report.destinations))
        for one in (await asyncio.to_thread(self._report)).destinations:
            self._note(f"{one.name}: {one.spool.queued_events} queued on disk, {one.words}")

    async def _kill(self) -> None:
        pid = self._daemon.pid
        await self._daemon.end(signal.SIGKILL)
        self._say(f"[red]SIGKILL[/red]: daemon {pid} is gone, in the middle of it")
        begun = time.monotonic()
        ready = await self._daemon.start()
        queued = ", ".join(f"{name} {count}" for name, count in ready["queued"].items())
        self._note(f"started again in {time.monotonic() - begun:.1f} s; found on disk: {queued}")

    async def _vendors_recover(self, standin: Receiver) -> None:
        standin.order([])
        self._say("[green]the vendors are back[/green]: one probe, slow start, then everything")
        await self._until_arrived(standin)
        await self._until(lambda report: all(not one.spool.queued_events for one in report.destinations))

    def _sum_up(self, standin: Receiver, report: Report, seconds: float) -> None:
        arrived = _events(standin)
        missing, extra = self._sent - arrived, arrived - self._sent
        self._say("the ledger: every event accepted has exactly one outcome")
        for one in report.destinations:
            self._note(f"{one.name}: {_ledger(one.spool)}")
        balanced = all(one.spool.imbalance == 0 for one in report.destinations)
        if missing or not balanced:
            raise DemoFailed(f"{missing.total()} events never arrived; ledger balanced: {balanced}")
        total = self._sent.total()
        twice = f"{extra.total()} twice (cut off in flight by SIGKILL)" if extra else "none twice"
        self._console.print(
            f"\n[bold green]{total} sent, {total} arrived, 0 lost, {twice}[/bold green], in {seconds:.0f} s.\n"
            "Next: forwarder config example > forwarder.toml"
        )

    # ---- doing

    async def _post(self, path: str, body: bytes) -> int:
        async with (
            aiohttp.ClientSession() as session,
            session.post(f"http://127.0.0.1:{self._port}{path}", data=body) as answer,
        ):
            said = orjson.loads(await answer.read())
        if "accepted" not in said or "refused" in said:
            raise DemoFailed(f"POST {path} was answered {answer.status}: {said}")
        self._sent.update(_split(body))
        return int(said["accepted"])

    def _datagram(self, sample: Sample) -> int:
        """Send it as one datagram; return how many events that were. Very old clients name the app in the path only."""
        if sample.vendor == "telemetrydeck" and b"appID" not in sample.body:
            return 0
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.sendto(sample.body, ("127.0.0.1", self._port))
        events = _split(sample.body)
        self._sent.update(events)
        return len(events)

    async def _until_arrived(self, standin: Receiver) -> None:
        try:
            await standin.wait_for(lambda found: not self._sent - _events(found), timeout_s=PATIENCE_S)
        except TimeoutError:
            missing = (self._sent - _events(standin)).total()
            raise DemoFailed(f"{missing} of {self._sent.total()} events did not arrive in {PATIENCE_S} s") from None

    async def _until(self, wanted: Callable[[Report], bool]) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not wanted(await asyncio.to_thread(self._report)):
            if time.monotonic() > deadline:
                raise DemoFailed("the daemon's status is not what it must be; see forwarder status")
            await asyncio.sleep(0.1)

    def _report(self) -> Report:
        return control_client.fetch_report(loading.load(self._config)[0])

    # ---- telling

    def _say(self, text: str) -> None:
        self._step += 1
        self._console.print(f"[bold]{self._step}.[/bold] {text}")

    def _note(self, text: str) -> None:
        self._console.print(f"   [dim]→[/dim] {text}")


def _pair(number: int) -> bytes:
    """Return one event for each vendor, as two lines."""
    person = f"user{number % 20}@example.com"
    signal_ = {"appID": "demo", "clientUser": f"user{number}", "type": "demo", "floatValue": number}
    event = {"name": "demo", "user": {"email": person}, "properties": {"number": number}}
    return orjson.dumps(signal_) + b"\n" + orjson.dumps(event)


def _split(body: bytes) -> list[bytes]:
    """Return a body's events in a form that compares equal at both ends."""
    documents: list[Any] = []
    for document in map(orjson.loads, body.split(b"\n") if body.count(b"\n{") else [body]):
        documents += document if isinstance(document, list) else [document]
    return list(map(_comparable, documents))


def _events(standin: Receiver) -> Counter[bytes]:
    return Counter(_comparable(orjson.loads(row.event)) for row in standin.events())


def _comparable(event: Any) -> bytes:
    """Return the event without `receivedAt`, which the daemon stamps where the sender gave none."""
    return orjson.dumps({key: value for key, value in event.items() if key != "receivedAt"})


def _ledger(spool: SpoolStats) -> str:
    accepted = spool.next_sequence - spool.first_sequence
    ends = [
        f"{count} {outcome}" for outcome, count in spool.ledger.items() if count or outcome in ("delivered", "died")
    ]
    return f"{accepted} accepted = {' + '.join(ends)} + {spool.queued_events} queued; missing: {spool.imbalance}"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
