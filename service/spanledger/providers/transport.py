"""HTTP to providers: one pool of connections, limits, and every way a connection can fail.

Sends bytes and returns bytes. Network failures become a `ProviderError`; responses, good or bad, are
left to the adapters. There are no retries and no redirects, since either would send a request (and a
key) where routing did not want it.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import aiohttp
from multidict import CIMultiDict
from yarl import URL

from spanledger import __version__
from spanledger.errors import ProviderError
from spanledger.providers.base import Call, Deployment
from spanledger.providers.bodies import Body, parser_of, payload_of
from spanledger.providers.interim import MAX_INTERIM, Connector, FloodError
from spanledger.providers.proxies import WayOut
from spanledger.wires.sse import EventTooLargeError

_AUTO_HEADERS = ("Accept", "Accept-Encoding", "Content-Type", "User-Agent")
_CONNECTING = (aiohttp.ClientConnectionError, OSError)
_MAX_ID_CHARS = 256
_PROXY_AUTHENTICATION = 407


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of the connection pool.

    Attributes:
        max_connections: open connections to all providers together; calls beyond it wait, within
            their own timeout.
        connect_timeout_s: for one TCP and TLS handshake.
        keepalive_s: how long an unused connection is kept.
        at_once_s: a provider that hangs up within this time has not begun an answer, and bills none.
        max_error_bytes: how much of an error response is read.
        drain_timeout_s, drain_bytes: after a stream's end mark, how long and how much of the rest
            is read so that the connection can be reused.
    """

    max_connections: int = 4096
    connect_timeout_s: float = 10.0
    keepalive_s: float = 30.0
    at_once_s: float = 1.0
    max_error_bytes: int = 64 * 1024
    drain_timeout_s: float = 1.0
    drain_bytes: int = 64 * 1024


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a deployment's requests go, built once."""

    url: URL
    headers: CIMultiDict[str]
    method: str = "POST"

    def __repr__(self) -> str:
        return f"Target({str(self.url)!r})"


@dataclass(frozen=True, slots=True)
class _Way:
    """How requests reach a target: the proxy, the headers that it gets for a tunnel, and those that
    it gets with the request itself."""

    proxy: URL | None = None
    proxy_headers: Mapping[str, str] | None = None
    headers: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True)
class ProviderReply:
    """A complete response."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def make_target(deployment: Deployment, url: str, headers: Mapping[str, str]) -> Endpoint:
    """Raises ProviderError if the deployment's `api_base` or key cannot be used."""
    common = {
        "accept-encoding": "identity",
        "content-type": "application/json",
        "user-agent": f"spanledger/{__version__}",
    }
    if any(not value.isprintable() for value in headers.values()):
        raise ProviderError(
            "authentication_failed",
            f"deployment {deployment.id!r}: its api_key has characters that are not allowed in"
            " HTTP headers",
        )
    try:
        parsed = URL(url)
    except ValueError:
        parsed = URL()
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise ProviderError(
            "connection_error",
            f"deployment {deployment.id!r}: its api_base is not an http or https URL",
        )
    return Endpoint(parsed, CIMultiDict({**common, **headers}))


