"""Requests that are handed through to a provider as they are, and their answers.

The address is the deployment's, followed by the caller's path; the key is the deployment's. Of the
headers, those go on that say something about the request itself, and in neither direction those
that belong to a connection, an account or a person. Nothing is retried, no redirect is followed, and
bodies pass in pieces as they come. The deployment's secrets are masked wherever an answer has them.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from urllib.parse import parse_qsl, urlencode

from yarl import URL

from spanledger.errors import InvalidRequestError, ProviderError
from spanledger.providers.base import Call, Deployment, Passage
from spanledger.providers.connection import Connection
from spanledger.providers.endpoints import Endpoint, make_target
from spanledger.providers.failed_calls import name_of
from spanledger.providers.hosts import HOSTS
from spanledger.providers.own_secrets import SecretMask, basic_auth, masked, secrets_of
from spanledger.providers.reply import LateError, ResponseError
from spanledger.providers.request_ids import provider_request_id
from spanledger.providers.transport import REPEATABLE, Transport, coding_of
from spanledger.wires import FROM_CHAT, UNTRANSLATED
from spanledger.wires.base import Outbound
from spanledger.wires.failures import malformed, scrub

RawHeaders = Sequence[tuple[bytes, bytes]]

_HOP = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
"""Headers of one connection (RFC 9110, section 7.6.1)."""
_KEPT_HERE = _HOP | {
    *("host", "expect", "accept-encoding", "http2-settings"),
    *("authorization", "x-api-key", "api-key", "x-goog-api-key", "ocp-apim-subscription-key"),
    *("cookie", "origin", "referer", "openai-organization", "openai-project"),
    *("x-goog-user-project", "x-litellm-api-key"),
    *("forwarded", "via", "x-real-ip", "traceparent", "tracestate", "baggage"),
}
"""The caller's headers that do not go on: of the connection, of who is calling, and those that choose
another account than the deployment's."""
_KEPT_PREFIXES = ("x-forwarded-", "x-spanledger-", "sec-", "cf-", "proxy-")
_KEPT_THERE = _HOP | {
    *("set-cookie", "set-cookie2", "server", "date", "alt-svc", "strict-transport-security"),
    *("access-control-allow-origin", "access-control-allow-credentials"),
    *("x-request-id", "request-id", "www-authenticate", "openai-organization", "openai-project"),
}
"""The provider's headers that the caller does not get; its id of the request is in the ledger."""
STATUSES = range(200, 600)
"""Of answers that can be passed back."""
_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_VERSION = re.compile(r"v[0-9][a-z0-9]*")
_KEY_LIKE = b"slk_"
_GOOGLE = "googleapis.com"
_GOOGLES_ACCOUNT = frozenset({"access_token", "key", "oauth_token", "quotauser", "userproject"})
"""Parameters that choose another account at Google, with or without a dollar sign (system parameters,
https://cloud.google.com/apis/docs/system-parameters)."""


