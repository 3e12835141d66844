"""Adapter for OpenAI and any server that speaks its wire.

The caller's body goes out as it came, but for `model`, `stream`, `stream_options` and an output
cap; answers and chunks are relayed as they came. Nothing of the caller's headers is forwarded.

A stream ends with `data: [DONE]`. Some compatible servers leave that out: a stream that closes in
good order after its finish reason is complete, and so is one that breaks once it has been counted.
A server that refuses `stream_options` is asked again without, and remembered. An answer in the
form that was not asked for is put into the one that was.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import replace

import msgspec

from spanledger.clock import Clock
from spanledger.errors import ProviderError
from spanledger.providers.base import Answer, Call, Deployment, Frame
from spanledger.providers.error_forms import read_failure
from spanledger.providers.failures import refusal
from spanledger.providers.openai_wire import (
    DONE,
    asks_for_usage,
    encode_request,
    frame_of,
    is_json,
    joined,
    malformed,
    read_answer,
    read_chunk,
)
from spanledger.providers.sse import ErrorPayload, is_stream
from spanledger.providers.transport import (
    EventStream,
    Limits,
    Reply,
    Target,
    Transport,
    make_target,
    provider_request_id,
)

API_BASE = "https://api.openai.com/v1"
_PATHS = {"chat": "/chat/completions", "embeddings": "/embeddings"}
MAX_REMEMBERED = 4096
"""Deployments that are known to refuse `stream_options`."""
_LATE = frozenset({"stream_interrupted", "timeout"})


class OpenAIProvider:
    """One adapter for all deployments that speak OpenAI's wire."""

    def __init__(self, limits: Limits | None = None, clock: Clock | None = None) -> None:
        self._transport = Transport(limits or Limits())
        self._clock = clock or Clock()
        self._targets: dict[tuple[str | None, str | None, str], Target] = {}
        self._refuses_options: set[str] = set()

    async def complete(self, call: Call) -> Answer:
        """Ask for a whole answer."""
        body = encode_request(call, stream=False, cap_key=_cap_key(call.deployment))
        reply = await self._transport.exchange(call, self._target(call), body)
        if not 200 <= reply.status < 300:
            raise self._refusal(call, reply)
        answer = joined(call, reply.body) if is_stream(reply.body) else reply.body
        return read_answer(call, answer, provider_request_id(reply.headers, "x-request-id"))

    async def stream(self, call: Call) -> AsyncGenerator[Frame]:
        """Ask for a stream of chunks."""
        source = await self._open_stream(call)
        request_id = provider_request_id(source.headers, "x-request-id")
        if isinstance(source, Reply):
            yield self._unstreamed(call, source, request_id)
            return
        began = counted = ended = False
        finished, choices = 0, _choices(call)
        try:
            while not ended:
                try:
                    batch = await source.batch()
                except ProviderError as error:
                    if error.kind in _LATE and finished and counted:
                        break
                    raise
                if batch is None:
                    whole = finished >= choices or (finished > 0 and counted)
                    batch = _last(source, whole=whole)
                for payload in batch:
                    if payload.startswith(DONE):
                        ended = True
                        break
                    frame = read_chunk(call, payload, request_id, began=began)
                    began = began or frame.content
                    finished += bool(frame.finish_reason)
                    counted = counted or frame.usage is not None
                    yield frame
            if not (began or finished or counted):
                raise malformed(call, "there is no answer in its stream")
        finally:
            source.close(clean=ended)

    async def _open_stream(self, call: Call) -> EventStream | Reply:
        """The stream; asked for without `stream_options` where the server knows none."""
        unique = call.deployment.id
        cap_key = _cap_key(call.deployment)
        ask_usage = unique not in self._refuses_options
        body = encode_request(call, stream=True, cap_key=cap_key, ask_usage=ask_usage)
        began = self._clock.monotonic()
        source = await self._transport.events(call, self._target(call), body)
        options = call.fields.get("stream_options")
        if not (ask_usage and _names_options(source) and asks_for_usage(options)):
            return source
        left = call.timeout_s - (self._clock.monotonic() - began)
        again = replace(call, timeout_s=max(left, 0.0))
        body = encode_request(again, stream=True, cap_key=cap_key, ask_usage=False)
        source = await self._transport.events(again, self._target(call), body)
        good = isinstance(source, EventStream) or source.status < 300
        # Only what was seen to help is remembered: a refusal may quote a caller's own words.
        if good and len(self._refuses_options) < MAX_REMEMBERED:
            self._refuses_options.add(unique)
        return source

    async def close(self) -> None:
        """Close connections."""
        await self._transport.close()

    def _target(self, call: Call) -> Target:
        deployment = call.deployment
        key = (deployment.api_base, deployment.api_key, call.operation)
        target = self._targets.get(key)
        if target is None:
            headers = {}
            if deployment.api_key:
                headers["authorization"] = f"Bearer {deployment.api_key.strip()}"
            url = (deployment.api_base or API_BASE) + _PATHS[call.operation]
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

    def _unstreamed(self, call: Call, reply: Reply, request_id: str) -> Frame:
        """The one event for an answer that did not come as a stream."""
        if not 200 <= reply.status < 300:
            raise self._refusal(call, reply)
        body = joined(call, reply.body) if is_stream(reply.body) else reply.body
        return frame_of(call, read_answer(call, body, request_id))


def _names_options(source: EventStream | Reply) -> bool:
    """Whether a server refuses the request for its `stream_options`."""
    return (
        isinstance(source, Reply)
        and source.status in (400, 415, 422, 501)
        and b"stream_options" in source.body
    )


def _choices(call: Call) -> int:
    """How many choices the answer has."""
    try:
        return msgspec.json.decode(call.fields["n"], type=int)
    except (KeyError, msgspec.DecodeError):
        return 1


def _last(source: EventStream, *, whole: bool) -> list[bytes]:
    """What comes at the end of the connection: an event that no blank line ended, and the end
    mark, which the connection's good end stands for after a whole answer."""
    tail = source.tail
    if tail.startswith(DONE):
        return [DONE]
    if tail and (type(tail) is ErrorPayload or is_json(tail)):
        source.tail = b""
        return [tail]
    if tail or not whole:
        raise source.interrupted("the stream closed")
    return [DONE]


def _cap_key(deployment: Deployment) -> str:
    """OpenAI's own reasoning models know no `max_tokens`; other servers often know only that."""
    base = deployment.api_base
    if base is None or base.startswith("https://api.openai.com"):
        return "max_completion_tokens"
    return "max_tokens"
