"""One connection: requests are read, within limits on headers, body and time, and the application
answers them in their order.

uvicorn's protocol has the connection; this adds the limits that it lacks, and notifies the application
at once when its client disconnects. `turn` writes the answers. It knows nothing of keys, money or
providers.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, cast
from urllib.parse import unquote

import httptools
import uvicorn
from starlette.types import ASGIApp, Scope
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from spanledger.config import Config
from spanledger.gateway.app import CONNECTION, Application, Edge
from spanledger.gateway.paths import call_path
from spanledger.gateway.replies import Headers, internal_error, request_ids
from spanledger.gateway.sending import log_fault
from spanledger.gateway.turn import STATUS_LINES, Turn
from spanledger.wires import spoken_by
from spanledger.wires.base import Inbound, Problem

MAX_HEADERS = 100
KEEP_ALIVE_S = 75
"""Longer than clients and load balancers keep a connection, so that they close it rather than us."""
ONCE = frozenset(
    {
        *(b"host", b"origin", b"authorization", b"api-key", b"x-api-key", b"x-goog-api-key"),
        b"x-spanledger-customer",
    }
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
_HASH = ord("#")


class _Violation(Exception):  # noqa: N818  # not a real error: it unwinds the parser
    """Raised inside the parser's callbacks; `EdgeProtocol.violation` has the details."""


class ServerConfig(uvicorn.Config):
    """uvicorn's settings plus ours, where the protocol finds them."""

    def __init__(self, app: Application, config: Config) -> None:
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
        self.calls = app.calls


