"""The provider and the client if nginx and wrk are not installed: asyncio on raw sockets."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field

ANSWER = json.dumps(
    {
        "id": "chatcmpl-bench",
        "object": "chat.completion",
        "created": 1_790_000_000,
        "model": "gpt-4o-mini-2024-07-18",
        "choices": [
            {
                "index": 0,
                "finish_reason": "stop",
                "logprobs": None,
                "message": {"role": "assistant", "content": "Budgets are balances over rows. " * 8},
            }
        ],
        "usage": {"prompt_tokens": 60, "completion_tokens": 56, "total_tokens": 116},
    }
)
PROMPT = "Explain in two sentences why a budget should be held before a request leaves. " * 3
REQUEST = json.dumps(
    {"model": "bench", "max_tokens": 200, "messages": [{"role": "user", "content": PROMPT}]}
)


class FixedServer(asyncio.Protocol):
    """Answers completions with `ANSWER`, and `/hits` with the number answered."""

    hits = 0

    def __init__(self) -> None:
        self._data = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember the transport for answers."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Answer every complete request received so far."""
        assert self._transport is not None
        self._data += data
        while (end := self._data.find(b"\r\n\r\n")) >= 0:
            head = self._data[:end].lower()
            size = end + 4 + content_length(head)
            if len(self._data) < size:
                return
            self._data = self._data[size:]
            if b"/hits" in head.partition(b"\r\n")[0]:
                self._transport.write(response(str(FixedServer.hits).encode()))
            else:
                FixedServer.hits += 1
                self._transport.write(COMPLETION)


def response(body: bytes) -> bytes:
    """A complete HTTP answer."""
    kind = "content-type: application/json"
    return f"HTTP/1.1 200 OK\r\n{kind}\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body


COMPLETION = response(ANSWER.encode())


def content_length(head: bytes) -> int:
    """The content length in lower-case headers, else 0."""
    _, _, rest = head.partition(b"\r\ncontent-length:")
    return int(rest.partition(b"\r\n")[0] or 0)


@dataclass(slots=True)
class Drive:
    """What the client saw."""

    failed: int = 0
    seconds: float = 0.0
    latencies_s: list[float] = field(default_factory=list)


async def drive(port: int, key: str, seconds: int, concurrency: int) -> Drive:
    """Send completions over kept-alive connections, as fast as they are answered."""
    result = Drive()
    body = REQUEST.encode()
    request = (
        f"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\n"
        f"authorization: Bearer {key}\r\ncontent-type: application/json\r\n"
        f"content-length: {len(body)}\r\n\r\n"
    ).encode() + body
    loop = asyncio.get_running_loop()
    began = loop.time()
    ends = began + seconds
    await asyncio.gather(*(_connection(port, request, ends, result) for _ in range(concurrency)))
    result.seconds = loop.time() - began
    return result


async def _connection(port: int, request: bytes, ends: float, result: Drive) -> None:
    loop = asyncio.get_running_loop()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    while (started := loop.time()) < ends:
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(content_length(head.lower()))
        result.latencies_s.append(loop.time() - started)
        result.failed += not head.startswith(b"HTTP/1.1 200")
    writer.close()


async def serve(port: int) -> None:
    """Answer on loopback until stopped."""
    server = await asyncio.get_running_loop().create_server(FixedServer, "127.0.0.1", port)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    import sys

    asyncio.run(serve(int(sys.argv[1])))
