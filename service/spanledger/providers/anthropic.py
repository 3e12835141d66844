"""Adapter for Anthropic's Messages API, seen from outside as OpenAI's chat completions.

A stream ends with `message_stop`; one that closes in good order after its stop reason is complete
too, any other is interrupted. An answer in the form that was not asked for is put into the one that
was.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping

from spanledger.clock import Clock
from spanledger.errors import ProviderError
from spanledger.providers.anthropic_answer import MessageStream, read_message
from spanledger.providers.anthropic_request import MessagesRequest, encode_messages_request
from spanledger.providers.anthropic_tools import Names
from spanledger.providers.base import Answer, Call, Frame
from spanledger.providers.error_forms import read_failure
from spanledger.providers.failures import invalid, refusal
from spanledger.providers.hosts import HOSTS
from spanledger.providers.openai_wire import malformed
from spanledger.providers.other_form import answer_of, failed_after, frame_of
from spanledger.providers.proxies import WayOut
from spanledger.providers.sse import events_of, is_stream
from spanledger.providers.transport import (
    Endpoint,
    Limits,
    ProviderReply,
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
        self._targets: dict[tuple[str, str | None, str | None], Endpoint] = {}

    async def complete(self, call: Call) -> Answer:
        """Ask for a whole answer."""
        request = self._encode(call, stream=False)
        reply = await self._transport.exchange(call, self._target(call), request.body)
        return self._read(call, reply, request.names)

    async def stream(self, call: Call) -> AsyncGenerator[Frame]:
        """Ask for a stream of chunks."""
        request = self._encode(call, stream=True)
        source = await self._transport.events(call, self._target(call), request.body)
        if isinstance(source, ProviderReply):
            yield frame_of(call, self._read(call, source, request.names))
            return
        messages = self._messages(call, source.headers, request.names)
        ended = False
        try:
            while not ended:
                try:
                    batch = await source.batch()
                except ProviderError:
                    if messages.finished and messages.counted:
                        break  # nothing is missing but the end mark
                    raise
                if batch is None:
                    if not messages.finished:
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

    def _encode(self, call: Call, *, stream: bool) -> MessagesRequest:
        if call.operation != "chat":
            raise invalid("Anthropic has no embeddings; choose another model", param="model")
        return encode_messages_request(call, stream=stream)

    def _created(self) -> int:
        return self._clock.now_ns() // 1_000_000_000

    def _target(self, call: Call) -> Endpoint:
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

    def _refusal(self, call: Call, reply: ProviderReply) -> ProviderError:
        return refusal(
            call.deployment,
            reply.status,
            read_failure(reply.body),
            headers=reply.headers,
            now_s=self._clock.now_ns() / 1e9,
        )

    def _messages(self, call: Call, headers: Mapping[str, str], names: Names) -> MessageStream:
        request_id = provider_request_id(headers, "request-id")
        return MessageStream(call, self._created(), request_id, names)

    def _read(self, call: Call, reply: ProviderReply, names: Names) -> Answer:
        """A whole answer, or a stream that came unasked, joined."""
        if not 200 <= reply.status < 300:
            raise self._refusal(call, reply)
        if not is_stream(reply.body):
            request_id = provider_request_id(reply.headers, "request-id")
            return read_message(call, reply.body, self._created(), request_id, names)
        messages = self._messages(call, reply.headers, names)
        frames: list[Frame] = []
        try:
            frames.extend(f for p in events_of(reply.body) if (f := messages.read(p)) is not None)
            if not messages.finished:
                raise malformed(call, "it streamed its answer unasked, and not to the end")
        except ProviderError as error:
            raise failed_after(error, frames) from None
        if (last := messages.last()) is not None:
            frames.append(last)
        return answer_of(call, frames)
