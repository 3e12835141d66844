#!/usr/bin/python3
"""Stands in for Grafana where there is none: answers that it is well, and nothing else."""

from __future__ import annotations

import signal
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PORT = 3000


class Handler(BaseHTTPRequestHandler):
    """Well, and nothing else."""

    def do_GET(self) -> None:
        """200 for the question whether it is well."""
        self.send_response(200 if self.path == "/api/health" else 501)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base's name
        """Say nothing."""


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    ThreadingHTTPServer(("0.0.0.0", PORT), Handler).serve_forever()  # noqa: S104 - in a container
