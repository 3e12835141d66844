"""Running the simulator on uvicorn: standalone, in this event loop or in a thread.

It owns sockets and the process lifecycle (port 0, stopping at once); it knows nothing about
providers.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Generator
from dataclasses import dataclass

import uvicorn
from starlette.applications import Starlette
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from spanledger.sim.call import Sim
from spanledger.sim.channel import TRANSPORT

CONNECTIONS_MAX = 4_096


class SimProtocol(HttpToolsProtocol):
    """uvicorn's HTTP/1.1, with the transport passed to the app so that it can break connections."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as in uvicorn
        super().connection_made(transport)
        self.app_state = {**self.app_state, TRANSPORT: transport}


class SimServer(uvicorn.Server):
    """A uvicorn server that closes connections when it stops: held ones would keep it waiting."""

    def __init__(
        self,
        app: Starlette,
        *,
        signals: bool = False,
        on_ready: Callable[[], None] | None = None,
    ) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http=SimProtocol,
                ws="none",
                lifespan="off",
                log_level="warning",
                access_log=False,
                server_header=False,
                proxy_headers=False,
                limit_concurrency=CONNECTIONS_MAX,
                timeout_graceful_shutdown=2,
            )
        )
        self._signals = signals
        self._on_ready = on_ready

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Leave signals to the embedding program, unless the simulator runs standalone."""
        if not self._signals:
            yield
            return
        with super().capture_signals():
            yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, then call `on_ready`."""
        await super().startup(sockets)
        if self._on_ready is not None and self.started:
            self._on_ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Close every connection, then stop."""
        for connection in list(self.server_state.connections):
            if isinstance(connection, SimProtocol):
                connection.transport.close()
        await super().shutdown(sockets)


@dataclass(frozen=True, slots=True)
class RunningSim:
    """A running simulator at `url`; `state` has its bill, faults and caches."""

    url: str
    state: Sim

    @property
    def openai_url(self) -> str:
        """`base_url` for an OpenAI client; Anthropic's client uses `url`."""
        return f"{self.url}/v1"


def run_alone(app: Starlette, host: str, port: int, on_ready: Callable[[str], None]) -> None:
    """Serve until SIGINT or SIGTERM; `on_ready` gets the URL once it answers.

    Raises:
        OSError: the address cannot be bound.
    """
    sock, url = listen(host, port)
    with sock, contextlib.suppress(KeyboardInterrupt):
        SimServer(app, signals=True, on_ready=lambda: on_ready(url)).run(sockets=[sock])


def listen(host: str, port: int) -> tuple[socket.socket, str]:
    """Bind a socket; returns it and its URL."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio sets TCP_NODELAY only on sockets that name their protocol; without it, answers in
    # two segments wait 40 ms for the client's delayed acknowledgement.
    sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((host, port))
        sock.listen(2_048)
    except OSError:
        sock.close()
        raise
    sock.setblocking(False)
    shown = f"[{host}]" if ":" in host else host
    return sock, f"http://{shown}:{sock.getsockname()[1]}"
