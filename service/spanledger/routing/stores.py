"""Accounts that keep files and run batches: which there are, and calls to them.

A file lives at one account, which is an address and a key, so nothing here falls back or is retried.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, Iterable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import Any, NamedTuple
from urllib.parse import quote

import msgspec

from spanledger.clock import Clock
from spanledger.config import GatewaySettings
from spanledger.errors import InvalidRequestError, ProviderError
from spanledger.providers.base import (
    Call,
    Deployment,
    Passage,
    PassedAnswer,
    PassesThrough,
    Provider,
    ProviderKind,
)
from spanledger.providers.file_hosts import for_files, keeps_files
from spanledger.routing.course import Candidate
from spanledger.routing.groups import RouteGroups
from spanledger.routing.models import AllowedModels
from spanledger.routing.plan import Plan
from spanledger.wires import DEFAULT
from spanledger.wires.base import Inbound
from spanledger.wires.error_forms import read_failure
from spanledger.wires.failures import hide_key, malformed, refusal
from spanledger.wires.fields import DECODE_ERRORS

MAX_REFUSAL_BYTES = 64 * 1024
"""Of a refusal's body."""
GivenHeaders = Sequence[tuple[bytes, bytes]]
Object = dict[str, Any]
JSON: GivenHeaders = ((b"content-type", b"application/json"),)


class WholeAnswer(NamedTuple):
    """An account's answer, and its id of the request."""

    body: bytes
    request_id: str


