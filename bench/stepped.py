"""Streams in step: a provider sends a stream's next chunk when the caller has got the one before.

So every chunk travels alone, as from a model that writes it, however slow the gateway is (under
valgrind, say). Both ends run in one process.
"""

from __future__ import annotations

import asyncio
import json
import re

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
HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
    b"transfer-encoding: chunked\r\n\r\n"
)
_ID = re.compile(rb"stream (\d+)")


def event(payload: str) -> bytes:
    """An event as one chunk of HTTP."""
    data = f"data: {payload}\n\n".encode()
    return b"%x\r\n%b\r\n" % (len(data), data)


class Steps:
    """The provider and its callers, who tell it what they have got."""

    def __init__(self, chunks: int) -> None:
        self._chunks = chunks
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
                for _ in range(self._chunks):
                    writer.write(event(CHUNK))
                    await got.acquire()
                for payload in (LAST, USAGE, "[DONE]"):
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
                "max_tokens": 200,
                "messages": [{"role": "user", "content": f"stream {number}"}],
            }
        ).encode()
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\n"
            b"authorization: Bearer %b\r\ncontent-type: application/json\r\n"
            b"content-length: %d\r\n\r\n%b" % (key.encode(), len(body), body)
        )
        head = await reader.readuntil(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200"):
            raise SystemExit(f"error: a stream was answered with {head!r}")
        chunks = 0
        while b"[DONE]" not in (data := await reader.readuntil(b"\n\n")):
            if b'"content"' in data:
                chunks += 1
                self._got[number].release()
        if chunks != self._chunks:
            raise SystemExit(f"error: a stream of {self._chunks} chunks arrived with {chunks}")
        writer.close()
