"""The HTTP server around the application: limits on headers, bodies and time, and shutdown.

uvicorn speaks HTTP; this adds the limits it lacks: size and number of headers, size of the body,
time to send a request, time to read an answer. It also notifies the application at once when its
client disconnects. It knows nothing of keys, money or providers.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any, cast

import httptools
import uvicorn
from starlette.applications import Starlette
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from spanledger.config import Config
from spanledger.errors import ConfigError
from spanledger.gateway.app import CONNECTION, Edge
from spanledger.gateway.paths import call_path
from spanledger.gateway.replies import request_ids
from spanledger.wires import spoken_by
from spanledger.wires.base import Inbound, Problem

MAX_HEADERS = 100
KEEP_ALIVE_S = 75
"""Longer than clients and load balancers keep a connection, so that they close it rather than us."""
ONCE = frozenset(
    {b"host", b"origin", b"authorization", b"api-key", b"x-api-key", b"x-spanledger-customer"}
)
"""Headers that identify the caller. Of two, a proxy before us may have checked the other one."""
LINGER_S = 2.0
"""How long a refused client may keep sending, ignored, so that it gets to read the refusal."""
UPLOAD_PACE_BYTES = 512 * 1024
"""A form with files must arrive by this much in each `body_timeout_s`."""
DRAIN_LOW_BYTES = 16 * 1024
"""Once its answer backs up, a client must read this much in each `stream_idle_timeout_s`."""
CANCEL_GRACE_S = 5.0
"""Time for cancelled requests to book their end, after `shutdown_grace_s` is over."""
DRAIN_TICK_S = 0.05
_CONTINUE = b"HTTP/1.1 100 "
BACKLOG = 2048


class _Violation(Exception):  # noqa: N818  # not a real error: it unwinds the parser
    """Raised inside the parser's callbacks; `EdgeProtocol.violation` has the details."""


class HeadWithBody:
    """A transport that writes an answer's head together with what follows it: one system call and one
    packet instead of two."""

    __slots__ = ("_begun", "_head", "_transport", "is_closing")

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._head = b""
        self._begun = False
        self.is_closing = transport.is_closing

    def write(self, data: bytes) -> None:
        if self._head:
            data, self._head = self._head + data, b""
        elif not self._begun and not data.startswith(_CONTINUE):
            self._begun, self._head = True, data
            return
        self._transport.write(data)

    def close(self) -> None:
        if self._head:
            self._transport.write(self._head)
        self._transport.close()


class ServerConfig(uvicorn.Config):
    """uvicorn's settings plus ours, where the protocol finds them."""

    def __init__(self, app: Starlette, config: Config) -> None:
        super().__init__(
            app,
            host=config.gateway.host,
            port=config.gateway.port,
            http=EdgeProtocol,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=int(CANCEL_GRACE_S),
        )
        self.limits = config.gateway
        self.edge = cast("Edge", app.state.edge)