class Transport:
    """The connection pool of one adapter. Connects lazily, in the loop of the first call."""

    def __init__(self, limits: Limits, way_out: WayOut | None = None) -> None:
        self.limits = limits
        self._way_out = way_out or WayOut()
        self._ways: dict[URL, _Way] = {}
        self._session: aiohttp.ClientSession | None = None
        self._drains: set[asyncio.Task[None]] = set()
        self._timeout = aiohttp.ClientTimeout(total=None, sock_connect=limits.connect_timeout_s)

    async def exchange(self, call: Call, target: Endpoint, body: Body) -> ProviderReply:
        """Send a request and read the complete response.

        Raises:
            ProviderError: the response is late, missing, incomplete or too large.
        """
        try:
            async with asyncio.timeout(call.timeout_s):
                response = await self._open(call, target, body)
                try:
                    return await self._read(call, response)
                except BaseException:
                    response.close()
                    raise
        except TimeoutError:
            _raise_timeout(call, "no answer", call.timeout_s)

    async def events(self, call: Call, target: Endpoint, body: Body) -> EventStream | ProviderReply:
        """Send a request for a stream; a `ProviderReply` if the response is not a stream of events.

        Raises:
            ProviderError: the response is late or missing.
        """
        loop = asyncio.get_running_loop()
        began = loop.time()
        deadline = began + call.timeout_s
        try:
            async with asyncio.timeout_at(deadline):
                response = await self._open(call, target, body)
                try:
                    if response.status != 200 or _is_whole(response.headers):
                        return await self._read(call, response)
                    if response.headers.get("content-encoding", "identity") != "identity":
                        # A few compressed bytes can expand without limit and block the event loop.
                        raise ProviderError(
                            "malformed_response",
                            f"{_name(call)}: its stream is compressed although we asked for"
                            " `identity`",
                            status=response.status,
                            billed="unknown",
                        )
                except BaseException:
                    response.close()
                    raise
        except TimeoutError:
            _raise_timeout(call, "no answer", call.timeout_s)
        return EventStream(self, call, response, deadline, began + call.total_s)

    async def close(self) -> None:
        """Close all connections."""
        for task in self._drains:
            task.cancel()
        await asyncio.gather(*self._drains, return_exceptions=True)
        if self._session is not None:
            await self._session.close()
            self._session = None

    def recycle(self, response: aiohttp.ClientResponse) -> None:
        """Read a finished stream's last bytes in the background, to reuse the connection."""
        if response.content.at_eof():
            return
        task = asyncio.get_running_loop().create_task(self._drain(response))
        self._drains.add(task)
        task.add_done_callback(self._drains.discard)

    async def _drain(self, response: aiohttp.ClientResponse) -> None:
        left = self.limits.drain_bytes
        try:
            async with asyncio.timeout(self.limits.drain_timeout_s):
                while left > 0 and (chunk := await response.content.readany()):
                    left -= len(chunk)
        except (TimeoutError, aiohttp.ClientError, OSError):
            left = 0
        finally:
            if not response.content.at_eof():
                response.close()

    async def _open(self, call: Call, target: Endpoint, body: Body) -> aiohttp.ClientResponse:
        session = self._session
        if session is None:
            session = self._session = self._connect()
        loop = asyncio.get_running_loop()
        began = loop.time()
        way = self._ways.get(target.url) or self._way(target)
        try:
            response = await session.request(
                target.method,
                target.url,
                data=payload_of(body),
                headers=target.headers
                if way.headers is None
                else {**target.headers, **way.headers},
                allow_redirects=False,
                timeout=self._connect_timeout(call.timeout_s),
                proxy=way.proxy,
                proxy_headers=way.proxy_headers,
            )
        except aiohttp.ClientHttpProxyError as error:
            raise _refused_by_proxy(call, error.status) from None
        except aiohttp.ConnectionTimeoutError:
            raise ProviderError("timeout", f"{_name(call)}: connecting took too long") from None
        except _CONNECTING as error:
            at_once = loop.time() - began < self.limits.at_once_s
            raise ProviderError(
                "connection_error",
                _connection_message(call, error),
                billed="unknown" if _hung_up(error) and not at_once else "no",
            ) from None
        except FloodError:
            raise ProviderError(
                "malformed_response",
                f"{_name(call)}: it sent more than {MAX_INTERIM} interim responses (1xx)",
                billed="unknown",
            ) from None
        except aiohttp.ClientError as error:
            raise ProviderError(
                "malformed_response",
                f"{_name(call)}: its response is not valid HTTP ({type(error).__name__})",
                billed="unknown",
            ) from None
        if way.proxy is not None and response.status == _PROXY_AUTHENTICATION:
            response.close()
            raise _refused_by_proxy(call, response.status)
        return response

    async def _read(self, call: Call, response: aiohttp.ClientResponse) -> ProviderReply:
        good = 200 <= response.status < 300
        limit = call.max_response_bytes if good else self.limits.max_error_bytes
        chunks: list[bytes] = []
        size = 0
        try:
            while chunk := await response.content.readany():
                size += len(chunk)
                if size > limit:
                    response.close()
                    if not good:
                        break
                    raise ProviderError(
                        "malformed_response",
                        f"{_name(call)}: its response is larger than {limit} bytes "
                        "(gateway.max_response_bytes)",
                        status=response.status,
                        billed="unknown",
                    )
                chunks.append(chunk)
        except (aiohttp.ClientError, OSError):
            response.close()
            if good:
                raise ProviderError(
                    "malformed_response",
                    f"{_name(call)}: the connection broke during its response",
                    status=response.status,
                    billed="unknown",
                ) from None
        body = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        return ProviderReply(response.status, response.headers, body)

    def _way(self, target: Endpoint) -> _Way:
        """How requests reach a target; looked up once."""
        way, proxy = _Way(), self._way_out.proxy_for(str(target.url))
        if proxy is not None:
            said = {"proxy-authorization": proxy.authorization} if proxy.authorization else None
            # With a tunnel the proxy sees only its own headers, else the request's.
            tunnel = target.url.scheme == "https"
            way = _Way(URL(proxy.url), said if tunnel else None, None if tunnel else said)
        self._ways[target.url] = way
        return way

    def _connect_timeout(self, timeout_s: float) -> aiohttp.ClientTimeout:
        """Connecting times out well before the attempt, so that such a request was surely not sent."""
        if timeout_s >= 2 * self.limits.connect_timeout_s:
            return self._timeout
        return aiohttp.ClientTimeout(total=None, sock_connect=timeout_s / 2)

    def _connect(self) -> aiohttp.ClientSession:
        connector = Connector(
            limit=self.limits.max_connections,
            limit_per_host=0,
            keepalive_timeout=self.limits.keepalive_s,
            ssl=_trust(self._way_out.ca_path),
        )
        return aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=self._timeout,
            trust_env=False,
            skip_auto_headers=_AUTO_HEADERS,
        )


