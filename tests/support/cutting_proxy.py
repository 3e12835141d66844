"""A TCP proxy in front of a server that cuts a connection at a moment that a test chooses.

Runs in threads, a pair for each connection. It looks for a piece of text on the way to the server and
then cuts, before or after the server has got it.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Literal

Moment = Literal["before", "after", "silence"]
"""`before`: the server never gets the text. `after`: it gets it, and its answer gets lost. `silence`: the
same, but the connection stays open and nothing comes any more."""


@dataclass(slots=True)
class Cut:
    """What to cut.

    Attributes:
        text: in what is sent to the server.
        moment: before or after it is passed on.
        times: how often.
        skip: how many such texts pass first.
    """

    text: bytes
    moment: Moment
    times: int = 1
    skip: int = 0


class CuttingProxy:
    """Passes on everything until it is told to cut.

    Attributes:
        port: where it listens, on loopback.
        cuts: how many connections it has cut.
    """

    def __init__(self, target_port: int) -> None:
        self._target_port = target_port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.cuts = 0
        self.refuses = False
        self._cut: Cut | None = None
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self, text: bytes, moment: Moment, *, times: int = 1, skip: int = 0) -> None:
        """Cut the next connections that send this text."""
        with self._lock:
            self._cut = Cut(text, moment, times, skip)

    def close(self) -> None:
        """Stop listening, and cut what is open."""
        _end(self._listener)
        self._listener.close()
        self.cut_all()

    def cut_all(self) -> None:
        """Cut all connections that are open."""
        with self._lock:
            for end in self._open:
                _end(end)

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                if self.refuses:
                    client.close()
                    continue
                server = socket.create_connection(("127.0.0.1", self._target_port))
                for end in (client, server):
                    end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                with self._lock:
                    self._open |= {client, server}
                threading.Thread(target=self._serve, args=(client, server), daemon=True).start()

    def _serve(self, client: socket.socket, server: socket.socket) -> None:
        silent = threading.Event()
        down = threading.Thread(target=self._down, args=(server, client, silent), daemon=True)
        down.start()
        self._up(client, server, silent)
        down.join()
        with self._lock:
            self._open -= {client, server}
            client.close()
            server.close()

    def _up(self, client: socket.socket, server: socket.socket, silent: threading.Event) -> None:
        with suppress(OSError):
            while data := client.recv(65_536):
                cut = self._due(data)
                if cut is not None and cut.moment == "before":
                    _end(client)
                    break
                if cut is not None:
                    silent.set()  # before the server can have answered
                server.sendall(data)
                if cut is not None and cut.moment == "after":
                    _end(client)
                    break
        with suppress(OSError):
            server.shutdown(socket.SHUT_WR)  # the server finishes what it has got

    def _down(self, server: socket.socket, client: socket.socket, silent: threading.Event) -> None:
        with suppress(OSError):
            while data := server.recv(65_536):
                with suppress(OSError):  # its answer to a client that is gone
                    if not silent.is_set():
                        client.sendall(data)
        if not silent.is_set():
            _end(client)

    def _due(self, data: bytes) -> Cut | None:
        with self._lock:
            cut = self._cut
            if cut is None or cut.text not in data:
                return None
            if cut.skip:
                cut.skip -= 1
                return None
            cut.times -= 1
            if cut.times <= 0:
                self._cut = None
            self.cuts += 1
            return cut


def _end(end: socket.socket) -> None:
    with suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)


@contextmanager
def cutting_proxy(target_port: int) -> Iterator[CuttingProxy]:
    """A proxy that is closed with the block."""
    proxy = CuttingProxy(target_port)
    try:
        yield proxy
    finally:
        proxy.close()
