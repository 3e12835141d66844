"""Streams at the pace of a model: the provider that writes them, and the client that reads many at once.

A request says in its message how many chunks its stream is to have and how many a second. The chunks
are numbered, so that the client sees if one is missing or out of order. Each end is a process of its
own: `python -m bench.paced serve PORT`, `python -m bench.paced read PORT KEY STREAMS CHUNKS RATE`.
"""

from __future__ import annotations

import asyncio
import json
import re
import statistics
import sys
from dataclasses import dataclass, field

from bench.stepped import CHUNK, HEAD, LAST, USAGE, event
from bench.wire import content_length

PATIENCE_S = 600.0
_WANTED = re.compile(rb"stream (\d+) at (\d+)")
_NUMBER = re.compile(rb'"content": ?" (\d+)"')


@dataclass(slots=True)
class Reading:
    """What the client saw.

    Attributes:
        chunks: numbered chunks that arrived.
        lost: streams that failed, or had a chunk missing or out of order.
        seconds: from the first request to the last byte.
        first_ms: the median time from a request to the first chunk of its stream.
    """

    chunks: int = 0
    lost: int = 0
    seconds: float = 0.0
    first_ms: float = 0.0
    firsts: list[float] = field(default_factory=list)


async def serve(port: int) -> None:
    """Write streams on loopback until stopped; `/ready` is answered as well."""
    server = await asyncio.start_server(_serve, "127.0.0.1", port, backlog=2048)
    async with server:
        await server.serve_forever()


async def _serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    loop = asyncio.get_running_loop()
    try:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            body = await reader.readexactly(content_length(head.lower()))
            wanted = _WANTED.search(body)
            if wanted is None:
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
                continue
            chunks, rate = int(wanted[1]), int(wanted[2])
            writer.write(HEAD)
            began = loop.time()
            for number in range(chunks):
                writer.write(event(CHUNK.replace(" rows", f" {number}")))
                await asyncio.sleep(began + (number + 1) / rate - loop.time())
                await writer.drain()
            for payload in (LAST, USAGE, "[DONE]"):
                writer.write(event(payload))
            writer.write(b"0\r\n\r\n")
    except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
        writer.close()


async def read(port: int, key: str, streams: int, chunks: int, rate: int) -> Reading:
    """Read so many streams at once, to their ends."""
    loop = asyncio.get_running_loop()
    found = Reading()
    began = loop.time()
    async with asyncio.timeout(PATIENCE_S):
        await asyncio.gather(*(_read(port, key, chunks, rate, found) for _ in range(streams)))
    found.seconds = loop.time() - began
    found.first_ms = 1000 * statistics.median(found.firsts) if found.firsts else 0.0
    return found


async def _read(port: int, key: str, chunks: int, rate: int, found: Reading) -> None:
    loop = asyncio.get_running_loop()
    body = json.dumps(
        {
            "model": "bench",
            "stream": True,
            "max_tokens": 10_000,
            "messages": [{"role": "user", "content": f"stream {chunks} at {rate}"}],
        }
    ).encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    asked = loop.time()
    writer.write(
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\n"
        b"authorization: Bearer %b\r\ncontent-type: application/json\r\n"
        b"content-length: %d\r\n\r\n%b" % (key.encode(), len(body), body)
    )
    seen = 0
    try:
        head = await reader.readuntil(b"\r\n\r\n")
        ended = not head.startswith(b"HTTP/1.1 200")
        while not ended:
            data = await reader.readuntil(b"\n\n")
            ended = b"[DONE]" in data
            number = _NUMBER.search(data)
            if number is None:
                continue
            if not seen:
                found.firsts.append(loop.time() - asked)
            if int(number[1]) != seen:
                break
            seen += 1
    except (asyncio.IncompleteReadError, ConnectionError):
        seen = -1
    writer.close()
    found.chunks += max(0, seen)
    found.lost += seen != chunks


def main(what: str, port: str, *words: str) -> None:
    """One of the two ends; the reader prints what it saw."""
    if what == "serve":
        asyncio.run(serve(int(port)))
        return
    key, *numbers = words
    streams, chunks, rate = map(int, numbers)
    seen = asyncio.run(read(int(port), key, streams, chunks, rate))
    shown = {name: getattr(seen, name) for name in ("chunks", "lost", "seconds", "first_ms")}
    print(json.dumps(shown))


if __name__ == "__main__":
    main(*sys.argv[1:])
