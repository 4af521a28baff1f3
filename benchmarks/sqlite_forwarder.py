"""What a team would otherwise write in an afternoon: aiohttp, one sqlite table, synchronous=FULL, a delivery loop.

No grouping of commits, no checks beyond "it is JSON", no retry policy, no dead letters. It is here to be compared with.

Run as `python -m benchmarks.sqlite_forwarder PORT DIRECTORY VENDOR_URL`.
"""

import asyncio
import json
import sqlite3
import sys
from contextlib import suppress
from pathlib import Path

import aiohttp
import uvloop
from aiohttp import web

BATCH = 100
PAUSE_S = 0.2


class Queue:
    """One table; every request is one transaction."""

    def __init__(self, path: Path) -> None:
        self._base = sqlite3.connect(path, isolation_level=None)
        self._base.execute("PRAGMA journal_mode=WAL")
        self._base.execute("PRAGMA synchronous=FULL")
        self._base.execute("CREATE TABLE IF NOT EXISTS events (id INTEGER PRIMARY KEY, body TEXT NOT NULL)")

    def add(self, events: list[object]) -> None:
        """Store events durably."""
        self._base.execute("BEGIN")
        self._base.executemany("INSERT INTO events (body) VALUES (?)", [(json.dumps(event),) for event in events])
        self._base.execute("COMMIT")

    def oldest(self) -> list[tuple[int, str]]:
        """Return the next batch."""
        return self._base.execute("SELECT id, body FROM events ORDER BY id LIMIT ?", (BATCH,)).fetchall()

    def remove(self, last: int) -> None:
        """Forget what was delivered."""
        self._base.execute("DELETE FROM events WHERE id <= ?", (last,))


async def deliver(queue: Queue, url: str) -> None:
    """Send batches for ever."""
    async with aiohttp.ClientSession() as session:
        while True:
            batch = queue.oldest()
            if not batch:
                await asyncio.sleep(PAUSE_S)
                continue
            body = "[" + ",".join(text for _, text in batch) + "]"
            with suppress(aiohttp.ClientError):
                async with session.post(url + "/v2/", data=body) as response:
                    if response.ok:
                        queue.remove(batch[-1][0])


async def serve(port: int, directory: Path, url: str) -> None:
    """Listen until the process is ended."""
    queue = Queue(directory / "queue.sqlite")

    async def handle(request: web.Request) -> web.Response:
        events = json.loads(await request.read())
        queue.add(events)
        return web.json_response({"accepted": len(events)})

    application = web.Application(client_max_size=64 * 1024 * 1024)
    application.router.add_post("/{path:.*}", handle)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    await deliver(queue, url)


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]))