class Forwarded:
    """An open answer; owned by one task, which must `close` it.

    Attributes:
        status: as the provider answered.
        headers: for the caller.
        content_type: what the body is.
        request_id: the provider's id of the request.
    """

    def __init__(
        self,
        call: Call,
        connection: Connection,
        headers: RawHeaders,
        id_header: str,
        give_back: Callable[[], None],
    ) -> None:
        self._call = call
        self._connection = connection
        self._give_back = give_back
        self.status = connection.status
        self.headers = headers
        self.content_type = connection.headers.get("content-type", "")
        self.request_id = provider_request_id(connection.headers, id_header)

    async def chunks(self, ends_at: float) -> AsyncGenerator[bytes]:
        """The body in the pieces in which it comes, until `ends_at` on the loop's clock.

        Raises:
            ProviderError: the connection broke, or nothing came for too long.
        """
        mask = SecretMask(secrets_of(self._call.deployment))
        try:
            while chunk := await self._next(ends_at):
                if ready := mask.feed(chunk):
                    yield ready
        except LateError:
            raise self._broken("timeout", "the answer stopped") from None
        except ResponseError:
            raise self._broken("stream_interrupted", "the connection broke") from None
        if rest := mask.rest():
            yield rest

    async def error_body(self, limit: int) -> bytes:
        """The body of a refusal, up to `limit` bytes, without anything that looks like a key."""
        body = b""
        loop = asyncio.get_running_loop()
        ends_at = loop.time() + self._call.stream_idle_timeout_s
        with suppress(ResponseError):
            while len(body) < limit and (chunk := await self._next(ends_at)):
                body += chunk
        deployment = self._call.deployment
        text = scrub(body[:limit].decode("utf-8", "replace"), deployment)
        return masked(text.encode(), secrets_of(deployment))

    def close(self) -> None:
        """Keep the connection if the body was read to its end, else close it at once."""
        if self._connection.complete:
            self._give_back()
        else:
            self._connection.close()

    async def _next(self, ends_at: float) -> bytes:
        """The next piece; empty at the end. Raises ResponseError."""
        connection = self._connection
        loop = asyncio.get_running_loop()
        chunk = connection.take()
        while not chunk and not connection.complete:
            await connection.more(min(loop.time() + self._call.stream_idle_timeout_s, ends_at))
            chunk = connection.take()
        return chunk

    def _broken(self, kind: str, why: str) -> ProviderError:
        return ProviderError(
            kind, f"{name_of(self._call)}: {why}", status=self.status, billed="unknown"
        )


class ForwardingTransport(Transport):
    """The pool of connections, with requests that are handed through."""

    async def forward(self, call: Call, passage: Passage) -> Forwarded:
        """Send a request and return its answer, whose body is still to be read.

        Raises:
            InvalidRequestError: the request has what must not be sent on.
            ProviderError: the provider cannot be reached, or does not answer in time.
        """
        target, wire = passage_target(call.deployment, passage)
        began = self._now()
        connection, way = await self._asked(
            *(call, target, passage.body, began),
            streams=True,
            passes=True,
            twice=passage.method in REPEATABLE,
        )
        why = ""
        if coding_of(connection.headers):
            why = "its answer is compressed although we asked for `identity`"
        elif connection.status not in STATUSES:
            why = f"its status is {connection.status}, which HTTP does not have"
        if why:
            connection.close()
            error = malformed(call.deployment, why)
            error.status = connection.status
            raise error

        def give_back() -> None:
            self.pool.give_back(connection, way, self._now())

        headers = _answered(connection.headers, call.deployment, passage, target.url)
        return Forwarded(call, connection, headers, wire.id_header, give_back)


def passage_target(deployment: Deployment, passage: Passage) -> tuple[Endpoint, Outbound]:
    """Where a request goes, with all its headers, and the wire of its provider.

    Raises:
        InvalidRequestError: a header or the query has what must not be sent on.
        ProviderError: the deployment's `api_base` or key cannot be used.
    """
    wire = UNTRANSLATED["messages"] if deployment.kind == "anthropic" else FROM_CHAT["chat"]
    base = address_of(deployment, passage.path)
    headers = dict(deployment.headers)
    if deployment.api_key:
        name = wire.key_header or deployment.key_header
        bearer = "Bearer " if name == "authorization" else ""
        headers[name] = bearer + deployment.api_key.strip()
    if "authorization" not in {name.lower() for name in headers} and (
        basic := basic_auth(deployment.api_base)
    ):
        headers["authorization"] = basic
    known = make_target(deployment, base, headers)
    url = URL(f"{base}/{passage.path}{_query(deployment, passage.query)}", encoded=True)
    if url.origin() != known.url.origin():
        raise ProviderError(
            "connection_error",
            f"deployment {deployment.id!r}: its api_base cannot have a path behind it",
        )
    sent = dict(_sent(passage.headers))
    length = sent.pop("content-length", "")
    for name, value in wire.headers.items():
        sent.setdefault(name.lower(), value)
    sent["accept-encoding"] = "identity"
    sent |= {name.lower(): value for name, value in {**headers, **passage.trace_headers}.items()}
    if not isinstance(passage.body, bytes):
        if length.isdigit():
            sent["content-length"] = length
        else:
            sent["transfer-encoding"] = "chunked"
    return Endpoint(url, sent, passage.method), wire


