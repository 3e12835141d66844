#!/usr/bin/python3
"""Stands in for Tempo where there is none: takes OTLP, drops it, and answers that it is ready.

A collector takes the spans, so that nothing queues up before it; this process answers on Tempo's port.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PORT = 3200


class Handler(BaseHTTPRequestHandler):
    """Ready, and nothing else: no answer could be taken for a trace."""

    def do_GET(self) -> None:
        """200 for the question whether it is ready."""
        self.send_response(200 if self.path == "/ready" else 501)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base's name
        """Say nothing."""


def main() -> int:
    """Serve, or with `--health` ask whether it is ready."""
    if "--health" in sys.argv:
        with urllib.request.urlopen(f"http://127.0.0.1:{PORT}/ready", timeout=2) as answer:
            return 0 if answer.status == 200 else 1
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    takes = subprocess.Popen(["/otelcol", "--config=/otelcol.yaml"])
    try:
        ThreadingHTTPServer(("0.0.0.0", PORT), Handler).serve_forever()  # noqa: S104 - in a container
    finally:
        takes.terminate()
    return 0


if __name__ == "__main__":
    sys.exit(main())
