"""Adapter for OpenAI and any server that speaks its wire.

The caller's body goes out as it came, but for `model`, `stream`, `stream_options` and an output
cap, whose name is the deployment's (`caps`); answers and chunks are relayed as they came. Nothing of the caller's headers is forwarded.

A stream ends with `data: [DONE]`. Some compatible servers leave that out: a stream that closes in
good order after a finish reason and the usage is taken as complete, any other as interrupted.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import replace

from spanledger.clock import Clock
from spanledger.errors import ProviderError
from spanledger.providers.base import Answer, Call, Frame
from spanledger.providers.caps import Caps, renamed
from spanledger.providers.failures import read_failure, refusal
from spanledger.providers.hosts import HOSTS
from spanledger.providers.openai_wire import encode_request, malformed, read_answer, read_chunk
from spanledger.providers.proxies import WayOut
from spanledger.providers.transport import (
    EventStream,
    Limits,
    Reply,
    Target,
    Transport,
    make_target,
    provider_request_id,
)

_PATHS = {"chat": "/chat/completions", "embeddings": "/embeddings"}
_DONE = b"[DONE]"
MAX_TARGETS = 4_096
"""Addresses that are kept ready."""


class OpenAIProvider:
    """One adapter for all deployments that speak OpenAI's wire."""

    def __init__(
        self,
        limits: Limits | None = None,
        clock: Clock | None = None,
        way_out: WayOut | None = None,
    ) -> None:
        self._transport = Transport(limits or Limits(), way_out)
        self._clock = clock or Clock()
        self._caps = Caps()
        self._targets: dict[tuple[str, str | None, str | None, str], Target] = {}

    async def complete(self, call: Call) -> Answer:
        """Ask for a whole answer."""
        reply = await self._exchanged(call)
        if not 200 <= reply.status < 300:
            raise self._refusal(call, reply)
        return read_answer(call, reply.body, provider_request_id(reply.headers, "x-request-id"))

    async def stream(self, call: Call) -> AsyncGenerator[Frame]:
        """Ask for a stream of chunks."""
        source = await self._opened(call)
        if isinstance(source, Reply):
            raise self._no_stream(call, source)
        request_id = provider_request_id(source.headers, "x-request-id")
        began = finished = counted = ended = False
        try:
            while not ended:
                for payload in await _next(source, finished and counted):
                    if payload.startswith(_DONE):
                        ended = True
                        break
                    frame = read_chunk(call, payload, request_id, began=began)
                    if frame.content:
                        began = source.producing = True
                    finished = finished or bool(frame.finish_reason)
                    counted = counted or frame.usage is not None
                    yield frame
        finally:
            source.close(clean=ended)

    async def _exchanged(self, call: Call) -> Reply:
        """The whole answer; asked for once more where the name of the cap was refused."""
        began = self._clock.monotonic()
        call = self._caps.applied(call)
        name = self._caps.name(call.deployment)
        body = encode_request(call, stream=False, cap_key=name)
        reply = await self._transport.exchange(call, self._target(call), body)
        other = self._caps.other(call, reply.status, reply.body)
        if other is not None:
            call = self._again(call, other, began)
            body = encode_request(call, stream=False, cap_key=other)
            reply = await self._transport.exchange(call, self._target(call), body)
            if 200 <= reply.status < 300:
                self._caps.remember(call.deployment, other)
        return reply

    async def _opened(self, call: Call) -> EventStream | Reply:
        """The same for a stream."""
        began = self._clock.monotonic()
        call = self._caps.applied(call)
        name = self._caps.name(call.deployment)
        body = encode_request(call, stream=True, cap_key=name)
        source = await self._transport.events(call, self._target(call), body)
        if isinstance(source, EventStream):
            return source
        other = self._caps.other(call, source.status, source.body)
        if other is not None:
            call = self._again(call, other, began)
            body = encode_request(call, stream=True, cap_key=other)
            source = await self._transport.events(call, self._target(call), body)
            if isinstance(source, EventStream):
                self._caps.remember(call.deployment, other)
        return source

    def _again(self, call: Call, name: str, began: float) -> Call:
        """The call with the other name for its cap, in what is left of its time."""
        left = max(0.0, call.timeout_s - (self._clock.monotonic() - began))
        return replace(renamed(call, name), timeout_s=left)

    async def close(self) -> None:
        """Close connections."""
        await self._transport.close()

    def _target(self, call: Call) -> Target:
        deployment = call.deployment
        key = (deployment.id, deployment.api_base, deployment.api_key, call.operation)
        target = self._targets.get(key)
        if target is None:
            headers = dict(deployment.headers)
            if deployment.api_key:
                bearer = "Bearer " if deployment.key_header == "authorization" else ""
                headers[deployment.key_header] = bearer + deployment.api_key.strip()
            base = deployment.api_base or HOSTS["openai"].base
            url = f"{base}{_PATHS[call.operation]}{deployment.query}"
            if len(self._targets) >= MAX_TARGETS:  # a wildcard's address may have the model in it
                self._targets.clear()
            target = self._targets[key] = make_target(deployment, url, headers)
        return target

    def _refusal(self, call: Call, reply: Reply) -> ProviderError:
        return refusal(
            call.deployment,
            reply.status,
            read_failure(reply.body),
            headers=reply.headers,
            now_s=self._clock.now_ns() / 1e9,
        )

    def _no_stream(self, call: Call, reply: Reply) -> ProviderError:
        if not 200 <= reply.status < 300:
            return self._refusal(call, reply)
        failure = read_failure(reply.body)
        if failure.error is not None and failure.message:
            return refusal(call.deployment, None, failure)
        return malformed(call, "it answered a request for a stream with something else")


async def _next(source: EventStream, complete: bool) -> list[bytes]:
    """The next events; the end of the connection counts as the end mark after a whole answer."""
    batch = await source.batch()
    if batch is not None:
        return batch
    if complete or source.tail.startswith(_DONE):
        return [_DONE]
    raise source.interrupted("the stream closed")
