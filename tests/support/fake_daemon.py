"""`python -m tests.support.fake_daemon CONFIG`: just enough of a daemon to test the process harness with.

It acknowledges every POST, remembers nothing, is ready when its log says so, and ends with 0 on SIGTERM.
"""

import json
import signal
import sys
import threading
import tomllib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self._answer(b'{"accepted":1}')

    def do_GET(self) -> None:
        self._answer({"/status": b'{"ok":true}', "/metrics": b'# HELP a\na{b="c d"} 3\n'}.get(self.path, b"ok"))

    def log_message(self, *_: object) -> None:
        """Print nothing."""

    def _answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def main() -> None:
    config = tomllib.loads(Path(sys.argv[1]).read_text())
    if "refuse_to_start" in config:
        print("not with this configuration", file=sys.stderr)  # noqa: T201  it is a program
        sys.exit(2)
    servers = []
    for address in (config["listen"]["http"], config["listen"]["admin"]):
        host, _, port = address.rpartition(":")
        servers.append(ThreadingHTTPServer((host, int(port)), _Handler))
        threading.Thread(target=servers[-1].serve_forever, daemon=True).start()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    print(json.dumps({"event": "ready", "level": "info"}), file=sys.stderr, flush=True)  # noqa: T201  it is a program
    while True:
        signal.pause()


if __name__ == "__main__":
    main()
