"""Streams in step: a provider sends a stream's next chunk when the caller has got the one before.

So every chunk travels alone, as from a model that writes it, however slow the gateway is (under
valgrind, say). Both ends run in one process.
"""

from __future__ import annotations

import asyncio
import json
import re
from dataclasses import dataclass
from typing import Any

from bench.wire import content_length

CHUNK = json.dumps(
    {
        "id": "chatcmpl-bench",
        "object": "chat.completion.chunk",
        "created": 1_790_000_000,
        "model": "gpt-4o-mini-2024-07-18",
        "service_tier": "default",
        "system_fingerprint": "fp_44709d6fcb",
        "choices": [
            {"index": 0, "delta": {"content": " rows"}, "logprobs": None, "finish_reason": None}
        ],
        "usage": None,
        "obfuscation": "aB3",
    },
    separators=(",", ":"),
)
LAST = CHUNK.replace('{"content":" rows"}', "{}").replace(
    '"finish_reason":null', '"finish_reason":"stop"'
)
USAGE = json.dumps(
    {
        "id": "chatcmpl-bench",
        "object": "chat.completion.chunk",
        "created": 1_790_000_000,
        "model": "gpt-4o-mini-2024-07-18",
        "choices": [],
        "usage": {"prompt_tokens": 60, "completion_tokens": 56, "total_tokens": 116},
    },
    separators=(",", ":"),
)
ITEM = {"id": "msg_bench", "type": "message", "role": "assistant", "status": "in_progress"}
RESPONSE = {
    "id": "resp_bench",
    "object": "response",
    "created_at": 1_790_000_000,
    "model": "gpt-4o",
}
HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
    b"transfer-encoding: chunked\r\n\r\n"
)
_ID = re.compile(rb"stream (\d+)")


def typed(kind: str, **fields: Any) -> str:
    """An event that says its type."""
    return json.dumps({"type": kind, **fields}, separators=(",", ":"))


@dataclass(frozen=True, slots=True)
class Stream:
    """What a wire's streams are made of.

    Attributes:
        model: the deployment's, with its provider.
        chunk: the usual event.
        marker: is in that one alone.
        end: is in the last event.
        cap: the wire's name of the cap.
    """

    path: str
    model: str
    first: tuple[str, ...]
    chunk: str
    last: tuple[str, ...]
    marker: bytes
    end: bytes
    cap: str = "max_tokens"
    prompt: str = "messages"


STREAMS = {
    "chat": Stream(
        path="/v1/chat/completions",
        model="openai/gpt-4o-mini",
        first=(),
        chunk=CHUNK,
        last=(LAST, USAGE, "[DONE]"),
        marker=b'"content"',
        end=b"[DONE]",
    ),
    "messages": Stream(
        path="/v1/messages",
        model="anthropic/claude-sonnet-4-5",
        first=(
            typed(
                "message_start",
                message={
                    "id": "msg_bench",
                    "type": "message",
                    "role": "assistant",
                    "model": "claude-sonnet-4-5",
                    "content": [],
                    "stop_reason": None,
                    "usage": {"input_tokens": 60, "output_tokens": 1},
                },
            ),
            typed("content_block_start", index=0, content_block={"type": "text", "text": ""}),
        ),
        chunk=typed("content_block_delta", index=0, delta={"type": "text_delta", "text": " rows"}),
        last=(
            typed("content_block_stop", index=0),
            typed("message_delta", delta={"stop_reason": "end_turn"}, usage={"output_tokens": 56}),
            typed("message_stop"),
        ),
        marker=b'"text_delta"',
        end=b"message_stop",
    ),
    "responses": Stream(
        path="/v1/responses",
        model="openai/gpt-4o-mini",
        first=(
            typed("response.created", sequence_number=0, response={**RESPONSE, "output": []}),
            typed("response.output_item.added", sequence_number=1, output_index=0, item=ITEM),
        ),
        chunk=typed(
            "response.output_text.delta",
            sequence_number=2,
            item_id="msg_bench",
            output_index=0,
            content_index=0,
            delta=" rows",
            logprobs=[],
            obfuscation="aB3",
        ),
        last=(
            typed(
                "response.completed",
                sequence_number=3,
                response={
                    **RESPONSE,
                    "status": "completed",
                    "output": [],
                    "usage": {"input_tokens": 60, "output_tokens": 56, "total_tokens": 116},
                },
            ),
        ),
        marker=b"output_text.delta",
        end=b"response.completed",
        cap="max_output_tokens",
        prompt="input",
    ),
}


def event(payload: str) -> bytes:
    """An event as one chunk of HTTP."""
    data = f"data: {payload}\n\n".encode()
    return b"%x\r\n%b\r\n" % (len(data), data)


class Steps:
    """The provider and its callers, who tell it what they have got."""

    def __init__(self, chunks: int, stream: Stream) -> None:
        self._chunks = chunks
        self._stream = stream
        self._got: dict[int, asyncio.Semaphore] = {}
        self._server: asyncio.Server | None = None

    async def listen(self, port: int) -> None:
        """Serve on loopback."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", port)

    async def close(self) -> None:
        """Stop serving."""
        if self._server is not None:
            self._server.close()

    async def call(self, port: int, key: str, streams: int) -> None:
        """Read this many streams of a gateway at once, to their ends."""
        await asyncio.gather(*(self._read(port, key, number) for number in range(streams)))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                body = await reader.readexactly(content_length(head.lower()))
                found = _ID.search(body)
                if found is None:
                    raise SystemExit(f"error: a request without its number: {body!r}")
                got = self._got[int(found[1])]
                writer.write(HEAD)
                for payload in self._stream.first:
                    writer.write(event(payload))
                for _ in range(self._chunks):
                    writer.write(event(self._stream.chunk))
                    await got.acquire()
                for payload in self._stream.last:
                    writer.write(event(payload))
                writer.write(b"0\r\n\r\n")
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            writer.close()  # the gateway is gone, or the measurement is over

    async def _read(self, port: int, key: str, number: int) -> None:
        self._got[number] = asyncio.Semaphore(0)
        body = json.dumps(
            {
                "model": "bench",
                "stream": True,
                self._stream.cap: 200,
                self._stream.prompt: [{"role": "user", "content": f"stream {number}"}],
            }
        ).encode()
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(
            b"POST %b HTTP/1.1\r\nhost: localhost\r\n"
            b"authorization: Bearer %b\r\ncontent-type: application/json\r\n"
            b"content-length: %d\r\n\r\n%b"
            % (self._stream.path.encode(), key.encode(), len(body), body)
        )
        head = await reader.readuntil(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200"):
            raise SystemExit(f"error: a stream was answered with {head!r}")
        chunks = 0
        while self._stream.end not in (data := await reader.readuntil(b"\n\n")):
            if self._stream.marker in data:
                chunks += 1
                self._got[number].release()
        if chunks != self._chunks:
            raise SystemExit(f"error: a stream of {self._chunks} chunks arrived with {chunks}")
        writer.close()
