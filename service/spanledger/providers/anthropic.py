"""Adapter for Anthropic's Messages API, seen from outside as OpenAI's chat completions.

A stream ends with `message_stop`; one that closes in good order after its stop reason and usage is
taken as complete, any other as interrupted.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator

from spanledger.clock import Clock
from spanledger.errors import ProviderError
from spanledger.providers.anthropic_answer import MessageStream, read_message
from spanledger.providers.anthropic_request import encode_messages_request
from spanledger.providers.base import Answer, Call, Frame
from spanledger.providers.failures import invalid, read_failure, refusal
from spanledger.providers.hosts import HOSTS
from spanledger.providers.openai_wire import malformed
from spanledger.providers.proxies import WayOut
from spanledger.providers.transport import (
    Limits,
    Reply,
    Target,
    Transport,
    make_target,
    provider_request_id,
)

API_VERSION = "2023-06-01"
_PATH = "/v1/messages"


class AnthropicProvider:
    """One adapter for all deployments on Anthropic's wire."""

    def __init__(
        self,
        limits: Limits | None = None,
        clock: Clock | None = None,
        way_out: WayOut | None = None,
    ) -> None:
        self._transport = Transport(limits or Limits(), way_out)
        self._clock = clock or Clock()
        self._targets: dict[tuple[str, str | None, str | None], Target] = {}

    async def complete(self, call: Call) -> Answer:
        """Ask for a whole answer."""
        body = self._encode(call, stream=False)
        reply = await self._transport.exchange(call, self._target(call), body)
        if not 200 <= reply.status < 300:
            raise self._refusal(call, reply)
        request_id = provider_request_id(reply.headers, "request-id")
        return read_message(call, reply.body, self._created(), request_id)

    async def stream(self, call: Call) -> AsyncGenerator[Frame]:
        """Ask for a stream of chunks."""
        body = self._encode(call, stream=True)
        source = await self._transport.events(call, self._target(call), body)
        if isinstance(source, Reply):
            raise self._no_stream(call, source)
        messages = MessageStream(
            call, self._created(), provider_request_id(source.headers, "request-id")
        )
        ended = False
        try:
            while not ended:
                batch = await source.batch()
                if batch is None:
                    if not messages.complete:
                        raise source.interrupted("the stream closed")
                    ended = True
                    break
                for payload in batch:
                    if (frame := messages.read(payload)) is not None:
                        source.producing = source.producing or frame.content
                        yield frame
                    if messages.ended:
                        ended = True
                        break
            if (frame := messages.last()) is not None:
                yield frame
        finally:
            source.close(clean=ended)

    async def close(self) -> None:
        """Close connections."""
        await self._transport.close()

    def _encode(self, call: Call, *, stream: bool) -> bytes:
        if call.operation != "chat":
            raise invalid("Anthropic has no embeddings; choose another model", param="model")
        return encode_messages_request(call, stream=stream)

    def _created(self) -> int:
        return self._clock.now_ns() // 1_000_000_000

    def _target(self, call: Call) -> Target:
        deployment = call.deployment
        key = (deployment.id, deployment.api_base, deployment.api_key)
        target = self._targets.get(key)
        if target is None:
            headers = {"anthropic-version": API_VERSION, **deployment.headers}
            if deployment.api_key:
                headers["x-api-key"] = deployment.api_key.strip()
            # People write the base with and without the version.
            base = (deployment.api_base or f"{HOSTS['anthropic'].base}").removesuffix("/v1")
            target = self._targets[key] = make_target(deployment, base + _PATH, headers)
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
