"""A receiver of notices for tests: a real HTTP server whose answers are scripted.

Without a script it answers 204. `drip` sends its answer a byte at a time and never ends; `hang` sends none.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple, Self


class Received(NamedTuple):
    """One POST."""

    path: str
    headers: Mapping[str, str]
    body: bytes


class Answer(NamedTuple):
    """What it answers."""

    status: int = 204
    headers: Mapping[str, str] = {}
    body: bytes = b""
    manner: str = ""


class NoticeSink:
    """The sink, on a port of the loopback interface, in threads of its own."""

    def __init__(self) -> None:
        self.received: list[Received] = []
        self.script: list[Answer] = []
        self.otherwise = Answer()
        self.released = threading.Event()
        sink = self

        class Handler(BaseHTTPRequestHandler):
            """Answers every POST."""

            def do_POST(self) -> None:
                """Keep it, and answer."""
                body = self.rfile.read(int(self.headers["content-length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                sink.received.append(Received(self.path, headers, body))
                answer = sink.script.pop(0) if sink.script else sink.otherwise
                if answer.manner == "hang":
                    sink.released.wait(60)
                    return
                self.send_response(answer.status)
                for name, value in answer.headers.items():
                    self.send_header(name, value)
                if answer.manner == "drip":
                    self.end_headers()
                    self._drip()
                    return
                self.send_header("content-length", str(len(answer.body)))
                self.end_headers()
                self.wfile.write(answer.body)

            def _drip(self) -> None:
                while not sink.released.wait(0.05):
                    try:
                        self.wfile.write(b"x")
                        self.wfile.flush()
                    except OSError:
                        return

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base's name
                """Log nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def url(self) -> str:
        """Its URL."""
        return f"http://127.0.0.1:{self._server.server_address[1]}/hooks/canary-path"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.released.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
