"""A receiver of webhooks for tests: JSON over loopback, kept in order of arrival.

It answers `ok`, as Slack does: what gets another answer is sent again.
"""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self


class WebhookSink:
    """The sink, on a port of the loopback interface, in a thread of its own."""

    def __init__(self) -> None:
        self._bodies: list[Any] = []
        self._lock = threading.Lock()
        sink = self

        class Handler(BaseHTTPRequestHandler):
            """Accepts every POST."""

            def do_POST(self) -> None:
                """Keep the body."""
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                with sink._lock:
                    sink._bodies.append(body)
                self.send_response(200)
                self.send_header("content-length", "2")
                self.end_headers()
                self.wfile.write(b"ok")

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base's name
                """Log nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def url(self) -> str:
        """Its URL."""
        return f"http://127.0.0.1:{self._server.server_address[1]}/"

    def bodies(self) -> list[Any]:
        """The received messages."""
        with self._lock:
            return list(self._bodies)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
