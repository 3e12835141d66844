"""Adapter for OpenAI and any server that speaks its wire.

The caller's body goes out as it came, but for `model`, `stream`, `stream_options` and an output
cap; answers and chunks are relayed as they came. Nothing of the caller's headers is forwarded.

A stream ends with `data: [DONE]`. Some compatible servers leave that out: a stream that closes in
good order after a finish reason and the usage is taken as complete, any other as interrupted.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator

from spanledger.clock import Clock
from spanledger.errors import ProviderError
from spanledger.providers.base import Answer, Call, Deployment, Frame
from spanledger.providers.failures import read_failure, refusal
from spanledger.providers.hosts import HOSTS, cap_field
from spanledger.providers.openai_wire import encode_request, malformed, read_answer, read_chunk
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

    def __init__(self, limits: Limits | None = None, clock: Clock | None = None) -> None:
        self._transport = Transport(limits or Limits())
        self._clock = clock or Clock()
        self._targets: dict[tuple[str, str | None, str | None, str], Target] = {}

    async def complete(self, call: Call) -> Answer:
        """Ask for a whole answer."""
        body = encode_request(call, stream=False, cap_key=_cap_key(call.deployment))
        reply = await self._transport.exchange(call, self._target(call), body)
        if not 200 <= reply.status < 300:
            raise self._refusal(call, reply)
        return read_answer(call, reply.body, provider_request_id(reply.headers, "x-request-id"))

    async def stream(self, call: Call) -> AsyncGenerator[Frame]:
        """Ask for a stream of chunks."""
        body = encode_request(call, stream=True, cap_key=_cap_key(call.deployment))
        source = await self._transport.events(call, self._target(call), body)
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
                    began = began or frame.content
                    finished = finished or bool(frame.finish_reason)
                    counted = counted or frame.usage is not None
                    yield frame
        finally:
            source.close(clean=ended)

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


def _cap_key(deployment: Deployment) -> str:
    """OpenAI's own reasoning models know no `max_tokens`; other servers often know only that."""
    return deployment.cap or cap_field(deployment.api_base, "openai", deployment.model)