class EventStream:
    """An open stream of events; owned by one generator, which must `close` it.

    Attributes:
        headers: of the response.
        producing: whether content arrived; the adapter, which reads the events, sets it.
        tail: at the end, an event without its final blank line: truncated, unless it is an end mark.
    """

    __slots__ = (
        "_began",
        "_call",
        "_deadline",
        "_ends_at",
        "_left",
        "_parser",
        "_response",
        "_transport",
        "headers",
        "producing",
        "tail",
    )

    def __init__(
        self,
        transport: Transport,
        call: Call,
        response: aiohttp.ClientResponse,
        deadline: float,
        ends_at: float,
    ) -> None:
        self._transport = transport
        self._call = call
        self._response = response
        self._deadline = deadline
        self._ends_at = ends_at
        self._began = False
        self.producing = False
        self._left = most = call.max_response_bytes
        self._parser = parser_of(call.wire.operation, response.headers, most)
        self.headers: Mapping[str, str] = response.headers
        self.tail = b""

    async def batch(self) -> list[bytes] | None:
        """The payloads of the next events, perhaps none; None at the end.

        The first content may take the rest of the attempt's timeout, since a model may think for
        minutes after a stream's first event; any later silence may last `stream_idle_timeout_s`. A
        provider's keep-alive comments count as activity, but no stream may last longer than
        `total_s`.

        Raises:
            ProviderError: the silence or the stream was too long, the connection broke, or an event
                or the stream is too large.
        """
        call = self._call
        content = self._response.content
        idle_s = call.stream_idle_timeout_s
        now = asyncio.get_running_loop().time()
        if now >= self._ends_at:
            _raise_timeout(call, "no end of the stream", call.total_s)
        try:
            chunk = content.read_nowait()
            if not chunk:
                wait_until = now + idle_s
                if not self.producing:
                    wait_until = max(wait_until, self._deadline)
                wait_until = min(wait_until, self._ends_at)
                async with asyncio.timeout_at(wait_until):
                    chunk = await content.readany()
        except TimeoutError:
            _raise_timeout(call, "no next chunk", idle_s)
        except (aiohttp.ClientError, OSError):
            raise self.interrupted("the connection broke") from None
        self._left -= len(chunk)
        if self._left < 0:
            raise ProviderError(
                "malformed_response",
                f"{_name(call)}: its stream is larger than {call.max_response_bytes} bytes "
                "(gateway.max_response_bytes)",
                billed="unknown",
            )
        try:
            if chunk:
                payloads = self._parser.feed(chunk)
                self._began = self._began or bool(payloads)
                return payloads
            self.tail = self._parser.finish()
        except EventTooLargeError:
            raise ProviderError(
                "malformed_response",
                f"{_name(call)}: an event is larger than {call.max_response_bytes} bytes",
                billed="unknown",
            ) from None
        return None

    def interrupted(self, why: str) -> ProviderError:
        """The error for an incomplete stream."""
        if not self._began:
            return ProviderError(
                "malformed_response",
                f"{_name(self._call)}: {why} before the first event of the stream",
                billed="unknown",
            )
        return ProviderError(
            "stream_interrupted", f"{_name(self._call)}: {why} mid-stream", billed="unknown"
        )

    def close(self, *, clean: bool) -> None:
        """Keep the connection if the stream was complete, else close it at once."""
        if clean:
            self._transport.recycle(self._response)
        else:
            self._response.close()


