"""Compaction of a conversation on the Responses API: its items go in, fewer come out.

Who speaks it has an account that can read what it made (`compactions`), so there is no translation: a
model that compacts nothing cannot serve it. Nothing but the model's own limit bounds the answer.
"""

from __future__ import annotations

import msgspec

from spanledger.errors import InvalidRequestError
from spanledger.pricing.demand import Demand
from spanledger.pricing.reported import OpenAIUsage, from_openai
from spanledger.wires.base import Answer, Ask, Frame, Habits, Outgoing, Seen, Written
from spanledger.wires.compactions import marked
from spanledger.wires.failures import embedded_error, malformed, unreadable
from spanledger.wires.fields import DECODE_ERRORS, NULL, Fields, is_set, text_bytes
from spanledger.wires.openai.answer import decoded
from spanledger.wires.openai.responses import Responses
from spanledger.wires.openai.responses_demand import demand_of
from spanledger.wires.openai.responses_native import NOT_OURS, NativeResponses, ResponseReader
from spanledger.wires.own_body import own_body

_WHOLE = {
    "background": "a compaction is answered at once",
    "stream": "a compaction is not streamed",
}
"""Fields of a request for an answer that change how it comes."""
_SETTINGS = NOT_OURS | {
    "include",
    "max_completion_tokens",
    "max_output_tokens",
    "max_tokens",
    "max_tool_calls",
    "metadata",
    "reasoning_effort",
    "safety_identifier",
    "store",
    "stream_options",
    "temperature",
    "tool_choice",
    "top_logprobs",
    "top_p",
    "truncation",
    "user",
}
"""Fields that a deployment's settings may have: this path refuses them. Codex sends `tools`,
`reasoning`, `text` and `parallel_tool_calls`, so that the beginning of the prompt is in the cache."""


class Compact(Responses):
    """The inbound wire."""

    name = "compact"
    path = "/v1/responses/compact"

    def read(self, body: bytes) -> Ask:
        """Read a request and check what the gateway acts on. Raises InvalidRequestError."""
        ask = super().read(body)
        for name, why in _WHOLE.items():
            if name in ask.fields and bytes(ask.fields[name]) not in (b"false", b"null"):
                raise InvalidRequestError(
                    f"{why}; leave out {name!r}", code="unsupported_parameter", param=name
                )
        ask.demand = self.demand(ask.fields, ask.body_bytes)
        return ask

    def demand(self, fields: Fields, body_bytes: int) -> Demand:
        """What bounds the cost of these fields: no cap can be sent."""
        demand = demand_of(fields, body_bytes, None)
        demand.fixed = True
        return demand


class _Item(msgspec.Struct):
    type: str = ""
    encrypted_content: str | None = None


class _Compaction(msgspec.Struct):
    id: str = ""
    object: str = ""
    output: list[_Item] | None = None
    usage: OpenAIUsage | None = None
    error: msgspec.Raw = NULL
    service_tier: str | None = None


_COMPACTION = msgspec.json.Decoder(_Compaction)


class CompactOut(NativeResponses):
    """The outbound wire: what callers send passes, except for the model and the id of an answer."""

    name = "compact"
    path = "/responses/compact"
    drops = _SETTINGS

    def request(self, out: Outgoing, stream: bool, _: Habits, /) -> Written:
        """The caller's body."""
        del stream
        return self.written(out, own_body(out, False, _SETTINGS))

    def answer(self, written: Written, body: bytes, seen: Seen) -> Answer:
        """The compacted items. Raises ProviderError."""
        server = written.out.deployment
        try:
            found = decoded(_COMPACTION, body)
        except DECODE_ERRORS:
            raise unreadable(server, body, "its answer is not a compaction") from None
        usage = from_openai(found.usage)
        if is_set(found.error):
            billed = "no" if usage is None else "unknown"
            raise embedded_error(server, bytes(found.error), billed=billed)
        if found.output is None:
            raise unreadable(server, body, "its answer has no compacted items")
        written_bytes = sum(text_bytes(item.encrypted_content) for item in found.output)
        return Answer(
            body=marked(body, seen.ours),
            usage=usage,
            response_id=found.id,
            finish_reasons=("stop",),
            provider_request_id=seen.request_id,
            output_bytes=written_bytes,
            service=found.service_tier or "",
        )

    def reader(self, written: Written, seen: Seen) -> ResponseReader:
        """It is never streamed. Raises ProviderError."""
        del seen
        raise malformed(written.out.deployment, "it sent a stream for a compaction")

    def frame(self, out: Outgoing, answer: Answer, /) -> Frame:
        """The answer, as it is."""
        del out
        return Frame(answer.body, content=True, usage=answer.usage)
