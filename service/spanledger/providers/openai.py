"""Adapter for OpenAI and any server that speaks its wire.

The caller's body goes out as it came, but for `model`, `stream`, `stream_options` and an output
cap, whose name is the deployment's (`caps`); answers and chunks are relayed as they came. Nothing
of the caller's headers is forwarded.

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
from spanledger.providers.base import Answer, Call, Frame
from spanledger.providers.caps import Caps, renamed
from spanledger.providers.error_forms import read_failure
from spanledger.providers.failures import refusal
from spanledger.providers.hosts import HOSTS
from spanledger.providers.openai_wire import (
    DONE,
    asks_for_usage,
    encode_request,
    is_json,
    malformed,
    read_answer,
    read_chunk,
)
from spanledger.providers.other_form import frame_of, joined
from spanledger.providers.proxies import WayOut
from spanledger.providers.sse import ErrorPayload, is_stream
from spanledger.providers.transport import (
    Endpoint,
    EventStream,
    Limits,
    ProviderReply,
    Transport,
    make_target,
    provider_request_id,
)

_PATHS = {"chat": "/chat/completions", "embeddings": "/embeddings"}
MAX_TARGETS = 4_096
"""Addresses that are kept ready."""
MAX_REMEMBERED_REFUSALS = 4096
"""Deployments that are known to refuse `stream_options`."""
_LATE = frozenset({"stream_interrupted", "timeout"})


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
        self._targets: dict[tuple[str, str | None, str | None, str], Endpoint] = {}
        self._refuses_options: set[str] = set()

    async def complete(self, call: Call) -> Answer:
        """Ask for a whole answer."""
        return self._read(call, await self._exchanged(call))

    async def stream(self, call: Call) -> AsyncGenerator[Frame]:
        """Ask for a stream of chunks."""
        source = await self._opened(call)
        if isinstance(source, ProviderReply):
            yield frame_of(call, self._read(call, source))
            return
        request_id = provider_request_id(source.headers, "x-request-id")
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
                    if frame.content:
                        began = source.producing = True
                    finished += bool(frame.finish_reason)
                    counted = counted or frame.usage is not None
                    yield frame
            if not (began or finished or counted):
                raise malformed(call, "there is no answer in its stream")
        finally:
            source.close(clean=ended)

    async def _exchanged(self, call: Call) -> ProviderReply:
        """The whole answer; asked for once more where the name of the cap was refused."""
        ends_at = self._clock.monotonic() + call.timeout_s
        call = self._caps.applied(call)
        name = self._caps.name(call.deployment)
        body = encode_request(call, stream=False, cap_key=name)
        reply = await self._transport.exchange(call, self._target(call), body)
        other = self._caps.other(call, reply.status, reply.body)
        if other is not None:
            call = self._again(renamed(call, other), ends_at)
            body = encode_request(call, stream=False, cap_key=other)
            reply = await self._transport.exchange(call, self._target(call), body)
            if 200 <= reply.status < 300:
                self._caps.remember(call.deployment, other)
        return reply

    async def _opened(self, call: Call) -> EventStream | ProviderReply:
        """The stream; asked for again where the name of the cap was refused, and where
        `stream_options` were: each once at most."""
        ends_at = self._clock.monotonic() + call.timeout_s
        call = self._caps.applied(call)
        name, other = self._caps.name(call.deployment), None
        ask_usage = takes_options = call.deployment.id not in self._refuses_options
        while True:
            body = encode_request(call, stream=True, cap_key=name, ask_usage=ask_usage)
            source = await self._transport.events(call, self._target(call), body)
            if isinstance(source, EventStream):
                break
            found = None if other else self._caps.other(call, source.status, source.body)
            if found is not None:
                name = other = found
                call = self._again(renamed(call, found), ends_at)
            elif ask_usage and _refuses_options(call, source):
                ask_usage = False
                call = self._again(call, ends_at)
            else:
                break
        # Only what was seen to help is remembered: a refusal may quote a caller's own words.
        if isinstance(source, EventStream) or 200 <= source.status < 300:
            if other is not None:
                self._caps.remember(call.deployment, other)
            if (
                takes_options
                and not ask_usage
                and len(self._refuses_options) < MAX_REMEMBERED_REFUSALS
            ):
                self._refuses_options.add(call.deployment.id)
        return source

    def _again(self, call: Call, ends_at: float) -> Call:
        """The call in what is left of its time."""
        return replace(call, timeout_s=max(0.0, ends_at - self._clock.monotonic()))

    async def close(self) -> None:
        """Close connections."""
        await self._transport.close()

    def _target(self, call: Call) -> Endpoint:
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

    def _refusal(self, call: Call, reply: ProviderReply) -> ProviderError:
        return refusal(
            call.deployment,
            reply.status,
            read_failure(reply.body),
            headers=reply.headers,
            now_s=self._clock.now_ns() / 1e9,
        )

    def _read(self, call: Call, reply: ProviderReply) -> Answer:
        """A whole answer, or a stream that came unasked, joined."""
        if not 200 <= reply.status < 300:
            raise self._refusal(call, reply)
        request_id = provider_request_id(reply.headers, "x-request-id")
        if is_stream(reply.body):
            return joined(call, reply.body, request_id)
        return read_answer(call, reply.body, request_id)


def _refuses_options(call: Call, reply: ProviderReply) -> bool:
    """Whether a server refuses the request for the `stream_options` that we added."""
    return (
        reply.status in (400, 415, 422, 501)
        and b"stream_options" in reply.body
        and asks_for_usage(call.fields.get("stream_options"))
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