def provider_request_id(headers: Mapping[str, str], name: str) -> str:
    """A provider's id of a request, as text that every sink accepts; empty without one.

    A header may have any bytes, and those that are not UTF-8 arrive as surrogates.
    """
    value = headers.get(name, "")[:_MAX_ID_CHARS]
    if value.isascii() and value.isprintable():
        return value
    return "".join(c if " " <= c <= "~" else "?" for c in value)


def _name(call: Call) -> str:
    return f"deployment {call.deployment.id!r} ({call.deployment.provider})"


def _raise_timeout(call: Call, what: str, seconds: float) -> NoReturn:
    raise ProviderError(
        "timeout", f"{_name(call)}: {what} within {seconds:g} s", billed="unknown"
    ) from None


def _connection_message(call: Call, error: BaseException) -> str:
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        why = "its host name does not resolve"
    elif isinstance(error, aiohttp.ClientProxyConnectionError):
        why = f"cannot connect to the proxy ({type(error.os_error).__name__})"
    elif isinstance(error, aiohttp.ClientSSLError):
        why = "TLS failed"
    elif isinstance(error, aiohttp.ClientConnectorError):
        why = f"cannot connect ({type(error.os_error).__name__})"
    elif _hung_up(error):
        why = "it closed the connection without a response"
    else:
        why = f"the connection failed ({type(error).__name__})"
    return f"{_name(call)}: {why}"


def _refused_by_proxy(call: Call, status: int) -> ProviderError:
    """The proxy refused the request, so nothing reached the provider."""
    why = "its user or password" if status == _PROXY_AUTHENTICATION else "the provider's host"
    return ProviderError(
        "connection_error",
        f"{_name(call)}: the proxy refused {why} (HTTP {status}); see HTTPS_PROXY and NO_PROXY",
    )


def _trust(ca_path: str | None) -> ssl.SSLContext | bool:
    """The certificates to trust: a file or directory, else Python's default."""
    if ca_path is None:
        return True
    if Path(ca_path).is_dir():
        return ssl.create_default_context(capath=ca_path)
    return ssl.create_default_context(cafile=ca_path)


def _hung_up(error: BaseException) -> bool:
    """Whether an established connection broke."""
    broke = isinstance(error, aiohttp.ServerDisconnectedError | aiohttp.ClientOSError)
    return broke and not isinstance(error, aiohttp.ClientConnectorError)


def _is_whole(headers: Mapping[str, str]) -> bool:
    """Whether the content type is that of a JSON answer or a web page, not of a stream."""
    kind = headers.get("content-type", "").lower()
    return kind.startswith(("application/json", "text/html"))
