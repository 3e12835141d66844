"""Usual events of a stream reach their caller as they arrive; everything else takes its turn."""

from __future__ import annotations

import asyncio
import dataclasses
from typing import Any

import pytest
from msgspec.structs import replace

from spanledger.errors import ProviderError
from spanledger.providers.http import HttpProvider
from spanledger.wires import MESSAGES, RESPONSES
from spanledger.wires.base import Frame, Inbound
from tests.service.providers.samples import COUNTED, DONE, delta, event
from tests.service.providers.scripted import Scripted, ask, call, chunk, deployment, head

FIRST = [delta(role="assistant", content=""), delta(content="zero")]
LAST = [delta("stop"), COUNTED]


def text(word: str) -> dict[str, Any]:
    """A delta of the Messages API."""
    return {
        "type": "content_block_delta",
        "index": 0,
        "delta": {"type": "text_delta", "text": word},
    }


def said(word: str) -> dict[str, Any]:
    """A delta of the Responses API."""
    return {"type": "response.output_text.delta", "item_id": "msg_1", "delta": word}


WORDS = [f"word {n}" for n in range(9)]
NEW = {"id": "resp_1", "object": "response", "model": "m", "output": []}
TYPED: dict[str, tuple[list[dict[str, Any]], ...]] = {
    "messages": (
        [{"type": "message_start", "message": {"id": "msg_1", "usage": {}}}, text("zero")],
        [text(word) for word in WORDS],
        [
            {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {}},
            {"type": "message_stop"},
        ],
    ),
    "responses": (
        [{"type": "response.created", "response": NEW}, said("zero")],
        [said(word) for word in WORDS],
        [{"type": "response.completed", "response": {**NEW, "status": "completed"}}],
    ),
}
"""By wire: what begins a stream, its usual events, and what ends it."""


class Caller:
    """Who reads a stream and may take events out of turn.

    Attributes:
        busy: takes nothing out of turn for now.
        got: all events in the order in which they came, and whether each came out of turn.
    """

    def __init__(self, server: Scripted) -> None:
        self.busy = False
        self.got: list[tuple[bytes, bool]] = []
        self.call = replace(call(deployment(server.url), ask()), pass_on=self.take)
        self._changed = asyncio.Event()

    def take(self, frame: Frame) -> bool:
        assert frame.usual
        if self.busy:
            return False
        self._note(frame, out_of_turn=True)
        return True

    async def read(self, provider: HttpProvider) -> None:
        async for frame in provider.stream(self.call):
            self._note(frame, out_of_turn=False)

    async def has(self, count: int) -> None:
        """Wait until so many events have come."""
        async with asyncio.timeout(5):
            while len(self.got) < count:
                self._changed.clear()
                await self._changed.wait()

    def _note(self, frame: Frame, *, out_of_turn: bool) -> None:
        self.got.append((frame.data, out_of_turn))
        self._changed.set()


async def test_usual_events_wake_nobody(server: Scripted, openai_provider: HttpProvider) -> None:
    """Events that differ in their text alone are passed on; those before and behind take their turn,
    and the order is the provider's."""
    caller = Caller(server)
    usual = [delta(content=f"word {n}") for n in range(20)]
    odd = delta(content="odd", refusal="no")

    async def script(writer: asyncio.StreamWriter) -> None:
        writer.write(head(b"text/event-stream", chunked=True))
        for number, piece in enumerate([*FIRST, *usual[:10], odd, *usual[10:], *LAST], 1):
            writer.write(chunk(piece))
            await caller.has(number)
        writer.write(chunk(DONE) + b"0\r\n\r\n")

    server.script = script
    await caller.read(openai_provider)

    assert [data for data, _ in caller.got] == [*FIRST, *usual[:10], odd, *usual[10:], *LAST]
    assert {data for data, out_of_turn in caller.got if out_of_turn} == set(usual)
    assert server.connections == 1


@pytest.mark.parametrize("wire", [MESSAGES, RESPONSES], ids=lambda wire: str(wire.name))
async def test_deltas_of_other_wires(
    server: Scripted, openai_provider: HttpProvider, wire: Inbound
) -> None:
    """Where events say their type, deltas behind the first one wake nobody; the rest takes its turn."""
    caller = Caller(server)
    target = dataclasses.replace(caller.call.deployment, wires=(wire.name,))
    caller.call = replace(caller.call, wire=wire, deployment=target)
    first, deltas, last = TYPED[wire.name]

    async def script(writer: asyncio.StreamWriter) -> None:
        writer.write(head(b"text/event-stream", chunked=True))
        for number, piece in enumerate([*first, *deltas], 1):
            writer.write(chunk(event(piece)))
            await caller.has(number)
        writer.write(chunk(b"".join(map(event, last))) + b"0\r\n\r\n")

    server.script = script
    await caller.read(openai_provider)

    turns = [out_of_turn for _, out_of_turn in caller.got]
    assert turns[: len(first) + len(deltas)] == [False] * len(first) + [True] * len(deltas)
    assert not any(turns[len(first) + len(deltas) :])
    for (data, _), sent in zip(caller.got, [*first, *deltas], strict=False):
        assert data.startswith(b"event: " + sent["type"].encode())