class EdgeProtocol(HttpToolsProtocol):
    """One connection. The application sets `on_lost` while it serves a request."""

    cycle: Turn | None  # type: ignore[assignment]  # ours instead of uvicorn's, whose name it keeps
    pipeline: deque[tuple[Turn, ASGIApp]]  # type: ignore[assignment]  # the same

    def __init__(self, config: ServerConfig, **state: Any) -> None:
        super().__init__(config, **state)
        self.limits = config.limits
        self.edge = config.edge
        self.calls = config.calls
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
        self.idle_since: float | None = None
        self.patience: asyncio.TimerHandle | None = None
        self.backlog: asyncio.TimerHandle | None = None
        self.usual: Scope = {}
        """What all scopes of the connection have."""

    # The connection.

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # uvicorn narrows it too
        super().connection_made(transport)
        self.patience = self.loop.call_later(self.limits.body_timeout_s, self._too_slow)
        self.usual = {
            "type": "http",
            "asgi": {"version": self.asgi_version, "spec_version": "2.3"},
            "server": self.server,
            "client": self.client,
            "scheme": self.scheme,
            "root_path": self.root_path,
            "state": self.app_state,
            CONNECTION: self,
        }

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timers()
        self._unset_keepalive_if_required()
        self.connections.discard(self)
        if self.cycle is not None:
            self.cycle.disconnect()
        self.cycle = None  # it refers to this connection
        self.pipeline.clear()
        self.flow.resume_writing()
        if exc is None:
            self.transport.close()
        self.parser = None  # type: ignore[assignment]  # as uvicorn does
        self.usual = {}  # as it does
        if self.on_lost is not None:
            self.on_lost()

    def data_received(self, data: bytes) -> None:
        if self.refused:
            return
        self.idle_since = None
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
        self.url = b""
        self.headers = []
        self.expect_100_continue = False
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
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.head_left -= len(name) + len(value) + 4
        self.headers_left -= 1
        if self.head_left < 0 or self.headers_left < 0:
            self._violate(self._head_too_large())
        if self.in_body:
            return  # a trailer: headers after the body are ignored
        name = name.lower()
        if name in ONCE:
            for earlier, _ in self.headers:
                if earlier == name:
                    message = f"the header `{name.decode()}` appears twice; send it once"
                    self._violate((400, "repeated_header", message))
        elif name == b"content-length":
            self.body_announced = int(value)
        elif name == b"content-type":
            if value.lower().startswith(b"multipart/form-data"):
                self.uploads = True
                self.body_left = self.last_left = self.limits.max_upload_bytes
        elif name == b"expect" and value.lower() == b"100-continue":
            self.expect_100_continue = True
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        self.in_head = False
        if self.body_announced > self.body_left:  # only now, as a later header may name the wire
            self._violate(self._body_too_large())
        self.upgrading = self.parser.should_upgrade()
        if self.upgrading:
            return
        self.in_body = True
        scope, before = self._scope(), self.cycle
        path = call_path(scope["path"])
        app = self.app if path is None else self.calls
        if path is not None:
            scope["path"] = path
        self.cycle = turn = Turn(
            scope,
            self.transport,
            self.flow,
            self.on_response_complete,
            expects_continue=self.expect_100_continue,
            keep_alive=scope["http_version"] != "1.0" and self.parser.should_keep_alive(),
        )
        if before is None or before.response_complete:
            self._begin(turn, app)
        else:
            self.flow.pause_reading()
            self.pipeline.appendleft((turn, app))

    def on_body(self, body: bytes) -> None:
        self.body_left -= len(body)
        if self.body_left < 0:
            self._violate(self._body_too_large())
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.arrived(body)

    def on_message_complete(self) -> None:
        if self.upgrading:
            return
        self.in_body = False
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.arrived_whole()
        if not self.pipeline:
            # No pipelined request is waiting, and a disconnect is only seen while reading.
            self.flow.resume_reading()

    def _scope(self) -> Scope:
        """What ASGI says of a request, of which the head has arrived."""
        url = self.url
        if url.startswith(b"/") and _HASH not in url:
            raw_path, _, query = url.partition(b"?")
        else:
            parsed = httptools.parse_url(url)
            raw_path, query = parsed.path, parsed.query or b""
        path = raw_path.decode("ascii")
        scope = dict(self.usual)
        scope["http_version"] = self.parser.get_http_version()
        scope["method"] = self.parser.get_method().decode("ascii")
        scope["headers"] = self.headers
        scope["path"] = unquote(path) if "%" in path else path
        scope["raw_path"] = raw_path
        scope["query_string"] = query
        return scope

    def _begin(self, turn: Turn, app: ASGIApp) -> None:
        """Let the application answer."""

        def ended(task: asyncio.Task[None]) -> None:
            self.tasks.discard(task)
            error = None if task.cancelled() else task.exception()
            if error is not None:
                log_fault(error, "")
            if turn.response_complete or turn.disconnected or self.transport.is_closing():
                return
            if turn.response_started:
                turn.abandon()
                return
            status, wire = 500, self._spoken()
            headers, body = _refusal(internal_error(), wire, self.edge)
            turn.start(status, headers)
            turn.write(body, more=False)

        answering = cast("Coroutine[Any, Any, None]", app(turn.scope, turn.receive, turn.send))
        task = self.loop.create_task(answering)
        self.tasks.add(task)
        task.add_done_callback(ended)

    def on_response_complete(self) -> None:
        """An answer is written: the next request has its turn, or the connection is idle."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._begin(*self.pipeline.pop())
            return
        self.idle_since = self.loop.time()
        if self.timeout_keep_alive_task is None:
            self._watch_idleness(self.timeout_keep_alive)

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

    def _watch_idleness(self, after_s: float) -> None:
        """One timer for many requests: setting one for each would take longer."""
        self.timeout_keep_alive_task = self.loop.call_later(
            after_s, self.timeout_keep_alive_handler
        )

    def timeout_keep_alive_handler(self) -> None:
        self.timeout_keep_alive_task = None
        if self.idle_since is None:
            return  # the end of the request in progress sets it again
        left_s = self.idle_since + self.timeout_keep_alive - self.loop.time()
        if left_s > 0:
            self._watch_idleness(left_s)
            return
        self.transport.close()
        # Closing waits until the answer is read; a client that never reads is disconnected.
        self.loop.call_later(self.limits.stream_idle_timeout_s, self.transport.abort)

    def break_off(self) -> None:
        """Close the connection in the middle of an answer, which is how its client notices."""
        if self.cycle is not None:
            self.cycle.disconnect()
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
        answered = self.in_body and cycle is not None and cycle.response_complete
        if cycle is not None and not cycle.response_complete:
            if not self.in_body or cycle.response_started or self.pipeline:
                # A response is under way, and its reader would take this one as part of it.
                self.transport.abort()
                return
            cycle.disconnect()
        if self.on_lost is not None:
            self.on_lost()
        if not answered:
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


def _refusal(problem: Problem, wire: Inbound, edge: Edge) -> tuple[Headers, bytes]:
    """Headers and body of an answer that no application gives."""
    body = wire.error(problem)
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(body)),
        *request_ids(edge.new_request_id(), wire),
        (b"x-should-retry", b"false"),
        (b"connection", b"close"),
    ]
    return headers, body


def _raw_answer(status: int, problem: Problem, wire: Inbound, edge: Edge) -> bytes:
    headers, body = _refusal(problem, wire, edge)
    lines = b"".join(b"%s: %s\r\n" % header for header in headers)
    return STATUS_LINES[status] + lines + b"\r\n" + body