class Stores:
    """The deployments whose accounts keep files."""

    def __init__(
        self,
        plan: Plan,
        groups: RouteGroups,
        providers: Mapping[ProviderKind, Provider],
        clock: Clock,
        limits: GatewaySettings,
    ) -> None:
        self._groups = groups
        self._providers = providers
        self._clock = clock
        self._limits = limits
        self._deployments = {d.id: d for d in plan.deployments if keeps_files(d)}

    def only(
        self, routes: frozenset[str] | None, models: AllowedModels | None = None
    ) -> Deployment:
        """A deployment of the only account that keeps files and that a key may use.

        Raises:
            InvalidRequestError: there is none, or there are several.
        """
        found = [d for d in self._deployments.values() if routes is None or d.route in routes]
        if models is not None:
            found = list(filter(models.allow, found))
        accounts = {(d.provider, d.api_base, d.api_key) for d in found}
        if len(accounts) == 1:
            return found[0]
        if not accounts:
            raise InvalidRequestError(
                "no deployment that this key may use keeps files: that takes one at OpenAI, Azure or"
                " Groq, or at a server with OpenAI's API",
                code="files_unsupported",
            )
        raise InvalidRequestError(
            "files are kept at more than one account: name a model in the form's field"
            " 'target_model_names' or in the header x-spanledger-route, and the file goes to the"
            " account that serves it",
            code="missing_required_parameter",
            param="target_model_names",
        )

    def of_route(
        self,
        route: str,
        asked: str,
        wires: Iterable[Inbound],
        models: AllowedModels | None = None,
    ) -> Candidate:
        """The deployment of a route that its files go to: the first one that may be called now, and
        serves one of these wires.

        Raises:
            InvalidRequestError: none of them keeps files.
            PermissionDeniedError: none that does has a model that the key may use.
        """
        found: list[Candidate] = []
        for wire in wires:
            groups = self._groups.for_request(route, asked, wire, self._clock.now_ns())
            levels = groups.get(route, ())
            found += [t for level in levels for t in level if keeps_files(t.deployment)]
        if not found:
            raise InvalidRequestError(
                f"no deployment of {asked or route!r} keeps files and serves what they ask for;"
                " choose another model",
                code="files_unsupported",
                param="model",
            )
        if models is not None:
            found = [target for target in found if models.allow(target.deployment)]
            if not found:
                raise models.refusal(asked or route)
        now = self._clock.monotonic()
        return next((t for t in found if t.health.available(now, 0)), found[0])

    def candidate(
        self, deployment: str, route: str, asked: str, wire: Inbound, began_ns: int
    ) -> Candidate | None:
        """A deployment by its id, as it serves a route on a wire, at the prices of a request that began
        then."""
        levels = self._groups.for_request(route, asked, wire, began_ns).get(route, ())
        found = (t for level in levels for t in level if t.deployment.id == deployment)
        return next(found, None)

    def serves(self, route: str) -> bool:
        """Whether an account of a route keeps files."""
        return any(deployment.route == route for deployment in self._deployments.values())

    def find(self, deployment: str) -> Deployment | None:
        """A deployment that keeps files, by its id; None if the configuration has it no longer."""
        return self._deployments.get(deployment)

    async def json(
        self, deployment: Deployment, method: str, path: str, body: bytes = b""
    ) -> bytes:
        """What an account answers. Raises ProviderError."""
        given = JSON if body else ()
        return (await self.whole(deployment, method, path, given, body)).body

    async def whole(
        self,
        deployment: Deployment,
        method: str,
        path: str,
        headers: GivenHeaders,
        body: bytes | AsyncIterable[bytes],
    ) -> WholeAnswer:
        """The whole of an account's answer. Raises ProviderError."""
        whole = b""
        async with (
            self.opened(deployment, method, path, headers, body) as answer,
            aclosing(answer.chunks(self.ends_at())) as chunks,
        ):
            async for chunk in chunks:
                whole += chunk
                if len(whole) > self._limits.max_response_bytes:
                    raise malformed(deployment, "its answer is larger than max_response_bytes")
        return WholeAnswer(whole, hide_key(answer.request_id, deployment))

    async def lines(self, deployment: Deployment, file: str) -> AsyncGenerator[bytes]:
        """The lines of a file, one by one, without the empty ones. Raises ProviderError."""
        rest = b""
        path = f"files/{quote(file, safe='')}/content"
        async with (
            self.opened(deployment, "GET", path) as answer,
            aclosing(answer.chunks(self.ends_at())) as chunks,
        ):
            async for chunk in chunks:
                *whole, rest = (rest + chunk).split(b"\n")
                if len(rest) > self._limits.max_response_bytes:
                    raise malformed(deployment, "a line of its file has no end")
                for line in whole:
                    if line.strip():
                        yield line
        if rest.strip():
            yield rest

    @asynccontextmanager
    async def opened(
        self,
        deployment: Deployment,
        method: str,
        path: str,
        headers: GivenHeaders = (),
        body: bytes | AsyncIterable[bytes] = b"",
    ) -> AsyncGenerator[PassedAnswer]:
        """An account's answer, whose body is still to be read. Raises ProviderError."""
        provider = self._providers[deployment.kind]
        assert isinstance(provider, PassesThrough)
        timeout_s = min(deployment.timeout_s, self._limits.total_timeout_s)
        call = Call(
            for_files(deployment),
            DEFAULT,
            {},
            timeout_s,
            stream_idle_timeout_s=self._limits.stream_idle_timeout_s,
        )
        passage = Passage(deployment.provider, method, path, "", headers, body)
        answer = await provider.forward(call, passage)
        try:
            if answer.status >= 300:
                failure = read_failure(await answer.error_body(MAX_REFUSAL_BYTES))
                raise refusal(deployment, answer.status, failure)
            yield answer
        finally:
            answer.close()

    def ends_at(self) -> float:
        """When a file that begins to be read now must have ended, on the loop's clock."""
        return asyncio.get_running_loop().time() + self._limits.total_timeout_s


def decoded(raw: bytes) -> Object:
    """A provider's object. Raises ProviderError."""
    try:
        found = msgspec.json.decode(raw)
    except DECODE_ERRORS:
        found = None
    if not isinstance(found, dict):
        raise ProviderError("malformed_response", "a provider's answer about a file is not JSON")
    return found


def is_gone(error: ProviderError) -> bool:
    """Whether the account no longer has what was asked for."""
    return error.status in (404, 410)