async def test_many_events_in_one_read(server: Scripted, openai_provider: HttpProvider) -> None:
    """However events are cut into reads, all arrive, once and in order."""
    caller = Caller(server)
    usual = [delta(content=f"word {n}") for n in range(200)]
    whole = b"".join([*usual, *LAST]) + DONE

    async def script(writer: asyncio.StreamWriter) -> None:
        writer.write(head(b"text/event-stream", chunked=True) + chunk(b"".join(FIRST)))
        await caller.has(2)
        for start in range(0, len(whole), 333):
            writer.write(chunk(whole[start : start + 333]))
            await writer.drain()
            await asyncio.sleep(0)
        writer.write(b"0\r\n\r\n")

    server.script = script
    await caller.read(openai_provider)

    assert [data for data, _ in caller.got] == [*FIRST, *usual, *LAST]
    assert any(out_of_turn for _, out_of_turn in caller.got)


async def test_a_caller_that_has_to_catch_up(
    server: Scripted, openai_provider: HttpProvider
) -> None:
    """Events that are not taken out of turn take their turn, and nothing overtakes them."""
    caller = Caller(server)
    usual = [delta(content=f"word {n}") for n in range(9)]

    async def script(writer: asyncio.StreamWriter) -> None:
        writer.write(head(b"text/event-stream", chunked=True) + chunk(b"".join(FIRST)))
        await caller.has(2)
        for number, piece in enumerate(usual):
            caller.busy = 3 <= number < 6
            writer.write(chunk(piece))
            await caller.has(3 + number)
        writer.write(chunk(b"".join(LAST) + DONE) + b"0\r\n\r\n")

    server.script = script
    await caller.read(openai_provider)

    assert [data for data, _ in caller.got] == [*FIRST, *usual, *LAST]
    turns = [out_of_turn for _, out_of_turn in caller.got[2:11]]
    assert turns == [True] * 3 + [False] * 3 + [True] * 3


@pytest.mark.parametrize(
    ("end", "changes", "kind", "says"),
    [
        (b"", {"stream_idle_timeout_s": 0.15}, "timeout", "no next chunk within 0.15 s"),
        (b"", {"total_s": 1.5}, "timeout", "no next chunk"),
        (None, {}, "stream_interrupted", "the connection broke mid-stream"),
        (
            chunk(event({"error": {"message": "x", "code": "x"}})),
            {},
            "server_error",
            "server error",
        ),
        (
            chunk(b"data: " + b"x" * 9000),
            {"max_response_bytes": 9000},
            "malformed_response",
            "larger",
        ),
        (b"zz\r\n", {}, "stream_interrupted", "the connection broke mid-stream"),
    ],
    ids=["silence", "total", "broken", "error", "large", "garbage"],
)
async def test_the_limits_of_a_stream_hold(
    server: Scripted,
    openai_provider: HttpProvider,
    end: bytes | None,
    changes: dict[str, float],
    kind: str,
    says: str,
) -> None:
    """While events are passed on, a stream's limits on silence, time and size are what they were, and
    so are its errors; activity counts from the last event that was passed on."""
    caller = Caller(server)
    caller.call = replace(caller.call, **changes)

    async def script(writer: asyncio.StreamWriter) -> None:
        writer.write(head(b"text/event-stream", chunked=True) + chunk(b"".join(FIRST)))
        await caller.has(2)
        for number in range(5):
            writer.write(chunk(delta(content=f"word {number}")))
            await caller.has(3 + number)
            await asyncio.sleep(0.08)  # all of them take longer than a stream may be silent
        if end is None:
            writer.close()
        else:
            writer.write(end)

    server.script = script
    with pytest.raises(ProviderError, match=says) as caught:
        await caller.read(openai_provider)

    assert caught.value.kind == kind
    assert caught.value.billed == "unknown"
    assert [out_of_turn for _, out_of_turn in caller.got] == [False] * 2 + [True] * 5
    async with asyncio.timeout(5):
        await server.gone.wait()
