"""The edge on a real socket with a scripted router behind it, and a raw client in front."""

from __future__ import annotations

import asyncio
import hashlib
import importlib
import json
import os
import socket
import threading
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

from spanledger.clock import Clock
from spanledger.config import Config, parse_config
from spanledger.errors import (
    BudgetExceededError,
    LedgerUnavailableError,
    ProviderError,
    Refusal,
    SpanledgerError,
)
from spanledger.gateway.app import create_app
from spanledger.gateway.server import GatewayServer, make_server
from spanledger.ledger.keys import FoundKey, Key
from spanledger.ledger.ports import Ledger
from spanledger.routing.health import Health
from spanledger.routing.plan import Plan
from spanledger.routing.request import Exchange
from spanledger.routing.rules import CooldownRules
from spanledger.wires.base import Answer, Frame

if TYPE_CHECKING:
    from spanledger.routing.router import Router

PATIENCE_S = 10.0
SECRET = "sk-secret"
"""Appears in the text of errors that no caller and no log may see."""
REFUSAL = Refusal(
    "acme-monthly", "customer", "acme", 12_500_000_000, 12_400_000_000, 90_000_000, 20_000_000,
    1_796_083_200,
)  # fmt: skip


class ScriptedLedger:
    """The two reads that the edge makes, counted."""

    def __init__(self) -> None:
        self.keys: dict[str, Key] = {}
        self.replaced: dict[str, int] = {}
        self.lookups: list[str] = []
        self.has_keys_calls = 0
        self.down = False
        self.journaling = False
        self.journal_has_room = False

    def add(self, secret: str, customer: str, routes: tuple[str, ...] = ()) -> None:
        """Create a key."""
        digest = hashlib.sha256(secret.encode()).hexdigest()
        self.keys[digest] = Key(f"key_{digest[:12]}", customer, "", routes, 1, None)

    async def find_key(self, digest: str) -> FoundKey | None:
        """As in the ledger."""
        self.lookups.append(digest)
        if self.down:
            raise LedgerUnavailableError("disk is gone")
        key = self.keys.get(digest)
        return None if key is None else FoundKey(key, self.replaced.get(digest))

    async def check(self) -> None:
        """As in the ledger."""
        if self.down:
            raise LedgerUnavailableError("disk is gone")

    async def has_keys(self) -> bool:
        """As in the ledger."""
        self.has_keys_calls += 1
        if self.down:
            raise LedgerUnavailableError("disk is gone")
        return any(key.revoked_ns is None for key in self.keys.values())


PROVIDER_S = -1_000.0
"""How long providers pretend to take: the gateway's own measurements must not include it."""


class NoPassing:
    """No provider has endpoints that requests could be passed through to."""

    def knows(self, provider: str) -> bool:
        """As in the router's."""
        return not provider


@dataclass
class ScriptedRouter:
    """Does what the route's name says, and records the requests it got."""

    seen: list[Exchange] = field(default_factory=list)
    rejected: list[tuple[Exchange, SpanledgerError]] = field(default_factory=list)
    cancelled: list[str] = field(default_factory=list)
    closed: list[str] = field(default_factory=list)
    running: int = 0
    released: bool = False
    passing: NoPassing = field(default_factory=NoPassing)

    async def complete(self, exchange: Exchange) -> Answer:
        """Answer, fail or hang."""
        self._begin(exchange)
        route = exchange.start.route
        if route == "slow":
            await self._hang(exchange)
        self._raise(route)
        exchange.cost_nano, exchange.remaining_nano = 1_234, 5_000_000_000
        exchange.provider_s = PROVIDER_S
        body = {
            "id": "x",
            "echo": {k: json.loads(bytes(v)) for k, v in exchange.ask.fields.items()},
        }
        return Answer(body=json.dumps(body).encode(), usage=None)

    async def stream(self, exchange: Exchange) -> AsyncGenerator[Frame]:
        """Three chunks, or whatever the route's name says."""
        self._begin(exchange)
        route = exchange.start.route
        self._raise(route)
        try:
            for number in range(3):
                yield Frame(data=b'data: {"n": %d}\n\n' % number)
            if route == "hang-in-stream":
                await self._hang(exchange)
            if route == "flood":
                block = b'data: {"x": "' + b"x" * 60_000 + b'"}\n\n'
                while True:
                    yield Frame(data=block)
                    await asyncio.sleep(0)
            if route == "break-in-stream":
                raise ProviderError("stream_interrupted", SECRET, billed="unknown")
        finally:
            self.closed.append(exchange.start.request_id)
        exchange.cost_nano = 77

    async def reject(self, exchange: Exchange, error: SpanledgerError) -> None:
        """Record what was booked."""
        self.rejected.append((exchange, error))

    def _begin(self, exchange: Exchange) -> None:
        self.seen.append(exchange)
        exchange.attempts, exchange.deployment = 2, "primary"

    def _raise(self, route: str) -> None:
        if route == "broke":
            raise BudgetExceededError(REFUSAL)
        if route == "bug":
            raise RuntimeError(SECRET)
        if route.startswith("provider-"):
            kind = route.removeprefix("provider-")
            told = {"message": "their text", "code": "theirs"}
            raise ProviderError(kind, SECRET, retry_after_s=2.4, told=told)

    def release(self) -> None:
        """Release hanging requests."""
        self.released = True

    async def _hang(self, exchange: Exchange) -> None:
        self.running += 1
        try:
            while not self.released:  # noqa: ASYNC110  # another thread sets it
                await asyncio.sleep(0.01)
        except asyncio.CancelledError:
            self.cancelled.append(exchange.start.request_id)
            raise
        finally:
            self.running -= 1