class EdgeProtocol(HttpToolsProtocol):
    """One connection. The application sets `on_lost` while it serves a request."""

    def __init__(self, config: ServerConfig, **state: Any) -> None:
        super().__init__(config, **state)
        self.limits = config.limits
        self.edge = config.edge
        self.on_lost: Callable[[], object] | None = None
        self.violation: tuple[int, str, str] | None = None
        self.in_head = False
        self.in_body = False
        self.refused = False
        self.upgrading = False
        self.head_left = 0
        self.headers_left = 0
        self.uploads = False
        self.body_left = self.last_left = 0
        self.body_announced = 0
        self.unparsed_head_bytes = 0
        self.patience: asyncio.TimerHandle | None = None
        self.backlog: asyncio.TimerHandle | None = None

    # The connection.

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # uvicorn narrows it too
        super().connection_made(transport)
        self.patience = self.loop.call_later(self.limits.body_timeout_s, self._too_slow)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timers()
        super().connection_lost(exc)
        if self.on_lost is not None:
            self.on_lost()

    def data_received(self, data: bytes) -> None:
        if self.refused:
            return
        self._unset_keepalive_if_required()
        head_went_on = self.in_head
        try:
            try:
                self.parser.feed_data(data)
            except httptools.HttpParserUpgrade as upgrade:
                self._decline_upgrade(data[upgrade.args[0] :])
        except httptools.HttpParserError:
            self._refuse(
                *(self.violation or (400, "invalid_http", "the request is not valid HTTP"))
            )
            return
        if self.in_head and head_went_on:
            # The parser does not report an unfinished header, so its bytes are counted here.
            self.unparsed_head_bytes += len(data)
            if self.unparsed_head_bytes > self.limits.max_header_bytes:
                self._refuse(*self._head_too_large())
                return
        if self.in_head or self.in_body:
            if self.patience is None:
                self.patience = self.loop.call_later(self.limits.body_timeout_s, self._too_slow)
        elif self.patience is not None:
            self.patience.cancel()
            self.patience = None

    # The parser's callbacks.

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope[CONNECTION] = self  # type: ignore[literal-required]  # a key of our own
        self.in_head = True
        self.head_left = self.limits.max_header_bytes
        self.headers_left = MAX_HEADERS
        self.uploads = False
        self.body_left = self.last_left = self.limits.max_body_bytes
        self.body_announced = 0
        self.unparsed_head_bytes = 0

    def on_url(self, url: bytes) -> None:
        self.head_left -= len(url)
        if self.head_left < 0:
            self._violate(self._head_too_large())
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self.head_left -= len(name) + len(value) + 4
        self.headers_left -= 1
        if self.head_left < 0 or self.headers_left < 0:
            self._violate(self._head_too_large())
        if self.in_body:
            return  # a trailer: headers after the body are ignored
        super().on_header(name, value)
        name = self.headers[-1][0]
        if name in ONCE and any(earlier == name for earlier, _ in self.headers[:-1]):
            message = f"the header `{name.decode()}` appears twice; send it once"
            self._violate((400, "repeated_header", message))
        if name == b"content-length":
            self.body_announced = int(value)
        elif name == b"content-type" and value.lower().startswith(b"multipart/form-data"):
            self.uploads = True
            self.body_left = self.last_left = self.limits.max_upload_bytes

    def on_headers_complete(self) -> None:
        self.in_head = False
        if self.body_announced > self.body_left:  # only now, as a later header may name the wire
            self._violate(self._body_too_large())
        self.upgrading = self.parser.should_upgrade()
        if self.upgrading:
            return
        self.in_body = True
        super().on_headers_complete()
        if self.scope["method"] != "HEAD":  # whose answer is a head alone
            self.cycle.transport = cast("asyncio.Transport", HeadWithBody(self.transport))

    def on_body(self, body: bytes) -> None:
        self.body_left -= len(body)
        if self.body_left < 0:
            self._violate(self._body_too_large())
        super().on_body(body)

    def on_message_complete(self) -> None:
        if self.upgrading:
            return
        self.in_body = False
        super().on_message_complete()
        if not self.pipeline:
            # No pipelined request is waiting, and a disconnect is only seen while reading.
            self.flow.resume_reading()

    def _decline_upgrade(self, rest: bytes) -> None:
        """Continue as if no other protocol had been offered, as HTTP allows.

        The parser assumes that the rest is in that protocol, and would lose the body. Java's own
        client offers h2c with its first request on each connection.
        """
        method = self.parser.get_method()
        if method == b"CONNECT":
            self.violation = (400, "invalid_http", "CONNECT is not supported")
            raise httptools.HttpParserError
        hidden = (b"upgrade", b"http2-settings", b"connection")
        keep = b"keep-alive" if self.parser.should_keep_alive() else b"close"
        kept = [(name, value) for name, value in self.headers if name not in hidden]
        lines = b"".join(b"%s: %s\r\n" % header for header in (*kept, (b"connection", keep)))
        head = b"%s %s HTTP/1.1\r\n%s\r\n" % (method, self.url, lines)
        self.parser = httptools.HttpRequestParser(self)
        self.parser.feed_data(head + rest)

    def pass_on(self, event: bytes) -> bool:
        """Write an event of a stream that has begun, unless its client has to catch up first."""
        if self.flow.write_paused or self.transport.is_closing():
            return False
        self.transport.write(b"%x\r\n%b\r\n" % (len(event), event))
        return True

    # Answers that back up.

    def pause_writing(self) -> None:
        super().pause_writing()
        if self.backlog is None:
            self._watch_backlog()

    def resume_writing(self) -> None:
        super().resume_writing()
        if self.backlog is not None:
            self.backlog.cancel()
            self.backlog = None

    def timeout_keep_alive_handler(self) -> None:
        super().timeout_keep_alive_handler()
        # Closing waits until the answer is read; a client that never reads is disconnected.
        self.loop.call_later(self.limits.stream_idle_timeout_s, self.transport.abort)

    def break_off(self) -> None:
        """Close the connection in the middle of an answer, which is how its client notices."""
        if self.cycle is not None:
            self.cycle.disconnected = True
        self.transport.close()

    def _watch_backlog(self, before: int | None = None) -> None:
        waiting = self.transport.get_write_buffer_size()
        if before is not None and waiting > max(0, before - DRAIN_LOW_BYTES):
            self.transport.abort()
            return
        self.backlog = self.loop.call_later(
            self.limits.stream_idle_timeout_s, self._watch_backlog, waiting
        )

    # Refusals.

    def _head_too_large(self) -> tuple[int, str, str]:
        most = self.limits.max_header_bytes
        message = f"the request has more than {most} bytes of headers, or {MAX_HEADERS} headers"
        return 431, "request_head_too_large", message

    def _body_too_large(self) -> tuple[int, str, str]:
        most, name = self.limits.max_body_bytes, "max_body_bytes"
        if self.uploads:
            most, name = self.limits.max_upload_bytes, "max_upload_bytes"
        message = f"the request body exceeds {most} bytes (gateway.{name})"
        return 413, "request_too_large", message

    def _violate(self, violation: tuple[int, str, str]) -> None:
        self.violation = violation
        raise _Violation

    def _too_slow(self) -> None:
        self.patience = None
        if self._keeps_its_pace():
            self.patience = self.loop.call_later(self.limits.body_timeout_s, self._too_slow)
        elif self.in_head or self.in_body:
            limit = self.limits.body_timeout_s
            message = f"the request was not complete within {limit:g} seconds"
            self._refuse(408, "request_timeout", message)
        else:
            self.transport.close()

    def _keeps_its_pace(self) -> bool:
        """Whether a large body is arriving fast enough; the request's deadline ends it in any case."""
        arrived, self.last_left = self.last_left - self.body_left, self.body_left
        return self.in_body and self.uploads and arrived >= UPLOAD_PACE_BYTES

    def _refuse(self, status: int, code: str, message: str) -> None:
        """Respond without the application, unless a response has begun, and close."""
        self.refused = True
        self._stop_timers()
        cycle = self.cycle
        owns_cycle = self.in_body and cycle is not None
        if cycle is not None and not cycle.response_complete:
            if not owns_cycle or cycle.response_started or self.pipeline:
                # A response is under way, and its reader would take this one as part of it.
                self.transport.abort()
                return
            cycle.disconnected = True
            cycle.message_event.set()
        if self.on_lost is not None:
            self.on_lost()
        if not (owns_cycle and cycle.response_complete):
            problem = Problem(message, "invalid_request", code)
            self.transport.write(_raw_answer(status, problem, self._spoken(), self.edge))
        self.loop.call_later(LINGER_S, self.transport.abort)

    def _spoken(self) -> Inbound:
        """The wire of the request, as far as it has arrived."""
        path = (self.url or b"").partition(b"?")[0].decode("latin-1")
        return spoken_by(call_path(path) or path, dict(self.headers or ()))

    def _stop_timers(self) -> None:
        for timer in (self.patience, self.backlog):
            if timer is not None:
                timer.cancel()
        self.patience = self.backlog = None


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
    app: Starlette,
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


def _raw_answer(status: int, problem: Problem, wire: Inbound, edge: Edge) -> bytes:
    body = wire.error(problem)
    headers = (
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(body)),
        *request_ids(edge.new_request_id(), wire),
        (b"x-should-retry", b"false"),
        (b"connection", b"close"),
    )
    lines = b"".join(b"%s: %s\r\n" % header for header in headers)
    return STATUS_LINE[status] + lines + b"\r\n" + body
