"""What the gateway sends by itself: the headers of every answer, and the errors of its own."""

from __future__ import annotations

import asyncio
import logging
import traceback
from functools import lru_cache
from typing import Literal

from starlette.types import Send

from spanledger.gateway import replies
from spanledger.gateway.bodies import FormUpload
from spanledger.gateway.crowd import Slot
from spanledger.gateway.replies import GatewayReply, Headers
from spanledger.gateway.turn import WHOLE
from spanledger.routing.request import Exchange
from spanledger.wires import DEFAULT
from spanledger.wires.base import Inbound

JSON_BODY = (b"content-type", b"application/json")

log = logging.getLogger("spanledger.gateway")


class OpenCall:
    """One POST in progress: what error handling and a lost connection need to know about it."""

    __slots__ = ("exchange", "lost", "place", "request_id", "started", "task", "upload", "wire")

    def __init__(self, request_id: str, wire: Inbound) -> None:
        self.request_id = request_id
        self.wire = wire
        self.exchange: Exchange | None = None
        self.place: Slot | None = None
        self.upload: FormUpload | None = None
        self.started: Literal["", "stream", "whole"] = ""
        self.lost = False
        self.task: asyncio.Task[object] | None = None

    def on_lost(self) -> None:
        """The client disconnected: stop, which also cancels the call to the provider."""
        self.lost = True
        if self.task is not None:
            self.task.cancel()


@lru_cache(maxsize=1024)
def header_value(text: str) -> bytes:
    """A configured name as a header value; characters that HTTP cannot carry become `?`."""
    return "".join(c if " " <= c <= "~" else "?" for c in text).encode("ascii")


def answer_headers(
    request_id: str, exchange: Exchange, first: tuple[tuple[bytes, bytes], ...]
) -> Headers:
    """The headers of an answer: these first, and what says which request and attempt it was."""
    headers = [
        *first,
        *replies.request_ids(request_id, exchange.ask.wire),
        (b"x-spanledger-trace-id", exchange.start.trace_id.encode()),
        (b"x-spanledger-attempts", b"%d" % exchange.attempts),
        (b"x-spanledger-deployment", header_value(exchange.deployment)),
    ]
    if exchange.standing is not None:
        headers += exchange.ask.wire.rate_headers(exchange.standing)
    if exchange.journaled:
        headers.append((b"x-spanledger-ledger", b"journal"))
    if exchange.changed:
        names = ", ".join(dict.fromkeys(exchange.changed))
        headers.append((b"x-spanledger-changed", header_value(names)))
    if exchange.degraded:
        headers.append((b"x-spanledger-degraded", header_value(", ".join(exchange.degraded))))
    return headers


def head_of(
    request_id: str,
    exchange: Exchange | None,
    wire: Inbound,
    first: tuple[tuple[bytes, bytes], ...],
) -> Headers:
    """The same, also of a request that is not read yet."""
    if exchange is None:
        return [*first, *replies.request_ids(request_id, wire)]
    return answer_headers(request_id, exchange, first)


async def send_reply(
    send: Send,
    reply: GatewayReply,
    request_id: str,
    exchange: Exchange | None = None,
    wire: Inbound = DEFAULT,
) -> None:
    """Answer a request with one of the gateway's own replies."""
    first = (JSON_BODY, (b"content-length", b"%d" % len(reply.body)), *reply.headers)
    headers = head_of(request_id, exchange, wire, first)
    start = {"type": "http.response.start", "status": reply.status, "headers": headers}
    await send({**start, WHOLE: reply.body})


async def end_early(send: Send, call: OpenCall) -> None:
    """The server cancelled the request during shutdown; the router has already booked it."""
    if call.started == "stream":
        event = call.wire.error_event(replies.shutting_down())
        await send({"type": "http.response.body", "body": event})
    elif not call.started:
        await send_reply(
            send, replies.draining(call.wire), call.request_id, call.exchange, call.wire
        )


def log_fault(error: BaseException, request_id: str) -> None:
    """Log where a bug of ours is, without the exception's text: it may quote a prompt or a key."""
    where = "".join(traceback.format_tb(error.__traceback__))
    log.error("request %s failed in the gateway: %s\n%s", request_id, type(error).__name__, where)


async def fail(send: Send, call: OpenCall) -> None:
    """Answer a request in which the gateway itself failed."""
    error = replies.internal_error()
    if call.started == "stream":
        await send({"type": "http.response.body", "body": call.wire.error_event(error)})
    elif not call.started:
        reply = GatewayReply(500, call.wire.error(error), ((b"x-should-retry", b"false"),))
        await send_reply(send, reply, call.request_id, call.exchange, call.wire)
