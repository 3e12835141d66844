"""A corporate proxy: CONNECT tunnels, plain requests, a password if required.

It knows every name and leads to one server of this machine, so that no name has to be resolved.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import datetime as dt
import ssl
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.service.providers.scripted import Scripted

HOST = "api.provider.example"
USER, PASSWORD = "ann@work", "p:ss/w%rd"


@dataclass
class LocalProxy:
    """What the proxy saw.

    Attributes:
        leads_to: the port of this machine that every request ends at.
        password: whether one is wanted.
        answer: a status to refuse everything with.
        asked: request line of each request, and its `Proxy-Authorization`.
        open: connections from clients.
    """

    leads_to: int
    password: bool = False
    answer: int | None = None
    port: int = 0
    asked: list[tuple[str, str | None]] = field(default_factory=list)
    open: int = 0

    @property
    def url(self) -> str:
        """The URL for `HTTPS_PROXY`, without a password."""
        return f"http://127.0.0.1:{self.port}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection: a tunnel, or one plain request to forward."""
        self.open += 1
        try:
            lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            headers = {k.lower(): v for k, _, v in (line.partition(": ") for line in lines[1:])}
            given = headers.get("proxy-authorization")
            self.asked.append((lines[0], given))
            pair = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
            refused = 407 if self.password and given != f"Basic {pair}" else self.answer
            if refused is not None:
                writer.write(b"HTTP/1.1 %d No\r\ncontent-length: 0\r\n\r\n" % refused)
                await writer.drain()
                return
            there, onward = await asyncio.open_connection("127.0.0.1", self.leads_to)
            if lines[0].startswith("CONNECT "):
                writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            else:
                method, url, version = lines[0].split(" ")
                path = "/" + url.split("/", 3)[3]
                kept = [x for x in lines[1:] if not x.lower().startswith("proxy-")]
                onward.write("\r\n".join((f"{method} {path} {version}", *kept)).encode())
            await asyncio.gather(_pipe(reader, onward), _pipe(there, writer))
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass  # the test has ended, or the client disconnected
        finally:
            self.open -= 1
            writer.close()


async def _pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()


@contextlib.asynccontextmanager
async def proxied(
    *,
    tls: ssl.SSLContext | None = None,
    password: bool = False,
    proxy_tls: ssl.SSLContext | None = None,
) -> AsyncGenerator[tuple[LocalProxy, Scripted]]:
    """A proxy, and the provider behind it."""
    provider = Scripted()
    upstream = await asyncio.start_server(provider.serve, "127.0.0.1", 0, ssl=tls)
    proxy = LocalProxy(upstream.sockets[0].getsockname()[1], password)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0, ssl=proxy_tls)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy, provider
    finally:
        server.close()
        upstream.close()
        async with asyncio.timeout(5):
            while proxy.open:  # noqa: ASYNC110  # the client is gone, and the proxy is to notice
                await asyncio.sleep(0)


def certificate(folder: Path, host: str = HOST) -> tuple[Path, ssl.SSLContext]:
    """A self-signed certificate, and a server's context with it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    public, private = folder / "ca.pem", folder / "key.pem"
    public.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(public, private)
    return public, context
