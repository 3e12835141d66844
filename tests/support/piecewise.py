"""A provider that answers piece by piece, when a test says so, and sees what arrives meanwhile."""

from __future__ import annotations

import contextlib
import select
import socket
import threading
from collections.abc import Iterator


class Pieces:
    """One connection at a time. What it sends goes out once a request is there."""

    def __init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self.received = b""
        self.closed = False
        self._outgoing = b""
        self._begun = self._last = self._broken = self._stopped = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    @property
    def body(self) -> bytes:
        """What arrived of the request's body, without the framing of chunks."""
        data = self.received.partition(b"\r\n\r\n")[2]
        whole = b""
        while b"\r\n" in data:
            size, _, data = data.partition(b"\r\n")
            count = int(size, 16)
            whole, data = whole + data[:count], data[count + 2 :]
        return whole

    def send(self, piece: bytes) -> None:
        """A piece of the answer."""
        self._outgoing += b"%x\r\n%s\r\n" % (len(piece), piece)

    def finish(self) -> None:
        """The end of the answer."""
        self._outgoing += b"0\r\n\r\n"

    def break_off(self) -> None:
        """Close the connection without the end."""
        self._broken = True

    def stop(self) -> None:
        """End the thread."""
        self._stopped = True
        self._thread.join(10)
        self._socket.close()

    def _run(self) -> None:
        self._socket.settimeout(0.02)
        while not self._stopped:
            with contextlib.suppress(TimeoutError):
                connection, _ = self._socket.accept()
                with connection:
                    self._serve(connection)
                self.closed = True

    def _serve(self, connection: socket.socket) -> None:
        while not self._stopped:
            readable, _, _ = select.select([connection], [], [], 0.02)
            if readable:
                try:
                    data = connection.recv(65_536)
                except ConnectionError:
                    return
                if not data:
                    return
                self.received += data
            ready, self._outgoing = self._outgoing, b""
            if ready and b"\r\n\r\n" in self.received:
                if not self._begun:
                    self._begun = True
                    connection.sendall(
                        b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n"
                        b"transfer-encoding: chunked\r\n\r\n"
                    )
                connection.sendall(ready)
            elif ready:
                self._outgoing = ready + self._outgoing
            if self._broken and not self._outgoing:
                return


@contextlib.contextmanager
def piecewise() -> Iterator[Pieces]:
    """Run one on a free port."""
    server = Pieces()
    try:
        yield server
    finally:
        server.stop()
