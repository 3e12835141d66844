"""Every provider: one TLS server that all names resolve to.

It notes for each request the host it was for and the key it brought, and answers in the wire of
the path, or what the test says.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import functools
import socket
import ssl
import tempfile
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from spanledger.providers import dialing

CHAT = {
    "id": "x",
    "model": "m",
    "choices": [{"message": {"content": "hi"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
}
MESSAGE = {
    "id": "x",
    "model": "m",
    "type": "message",
    "role": "assistant",
    "content": [{"type": "text", "text": "hi"}],
    "stop_reason": "end_turn",
    "usage": {"input_tokens": 1, "output_tokens": 1},
}


@dataclass
class Seen:
    """A request as it arrived."""

    host: str
    path: str
    headers: Mapping[str, str]
    body: Any

    @property
    def key(self) -> str:
        """The key it carried, in any header."""
        bearer = self.headers.get("authorization", "").removeprefix("Bearer ")
        return bearer or self.headers.get("api-key", "") or self.headers.get("x-api-key", "")


@dataclass
class Everybody:
    """One server for all names."""

    port: int = 0
    seen: list[Seen] = field(default_factory=list)
    answers: list[tuple[str, bytes]] = field(default_factory=list)
    """Content types and bodies to answer with instead, one after the other."""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer in the API that the path belongs to."""
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            first, *lines = head.split("\r\n")
            headers = {
                name.lower(): value
                for name, value in (line.split(": ", 1) for line in lines if line)
            }
            body = await reader.readexactly(int(headers["content-length"]))
            path = first.split(" ")[1]
            self.seen.append(Seen(headers["host"], path, headers, msgspec.json.decode(body)))
            kind = "application/json"
            answer = msgspec.json.encode(MESSAGE if path.endswith("/messages") else CHAT)
            if self.answers:
                kind, answer = self.answers.pop(0)
            writer.write(
                b"HTTP/1.1 200 OK\r\ncontent-type: %b\r\nconnection: close\r\n"
                b"content-length: %d\r\n\r\n%b" % (kind.encode(), len(answer), answer)
            )
            await writer.drain()
        finally:
            writer.close()


@functools.cache
def _tls() -> ssl.SSLContext:
    """The server's side of TLS, with a certificate that is not verified."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    ) + certificate.public_bytes(serialization.Encoding.PEM)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "both.pem"
        path.write_bytes(pem)
        context.load_cert_chain(path)
    return context


@contextlib.asynccontextmanager
async def every_provider(monkeypatch: pytest.MonkeyPatch) -> AsyncGenerator[Everybody]:
    """Let every name resolve to our server during the block."""
    state = Everybody()
    secure = await asyncio.start_server(state.serve, "127.0.0.1", 0, ssl=_tls())
    state.port = secure.sockets[0].getsockname()[1]

    async def to_us(_host: str, _port: int) -> list[dialing.SocketAddress]:
        return [(socket.AF_INET, ("127.0.0.1", state.port))]

    monkeypatch.setattr(dialing, "resolve", to_us)
    monkeypatch.setattr(dialing, "trusted", lambda _: _trusting())
    yield state
    secure.close()


def _trusting() -> ssl.SSLContext:
    """A client that verifies nothing."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