ROUTES = (
    "echo", "slow", "broke", "bug", "hang-in-stream", "flood", "break-in-stream", "other/route",
    "provider-server_error", "provider-rate_limited", "provider-invalid_request",
    "provider-authentication_failed", "provider-cooldown",
)  # fmt: skip


def config_with(**gateway: Any) -> Config:
    """A configuration with a deployment for each scripted route."""
    models = [
        {"model_name": r, "litellm_params": {"model": f"openai/{r}", "api_key": "k"}}
        for r in ROUTES
    ]
    return parse_config({"model_list": models, "gateway": {"port": 0, **gateway}}, {}, "test")


@dataclass
class Edge:
    """A running gateway in its own thread."""

    host: str
    port: int
    router: ScriptedRouter
    ledger: ScriptedLedger
    server: GatewayServer
    overheads: list[float]

    @property
    def url(self) -> str:
        """Base URL for clients."""
        return f"http://{self.host}:{self.port}/v1"

    def connect(self) -> socket.socket:
        """A raw connection."""
        return socket.create_connection((self.host, self.port), timeout=PATIENCE_S)

    def send(self, data: bytes) -> Response:
        """Send raw bytes and read one response."""
        with self.connect() as sock:
            sock.sendall(data)
            return read_response(sock)

    def post(self, body: object, path: str = "/v1/chat/completions", **headers: str) -> Response:
        """POST a body (JSON unless bytes) with headers by name, underscores for dashes."""
        return self.send(request(body, path, **headers))

    def get(self, path: str, **headers: str) -> Response:
        """GET a path, headers as in `post`."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        lines = _lines({"host": "localhost", "connection": "close", **named})
        return self.send(f"GET {path} HTTP/1.1\r\n{lines}\r\n".encode())


@dataclass
class Response:
    """A response as received. `status` 0: the connection closed without one."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        """The decoded body."""
        return json.loads(self.body)

    @property
    def error(self) -> dict[str, Any]:
        """The error object, checked for OpenAI's four fields."""
        error = cast("dict[str, Any]", self.json()["error"])
        assert {"message", "type", "param", "code"} <= error.keys()
        assert self.headers["x-request-id"].startswith("req_")
        return error


def chat(route: str = "echo", **more: Any) -> dict[str, Any]:
    """A small chat body."""
    return {"model": route, "messages": [{"role": "user", "content": "hi"}], **more}


def request(body: object, path: str = "/v1/chat/completions", **headers: str) -> bytes:
    """The bytes of a POST request."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    base = {
        "host": "localhost",
        "content-type": "application/json",
        "content-length": str(len(data)),
        "connection": "close",
    }
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return f"POST {path} HTTP/1.1\r\n{_lines({**base, **named})}\r\n".encode() + data


def read_response(sock: socket.socket) -> Response:
    """Read until the response is complete or the connection closes."""
    data = b""
    while b"\r\n\r\n" not in data:
        if not (more := _recv(sock)):
            return Response(0, {}, data)
        data += more
    head, _, body = data.partition(b"\r\n\r\n")
    status, *lines = head.decode("latin-1").split("\r\n")
    headers = {n.lower(): v.strip() for n, _, v in (line.partition(":") for line in lines)}
    chunked = headers.get("transfer-encoding") == "chunked"
    length = int(headers.get("content-length", 0))
    while not body.endswith(b"0\r\n\r\n") if chunked else len(body) < length:
        if not (more := _recv(sock)):
            break
        body += more
    return Response(int(status.split()[1]), headers, dechunk(body) if chunked else body)


def dechunk(data: bytes) -> bytes:
    """The payload of a chunked body, as far as it arrived."""
    whole = b""
    while data:
        size, _, data = data.partition(b"\r\n")
        count = int(size, 16)
        whole, data = whole + data[:count], data[count + 2 :]
    return whole


def is_closed(sock: socket.socket) -> bool:
    """Whether the server closes the connection (within the socket's timeout)."""
    while more := _recv(sock):
        del more
    return True


def wait_for(what: Callable[[], bool]) -> None:
    """Poll until a condition holds."""
    deadline = time.monotonic() + PATIENCE_S
    while not what():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.005)


def import_litellm() -> Any:
    """LiteLLM, which otherwise fetches its price map on import."""
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    return importlib.import_module("litellm")


async def no_metrics() -> bytes:
    """Metrics of the scripted gateway."""
    return b"spanledger_up 1\n"


@contextmanager
def running_edge(config: Config, ledger: ScriptedLedger | None = None) -> Iterator[Edge]:
    """Serve the edge from a thread until the block ends."""
    router, ledger = ScriptedRouter(), ledger or ScriptedLedger()
    clock = Clock()
    overheads: list[float] = []
    app = create_app(
        config,
        cast("Router", router),
        cast("Ledger", ledger),
        Health(Plan.from_config(config).deployments, CooldownRules(), clock),
        clock,
        no_metrics,
        overheads.append,
    )
    urls: list[str] = []
    server = make_server(app, config, on_ready=urls.append)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    wait_for(lambda: bool(urls))
    port = int(urls[0].rpartition(":")[2])
    try:
        yield Edge("127.0.0.1", port, router, ledger, server, overheads)
    finally:
        server.should_exit = server.force_exit = True
        thread.join(PATIENCE_S)
        assert not thread.is_alive(), "the server did not end"


def _recv(sock: socket.socket) -> bytes:
    try:
        return sock.recv(262_144)
    except ConnectionError:
        return b""


def _lines(headers: dict[str, str]) -> str:
    return "".join(f"{name}: {value}\r\n" for name, value in headers.items())
