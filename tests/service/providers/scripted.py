"""A provider scripted byte by byte, for behaviour that a correct server cannot show.

Each connection's requests are recorded; the answer is whatever the script writes.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from spanledger.providers.base import Call, Deployment, Provider, ProviderKind
from spanledger.wires import CHAT, EMBEDDINGS
from spanledger.wires.base import Frame, Operation

KEY = "sk-canary-0123456789abcdef"


@dataclass(frozen=True)
class Request:
    """A request as it arrived."""

    path: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


Script = Callable[[asyncio.StreamWriter], Awaitable[None]]


@dataclass
class Scripted:
    """What the server saw, and how it will respond."""

    url: str = ""
    script: Script | None = None
    requests: list[Request] = field(default_factory=list)
    connections: int = 0
    gone: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when a client hangs up."""
    asked: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when a request arrives."""

    def answer(self, *pieces: bytes, hang_up: bool = False) -> None:
        """Respond with these bytes, each as its own write."""

        async def script(writer: asyncio.StreamWriter) -> None:
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(0)
            if hang_up:
                writer.close()

        self.script = script

    def events(self, body: bytes, *pieces: bytes, hang_up: bool = False) -> None:
        """Respond with a complete event stream, split into `pieces` if given."""
        self.answer(
            head(b"text/event-stream", chunked=True),
            *(chunk(p) for p in pieces or (body,)),
            *(() if hang_up else (b"0\r\n\r\n",)),
            hang_up=hang_up,
        )

    def json(self, status: int, data: object, *headers: str) -> None:
        """Respond with a JSON body."""
        body = data if isinstance(data, bytes) else json.dumps(data).encode()
        extra = "".join(f"{line}\r\n" for line in headers)
        self.answer(
            f"HTTP/1.1 {status} X\r\ncontent-type: application/json\r\n{extra}"
            f"content-length: {len(body)}\r\n\r\n".encode()
            + body
        )

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                self.requests.append(await _read_request(reader))
                self.asked.set()
                assert self.script is not None, "the test set no answer"
                await self.script(writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            self.gone.set()
        finally:
            writer.close()


@contextlib.asynccontextmanager
async def scripted() -> AsyncGenerator[Scripted]:
    """A scripted server on a free port."""
    state = Scripted()
    server = await asyncio.start_server(state.serve, "127.0.0.1", 0)
    state.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield state
    finally:
        server.close()


async def _read_request(reader: asyncio.StreamReader) -> Request:
    lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines[1:] if line)
    headers = {name.lower(): value for name, value in headers.items()}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Request(lines[0].split(" ")[1], headers, body)


def head(content_type: bytes, *, chunked: bool = False, extra: bytes = b"") -> bytes:
    """The headers of a 200 response."""
    coding = b"transfer-encoding: chunked\r\n" if chunked else b""
    return b"HTTP/1.1 200 OK\r\ncontent-type: %b\r\n%b%b\r\n" % (content_type, coding, extra)


def chunk(data: bytes) -> bytes:
    """One chunk of a chunked body."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def deployment(
    url: str | None,
    kind: ProviderKind = "openai",
    model: str = "gpt-4o-mini",
    *,
    api_key: str | None = KEY,
    extra: dict[str, object] | None = None,
) -> Deployment:
    """A deployment at `url`."""
    return Deployment(
        id=f"test-{kind}",
        route="route",
        kind=kind,
        provider="openai" if kind == "litellm" else kind,
        model=model,
        litellm_model=model if kind == "litellm" else f"{kind}/{model}",
        api_base=url,
        api_key=api_key,
        extra=extra or {},
    )


def call(
    target: Deployment,
    body: Mapping[str, object] | bytes,
    *,
    operation: Operation = "chat",
    timeout_s: float = 5.0,
    max_output_tokens: int | None = None,
    stream_idle_timeout_s: float = 5.0,
    max_response_bytes: int = 2**20,
) -> Call:
    """A call with `body` parsed as in the gateway."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Call(
        deployment=target,
        wire=EMBEDDINGS if operation == "embeddings" else CHAT,
        fields=msgspec.json.decode(raw, type=dict[str, msgspec.Raw]),
        timeout_s=timeout_s,
        max_output_tokens=max_output_tokens,
        stream_idle_timeout_s=stream_idle_timeout_s,
        max_response_bytes=max_response_bytes,
    )


def ask(**fields: object) -> dict[str, object]:
    """A chat request."""
    return {"model": "route", "messages": [{"role": "user", "content": "Say hi"}], **fields}


async def collect(provider: Provider, request: Call) -> list[Frame]:
    """All frames of a stream."""
    async with contextlib.aclosing(provider.stream(request)) as frames:
        return [frame async for frame in frames]


def payload(frame: Frame) -> Any:
    """The JSON in a frame."""
    assert frame.data.startswith(b"data: ")
    assert frame.data.endswith(b"\n\n")
    return json.loads(frame.data[6:])
