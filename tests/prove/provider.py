"""The simulator as a provider that says which attempt each call was, and lets a proof act in between.

The gateway sends each attempt's trace context, so a call at the provider is joined with its row in
the ledger by the span's id, even if the caller never got an answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any, Literal, cast

from starlette.applications import Starlette
from starlette.types import Message, Receive, Scope, Send

from spanledger.sim.bill import Entry
from spanledger.sim.host import SimServer, listen
from spanledger.sim.server import create_sim

START_S = 30.0

Moment = Literal["received", "first byte", "mid-stream", "last byte"]
MOMENTS: tuple[Moment, ...] = ("received", "first byte", "mid-stream", "last byte")
MID_STREAM = 4
"""The part of a body that is the middle of a stream."""

_attempt: ContextVar[str] = ContextVar("attempt", default="")


class Provider:
    """A running simulator.

    Attributes:
        billed: the calls that it billed, or did not, by the span id of the attempt.
        received: span ids whose request has arrived, in order.
        at: called with a moment of a call and its trace id, in the provider's thread.
        gate: calls wait for it before they are served.
    """

    def __init__(self) -> None:
        self.billed: dict[str, list[Entry]] = defaultdict(list)
        self.received: list[str] = []
        self.at: Callable[[Moment, str], None] = lambda _moment, _trace: None
        self.gate = threading.Event()
        self.gate.set()
        self._app = create_sim(seed=1, speed=0.0)
        self._app.state.sim.bill.on_entry = self._book
        self.url = ""

    @property
    def board(self) -> Any:
        """Its board of faults."""
        return self._app.state.sim.board

    def forget(self) -> None:
        """Forget what was billed so far."""
        self.billed.clear()
        self.received.clear()
        self._app.state.sim.bill.reset()

    def _book(self, entry: Entry) -> None:
        self.billed[_attempt.get()].append(entry)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a call."""
        headers = dict(scope.get("headers", ()))
        parts = headers.get(b"traceparent", b"").decode().split("-")
        if len(parts) != 4:
            await self._app(scope, receive, send)
            return
        _attempt.set(parts[2])
        self.received.append(parts[2])
        bodies = 0

        async def receive_then() -> Message:
            message = await receive()
            if message["type"] == "http.request" and not message.get("more_body", False):
                self.at("received", parts[1])
                while not self.gate.is_set():  # noqa: ASYNC110 - the event belongs to another thread
                    await asyncio.sleep(0.005)
            return message

        async def send_then(message: Message) -> None:
            nonlocal bodies
            await send(message)
            if message["type"] != "http.response.body":
                return
            bodies += 1
            if not message.get("more_body", False):
                self.at("last byte", parts[1])
            elif bodies == 1:
                self.at("first byte", parts[1])
            elif bodies == MID_STREAM:
                self.at("mid-stream", parts[1])

        await self._app(scope, receive_then, send_then)


@contextlib.contextmanager
def running_provider() -> Iterator[Provider]:
    """Serve it from a thread."""
    provider = Provider()
    started, stop = threading.Event(), threading.Event()

    async def serve() -> None:
        sock, provider.url = listen("127.0.0.1", 0)
        server = SimServer(cast("Starlette", provider), on_ready=started.set)
        task = asyncio.create_task(server.serve(sockets=[sock]))
        while not stop.is_set():  # noqa: ASYNC110 - the event belongs to another thread
            await asyncio.sleep(0.02)
        server.should_exit = True
        await task
        sock.close()

    thread = threading.Thread(target=lambda: asyncio.run(serve()), name="provider", daemon=True)
    thread.start()
    if not started.wait(START_S):
        raise RuntimeError("the provider did not start")
    try:
        yield provider
    finally:
        provider.gate.set()
        stop.set()
        thread.join(START_S)