def address_of(deployment: Deployment, path: str) -> str:
    """The address that a path goes behind. A version at its end gives way to one that the path
    begins with: people write both."""
    wire = UNTRANSLATED["messages"] if deployment.kind == "anthropic" else FROM_CHAT["chat"]
    base = deployment.api_base or HOSTS[wire.host].base or ""
    start, _, last = base.rpartition("/")
    if _VERSION.fullmatch(last) and _VERSION.fullmatch(path.partition("/")[0]):
        return start
    return base


def _query(deployment: Deployment, raw: str) -> str:
    """The caller's query, with the parameters of the deployment's address that it does not have."""
    if _KEY_LIKE.decode() in raw:
        raise InvalidRequestError(
            "the query has a key of this gateway; send it in a header", code="key_in_query"
        )
    if not raw:
        return deployment.query
    given = {name for name, _ in parse_qsl(raw, keep_blank_values=True)}
    host = URL(deployment.api_base or "").host or ""
    if host == _GOOGLE or host.endswith("." + _GOOGLE):
        named = {name for name in given if name.removeprefix("$").lower() in _GOOGLES_ACCOUNT}
        if named:
            raise InvalidRequestError(
                f"the query parameter {min(named)!r} would choose another account than the gateway's;"
                " leave it out",
                code="key_in_query",
            )
    own = parse_qsl(deployment.query.removeprefix("?"), keep_blank_values=True)
    more = urlencode([(name, value) for name, value in own if name not in given])
    return f"?{raw}&{more}" if more else f"?{raw}"


def _sent(given: RawHeaders) -> Iterable[tuple[str, str]]:
    """The caller's headers that go on. Raises InvalidRequestError."""
    dropped = _named_by_connection(given)
    for raw_name, raw_value in given:
        name = raw_name.decode("latin-1").lower()
        if name in _KEPT_HERE or name in dropped or name.startswith(_KEPT_PREFIXES):
            continue
        if _KEY_LIKE in raw_value:
            continue  # the caller's key, in a header that we do not know
        if not raw_value.isascii() or not raw_value.decode().isprintable():
            raise InvalidRequestError(
                f"the header {name!r} must be printable ASCII to be passed on",
                code="invalid_header",
            )
        yield name, raw_value.decode()


def _answered(
    given: Mapping[str, str], deployment: Deployment, passage: Passage, asked: URL
) -> RawHeaders:
    """The provider's headers for the caller."""
    raw = [
        (name.encode("latin-1"), value.encode("utf-8", "surrogateescape"))
        for name, value in given.items()
    ]
    dropped = _named_by_connection(raw)
    secrets = secrets_of(deployment)
    found: list[tuple[bytes, bytes]] = []
    for raw_name, raw_value in raw:
        name, value = raw_name.lower(), raw_value
        shown = name.decode("latin-1")
        if shown in _KEPT_THERE or shown in dropped or shown.startswith("x-spanledger-"):
            continue
        if _CONTROL.search(value):
            continue  # what reads a lone carriage return as a line's end would see two headers
        if shown == "location":
            value = _location(value, deployment, passage, asked)
        value = masked(value, secrets)
        found.append((name, value))
    return found


def _location(value: bytes, deployment: Deployment, passage: Passage, asked: URL) -> bytes:
    """A redirect within the deployment's address as one within ours; any other as it is, as the
    caller may follow it without our key."""
    try:
        there = asked.join(URL(value.decode("latin-1"))).with_user(None)
        own = str(URL(address_of(deployment, passage.path)).with_user(None))
    except ValueError:
        return value
    whole = str(there)
    if whole.startswith(own + "/"):
        return f"/v1/{passage.provider}/{whole.removeprefix(own + '/')}".encode()
    return value


def _named_by_connection(headers: RawHeaders) -> frozenset[str]:
    """Headers that `Connection` says are of this connection alone."""
    named = (value for name, value in headers if name.lower() == b"connection")
    words = (word.strip().lower() for value in named for word in value.split(b","))
    return frozenset(word.decode("latin-1") for word in words if word)
