"""Opens connections: names resolved, addresses tried, proxies asked, TLS begun.

A name's addresses are kept for a few seconds, so that a burst of connections asks for them once. Of
several addresses the next one is tried when the one before fails or hesitates (RFC 8305), because a
machine may have IPv6 addresses that lead nowhere.
"""

from __future__ import annotations

import asyncio
import functools
import socket
import ssl
from itertools import chain, zip_longest
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

from spanledger.providers.connection import Connection
from spanledger.providers.endpoints import Destination
from spanledger.providers.proxies import Proxy

ADDRESSES_KEPT_S = 10.0
MAX_RESOLVED = 1024
"""Host names whose addresses are kept."""
HESITATION_S = 0.25
"""How long an address has before the next one is tried as well."""
MAX_PROXY_HEAD_BYTES = 16 * 1024

P = TypeVar("P", bound=asyncio.Protocol)
SocketAddress = tuple[socket.AddressFamily, tuple[object, ...]]


class ProxyUnreachableError(Exception):
    """There is no connection to the proxy; its cause says why."""


class ProxyRefusedError(Exception):
    """The proxy does not open a tunnel, with this status."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class Dialer:
    """Opens connections, and keeps the addresses of names."""

    def __init__(self, ca_path: str | None) -> None:
        self._ca_path = ca_path
        self._kept: dict[tuple[str, int], tuple[float, asyncio.Future[list[SocketAddress]]]] = {}

    async def dial(self, destination: Destination, proxy: Proxy | None) -> Connection:
        """A connection on which requests to an destination may be sent.

        Raises:
            OSError: there is none; `socket.gaierror` without an address, `ssl.SSLError` without TLS.
            ProxyUnreachableError: the proxy cannot be reached.
            ProxyRefusedError: the proxy opens no tunnel.
        """
        loop = asyncio.get_running_loop()
        if proxy is None:
            sock = await self._connected(destination.host, destination.port)
            tls = trusted(self._ca_path) if destination.scheme == "https" else None
            return await _opened(sock, Connection(loop), tls, destination.host)
        parts = urlsplit(proxy.url)
        host = parts.hostname or ""
        tls = trusted(self._ca_path) if parts.scheme == "https" else None
        tunnel = destination.scheme == "https"
        first: Connection | _Tunnel = _Tunnel(loop) if tunnel else Connection(loop)
        try:
            sock = await self._connected(host, parts.port or 80)
            opened = await _opened(sock, first, tls, host)
        except OSError as error:
            raise ProxyUnreachableError from error
        if isinstance(opened, Connection):
            return opened
        return await opened.through(destination, proxy, trusted(self._ca_path))

    async def _connected(self, host: str, port: int) -> socket.socket:
        """A connected socket: the first of the host's addresses that answers. Raises OSError."""
        addresses = await self._addresses(host, port)
        if len(addresses) == 1:
            return await _connect(addresses[0])
        running: set[asyncio.Task[socket.socket]] = set()
        failed: OSError | None = None
        waiting = list(reversed(addresses))
        loop = asyncio.get_running_loop()
        try:
            while waiting or running:
                if waiting:
                    running.add(loop.create_task(_connect(waiting.pop())))
                done, running = await asyncio.wait(
                    running,
                    timeout=HESITATION_S if waiting else None,
                    return_when=asyncio.FIRST_COMPLETED,
                )
                found: socket.socket | None = None
                for task in done:
                    error = task.exception()
                    if error is None and found is None:
                        found = task.result()
                    elif error is None:
                        task.result().close()
                    elif isinstance(error, OSError):
                        failed = error
                    else:
                        raise error
                if found is not None:
                    return found
        finally:
            for task in running:
                task.cancel()
                task.add_done_callback(_close)
        raise failed or OSError(f"no address of {host}")

    async def _addresses(self, host: str, port: int) -> list[SocketAddress]:
        loop = asyncio.get_running_loop()
        key = (host, port)
        found = self._kept.get(key)
        if found is None or found[0] < loop.time():
            if len(self._kept) >= MAX_RESOLVED:
                self._kept.clear()
            asking = loop.create_task(resolve(host, port))
            asking.add_done_callback(_seen)  # those who asked may all have left
            found = self._kept[key] = (loop.time() + ADDRESSES_KEPT_S, asking)
        try:
            # One caller's cancellation must not end what others wait for.
            return await asyncio.shield(found[1])
        except OSError:
            self._kept.pop(key, None)
            raise


