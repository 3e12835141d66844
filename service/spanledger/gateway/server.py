"""The gateway's server: its socket, its start and its orderly end.

uvicorn has the loop over sockets and the signals; `connection` has the requests.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import Callable, Iterator

import uvicorn

from spanledger.config import Config
from spanledger.errors import ConfigError
from spanledger.gateway.app import Application
from spanledger.gateway.connection import CANCEL_GRACE_S, ServerConfig

DRAIN_TICK_S = 0.05
BACKLOG = 2048


class GatewayServer(uvicorn.Server):
    """uvicorn's server on our own socket, with an orderly shutdown.

    After SIGTERM or SIGINT, `/readyz` and new requests get 503 while requests in flight have
    `shutdown_grace_s` to finish. The rest is cancelled and has time to book its end.
    """

    def __init__(
        self,
        config: ServerConfig,
        sock: socket.socket,
        on_ready: Callable[[str], None] | None,
    ) -> None:
        super().__init__(config)
        self._grace_s = config.limits.shutdown_grace_s
        self.edge = config.edge
        self._sock = sock
        self._on_ready = on_ready

    @property
    def url(self) -> str:
        """Where it listens, with the actual port."""
        host, port = self._sock.getsockname()[:2]
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets or [self._sock])
        if self._on_ready is not None:
            self._on_ready(self.url)

    async def main_loop(self) -> None:
        await super().main_loop()
        self.edge.draining = True
        deadline = time.monotonic() + self._grace_s
        while (  # noqa: ASYNC110  # three things end the wait, one of them set by a signal
            self.edge.in_flight and time.monotonic() < deadline and not self.force_exit
        ):
            await asyncio.sleep(DRAIN_TICK_S)
        tasks = list(self.server_state.tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=CANCEL_GRACE_S)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        with super().capture_signals():
            try:
                yield
            finally:
                # uvicorn would raise the signal again, which would end the process before the
                # ledger and the shipper are closed.
                self._captured_signals.clear()


def bind(host: str, port: int) -> socket.socket:
    """A socket that listens there. Raises ConfigError if that fails."""
    try:
        found = socket.getaddrinfo(
            host.strip("[]"), port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        family, _, _, _, address = found[0]
        # asyncio sets TCP_NODELAY only on sockets that name their protocol.
        sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(address)
            sock.listen(BACKLOG)
        except OSError:
            sock.close()
            raise
    except OSError as error:
        raise ConfigError(
            f"cannot listen on {host}:{port}: {error.strerror or error}; "
            "choose another address with --host and --port"
        ) from error
    return sock


def make_server(
    app: Application,
    config: Config,
    sock: socket.socket | None = None,
    on_ready: Callable[[str], None] | None = None,
) -> GatewayServer:
    """The server for an application from `create_app`; `on_ready` gets its URL once it listens.

    Raises:
        ConfigError: the address cannot be listened on.
    """
    if sock is None:
        sock = bind(config.gateway.host, config.gateway.port)
    return GatewayServer(ServerConfig(app, config), sock, on_ready)
