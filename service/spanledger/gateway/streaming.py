"""Relays a stream to its caller, one event at a time, and reports how it ended.

Nothing is buffered or re-encoded here. The response headers are sent with the first event, so that
any earlier failure is an ordinary error with its own status.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

from starlette.types import Send

from spanledger.errors import SpanledgerError, forget_frames
from spanledger.gateway.replies import Headers, describe
from spanledger.money import format_usd
from spanledger.routing.request import Exchange
from spanledger.wires.base import Frame

STREAM_HEADERS: tuple[tuple[bytes, bytes], ...] = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
)

OCTETS = "application/octet-stream"
"""The content type of a file of which the provider does not say it."""


async def relay(
    frames: AsyncGenerator[Frame], exchange: Exchange, send: Send, head: Callable[[], Headers]
) -> None:
    """Send each event as it arrives, then the figures and the end mark, or an error and the figures.

    `head` is called once, at the first event. Closing or cancelling this closes `frames`, which
    cancels the call to the provider.

    Raises:
        SpanledgerError: the request failed before anything was sent.
    """
    started, closing, wire = False, b"", exchange.ask.wire
    async with aclosing(frames):
        try:
            async for frame in frames:
                if not started:
                    await _start(send, head())
                    started = True
                if frame.closes:
                    closing += frame.data
                    continue
                await send({"type": "http.response.body", "body": frame.data, "more_body": True})
        except SpanledgerError as error:
            if not started:
                raise
            # The error comes first: some clients parse anything before it as part of its JSON.
            last = wire.error_event(describe(error, exchange.attempts)) + figures(exchange)
            forget_frames(error)
        else:
            last = figures(exchange) + closing + wire.end
    if not started:
        await _start(send, head())
    await send({"type": "http.response.body", "body": last})


async def relay_bare(
    frames: AsyncGenerator[Frame], send: Send, head: Callable[[str], Headers]
) -> bool:
    """Send the bytes of one file as they arrive. Returns whether it is complete: nothing may be added
    to a file, so what it cost is in the ledger, and only a missing end says that it broke off.

    Raises:
        SpanledgerError: the request failed before anything was sent.
    """
    started = False
    async with aclosing(frames):
        try:
            async for frame in frames:
                if not started:
                    await _start(send, head(frame.content_type or OCTETS))
                    started = True
                await send({"type": "http.response.body", "body": frame.data, "more_body": True})
        except SpanledgerError as error:
            if not started:
                raise
            forget_frames(error)
            return False
    if not started:
        await _start(send, head(OCTETS))
    await send({"type": "http.response.body", "body": b""})
    return True


def figures(exchange: Exchange) -> bytes:
    """The comment at the end of a stream, with what the headers of a non-streamed answer have; nothing
    where clients take a comment for a part of the answer."""
    if not exchange.ask.wire.comments:
        return b""
    line = (
        f": spanledger cost_usd={format_usd(exchange.cost_nano)} attempts={exchange.attempts}"
        f" deployment={exchange.deployment.replace(chr(10), ' ').replace(chr(13), ' ')}"
    )
    if exchange.remaining_nano is not None:
        line += f" budget_remaining_usd={format_usd(exchange.remaining_nano)}"
    return line.encode() + b"\n\n"


async def _start(send: Send, headers: Headers) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": headers})