async def resolve(host: str, port: int) -> list[SocketAddress]:
    """A host's addresses, the families by turns. Raises socket.gaierror."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(
        host.removesuffix("."), port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP
    )
    if not found:
        raise socket.gaierror(socket.EAI_NONAME, "no address")
    first = found[0][0]
    own = [(family, address) for family, _, _, _, address in found if family == first]
    others = [(family, address) for family, _, _, _, address in found if family != first]
    turns = chain.from_iterable(zip_longest(own, others))
    return [address for address in turns if address is not None]


@functools.cache
def trusted(ca_path: str | None) -> ssl.SSLContext:
    """Verifies servers by these certificates: a file or directory, else Python's default."""
    if ca_path is None:
        context = ssl.create_default_context()
    elif Path(ca_path).is_dir():
        context = ssl.create_default_context(capath=ca_path)
    else:
        context = ssl.create_default_context(cafile=ca_path)
    context.set_alpn_protocols(["http/1.1"])
    return context


class _Tunnel(asyncio.Protocol):
    """A connection to a proxy that is asked to lead on to a host."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._transport: asyncio.Transport | None = None
        self._head = bytearray()
        self._answered: asyncio.Future[int] = loop.create_future()

    async def through(
        self, destination: Destination, proxy: Proxy, tls: ssl.SSLContext
    ) -> Connection:
        """A connection to the destination, encrypted from here to there. Raises as `Dialer.dial`."""
        transport, name = self._transport, destination.host
        assert transport is not None
        try:
            where = f"[{name}]:{destination.port}" if ":" in name else f"{name}:{destination.port}"
            lines = [f"CONNECT {where} HTTP/1.1", f"host: {where}"]
            if proxy.authorization:
                lines.append(f"proxy-authorization: {proxy.authorization}")
            transport.write("\r\n".join((*lines, "", "")).encode())
            status = await self._answered
            if status != 200:
                raise ProxyRefusedError(status)
            connection = Connection(self._loop)
            inner = await self._loop.start_tls(
                transport, connection, tls, server_hostname=name.removesuffix(".")
            )
            if inner is None:
                raise ConnectionResetError
            connection.connection_made(inner)
        except BaseException:
            transport.abort()
            raise
        return connection

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]  # always a two-way one here

    def data_received(self, data: bytes) -> None:
        if self._answered.done():
            return
        self._head += data
        end = self._head.find(b"\r\n\r\n")
        if end < 0 and len(self._head) <= MAX_PROXY_HEAD_BYTES:
            return
        words = bytes(self._head[:64]).split(b" ", 2)
        if end < 0 or not words[0].startswith(b"HTTP/1.") or not words[1][:3].isdigit():
            self._answered.set_exception(ConnectionError("the proxy does not speak HTTP"))
        else:
            self._answered.set_result(int(words[1][:3]))

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._answered.done():
            self._answered.set_exception(exc or ConnectionResetError())


async def _opened(sock: socket.socket, protocol: P, tls: ssl.SSLContext | None, host: str) -> P:
    """A protocol on a connected socket. Raises OSError."""
    try:
        await asyncio.get_running_loop().create_connection(
            lambda: protocol,
            sock=sock,
            ssl=tls,
            server_hostname=None if tls is None else host.removesuffix("."),
        )
    except BaseException:
        sock.close()
        raise
    return protocol


async def _connect(address: SocketAddress) -> socket.socket:
    family, where = address
    sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        await asyncio.get_running_loop().sock_connect(sock, where)
    except BaseException:
        sock.close()
        raise
    return sock


def _seen(task: asyncio.Task[list[SocketAddress]]) -> None:
    if not task.cancelled():
        task.exception()


def _close(task: asyncio.Task[socket.socket]) -> None:
    """Close what a task connected that nobody waits for any more."""
    if not task.cancelled() and task.exception() is None:
        task.result().close()
