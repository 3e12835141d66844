"""The two ends of a measurement: a server with one fixed answer, and a client that counts.

Both do as little as a Python process can, on raw sockets, so that they do not become what is
measured. Their own CPU is never counted.
"""

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
).encode()
PROMPT = "Explain in two sentences why a budget should be held before a request leaves. " * 3


def response(body: bytes, content_type: str) -> bytes:
    """A whole HTTP answer."""
    head = f"HTTP/1.1 200 OK\r\ncontent-type: {content_type}\r\ncontent-length: {len(body)}\r\n\r\n"
    return head.encode() + body


class FixedServer(asyncio.Protocol):
    """Answers completions with `ANSWER`, and anything else (OTLP) with an empty 200."""

    completion = response(ANSWER, "application/json")
    accepted = response(b"", "application/x-protobuf")

    def __init__(self) -> None:
        self._data = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember where to answer."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Answer every whole request in what has come."""
        assert self._transport is not None
        self._data += data
        while (end := self._data.find(b"\r\n\r\n")) >= 0:
            head = self._data[:end].lower()
            if b"expect: 100-continue" in head:
                self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            size = end + 4 + content_length(head)
            if len(self._data) < size:
                return
            self._data = self._data[size:]
            is_completion = b"/chat/completions" in head.partition(b"\r\n")[0]
            self._transport.write(self.completion if is_completion else self.accepted)


def content_length(head: bytes) -> int:
    """The length a lower-case head announces, else nothing."""
    _, found, rest = head.partition(b"\r\ncontent-length:")
    return int(rest.partition(b"\r\n")[0]) if found else 0


@dataclass(slots=True)
class Load:
    """What a run of requests brought."""

    sent: int = 0
    failed: int = 0
    seconds: float = 0.0
    latencies_s: list[float] = field(default_factory=list)
    first_failure: str = ""


async def load(port: int, key: str, requests: int, concurrency: int) -> Load:
    """Send `requests` completions over `concurrency` kept-alive connections, as fast as answered."""
    result = Load()
    body = json.dumps(
        {
            "model": "bench",
            "max_tokens": 200,
            "messages": [{"role": "user", "content": PROMPT}],
        }
    ).encode()
    request = (
        f"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\n"
        f"authorization: Bearer {key}\r\ncontent-type: application/json\r\n"
        f"content-length: {len(body)}\r\n\r\n"
    ).encode() + body
    started = asyncio.get_running_loop().time()
    left = iter(range(requests))
    await asyncio.gather(*(_connection(port, request, left, result) for _ in range(concurrency)))
    result.seconds = asyncio.get_running_loop().time() - started
    return result


async def _connection(port: int, request: bytes, left: object, result: Load) -> None:
    loop = asyncio.get_running_loop()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    assert hasattr(left, "__next__")
    while next(left, None) is not None:
        started = loop.time()
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        body = await reader.readexactly(content_length(head.lower()))
        result.latencies_s.append(loop.time() - started)
        result.sent += 1
        if not head.startswith(b"HTTP/1.1 200"):
            result.failed += 1
            result.first_failure = result.first_failure or body.decode(errors="replace")[:500]
    writer.close()


async def serve(port: int) -> None:
    """Answer on loopback until cancelled."""
    server = await asyncio.get_running_loop().create_server(FixedServer, "127.0.0.1", port)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    import sys

    asyncio.run(serve(int(sys.argv[1])))
