"""The contract between routing and a provider adapter: a call goes in, one record comes out.

Adapters translate wires and nothing else: no retry, no budget, no ledger, no telemetry. They
raise `ProviderError` with one of its kinds and never leak a library's exception.
"""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol, runtime_checkable

import msgspec

from spanledger.config.litellm_keys import BODY_KEYS
from spanledger.wires.base import Answer, Frame, Inbound, Operation
from spanledger.wires.fields import is_set
from spanledger.wires.form import Upload
from spanledger.wires.side import TokenCounter

ProviderKind = Literal["openai", "anthropic", "litellm"]
SPOKEN: dict[ProviderKind, tuple[str, ...]] = {
    "openai": (
        "chat",
        "embeddings",
        "completions",
        "moderations",
        "rerank",
        "images",
        "image_edits",
        "image_variations",
        "speech",
        "transcriptions",
        "translations",
    ),
    "anthropic": ("messages",),
    "litellm": ("chat", "embeddings"),
}
"""The wires that deployments of a kind speak."""


@dataclass(frozen=True, slots=True)
class Deployment:
    """One place a route can be served: an entry of `model_list`, resolved.

    Attributes:
        id: `model_info.id`, or a stable digest of the entry; unique.
        route: the `model_name` callers ask for; several deployments may share it.
        kind: which adapter serves it.
        provider: `gen_ai.provider.name` (`openai`, `anthropic`, `gcp.gemini`, …).
        model: the provider's own model name, without LiteLLM's prefix.
        litellm_model: the model as in the configuration, with its prefix.
        label: the model's name in rows and metrics, where its own is a caller's invention.
        api_base: base URL without a trailing slash, or None for OpenAI's or Anthropic's own.
        query: what stands behind the path, as `?api-version=2024-10-21`.
        api_key: the provider's key, never shown.
        key_header: the header that carries it.
        headers: further headers of every request there.
        timeout_s: one attempt, to the last byte of a whole answer or the first content of a stream.
        stream_timeout_s: the same for streams, None = as `timeout_s`.
        rpm: requests a minute this deployment may get, None = no bound.
        tpm: tokens a minute, None = no bound.
        weight: relative share of the group's traffic; 0 = only where no other can serve.
        order: the group's deployments with the lowest are asked first, those without one last.
        num_retries: retries after its failures, None = as the route has it.
        prices: overrides of the price book, pico-USD per token by LiteLLM's key
            (`input_cost_per_token`, `output_cost_per_token`, `cache_read_input_token_cost`, …).
        defaults: fields of a request that a caller may set and otherwise has from here, raw JSON.
        overrides: fields that are sent whatever the caller says (`extra_body`).
        drops: fields that are left out.
        renames: fields that this provider knows by another name.
        cap: the field that caps an answer, for callers that set none.
        asks_usage: whether a stream is asked for its usage.
        wires: names of the wires that it speaks, the best first; empty = those of its kind.
        tools_apart: when a request with tools is not spoken to in chat completions, although it
            speaks them: where the request asks for reasoning, or unless it asks for none.
        extra: LiteLLM parameters we hand through to `litellm.acompletion` alone.
        mode: what the model is for, as LiteLLM names it (`chat`, `rerank`, `image_generation`, …);
            empty where neither the file nor the price book says.
        base_model: the model behind a name that says nothing of it (Azure's deployments); it
            decides the price, and what the model can do. Empty where the name is the model's.
        forwards_trace: it is sent the trace context of each attempt.
    """

    id: str
    route: str
    kind: ProviderKind
    provider: str
    model: str
    litellm_model: str
    api_base: str | None = None
    query: str = ""
    api_key: str | None = field(default=None, repr=False)
    key_header: str = "authorization"
    headers: dict[str, str] = field(default_factory=dict, repr=False)
    timeout_s: float = 60.0
    rpm: int | None = None
    tpm: int | None = None
    weight: float = 1.0
    order: int | None = None
    num_retries: int | None = None
    stream_timeout_s: float | None = None
    prices: dict[str, int] = field(default_factory=dict)
    defaults: dict[str, msgspec.Raw] = field(default_factory=dict)
    overrides: dict[str, msgspec.Raw] = field(default_factory=dict)
    drops: frozenset[str] = frozenset()
    renames: dict[str, str] = field(default_factory=dict)
    cap: Literal["", "max_tokens", "max_completion_tokens"] = ""
    asks_usage: bool = True
    wires: tuple[str, ...] = ()
    tools_apart: Literal["", "asked", "always"] = ""
    label: str = ""
    extra: dict[str, object] = field(default_factory=dict, repr=False)
    base_model: str = ""
    forwards_trace: bool = False
    mode: str = ""

    @property
    def speaks(self) -> tuple[str, ...]:
        """The wires that it speaks, the best first."""
        return self.wires or SPOKEN[self.kind]

    def speaks_for(self, fields: dict[str, msgspec.Raw]) -> tuple[str, ...]:
        """The wires for a request of these fields, the best first."""
        if self.tools_apart and self.is_apart(fields):
            return tuple(name for name in self.speaks if name != "chat")
        return self.speaks

    def is_apart(self, fields: dict[str, msgspec.Raw]) -> bool:
        """Whether the model refuses a request of these fields in chat completions."""
        if not self.tools_apart or "tools" not in fields:
            return False
        effort = self.fields_for(fields).get("reasoning_effort")
        if effort is None or not is_set(effort):
            return self.tools_apart == "always"
        return bytes(effort) != b'"none"'

    @property
    def known_as(self) -> str:
        """The model's own name, for what depends on the model."""
        return self.base_model.rpartition("/")[2] or self.model

    @property
    def changes_requests(self) -> bool:
        """Whether a request there is not just what the caller sent."""
        return bool(self.defaults or self.overrides or self.drops or self.renames)

    def fields_for(
        self, fields: dict[str, msgspec.Raw], operation: Operation = "chat"
    ) -> dict[str, msgspec.Raw]:
        """The fields of a request there: the caller's, with what the file says of them.

        A caller's own value wins over a default, as in LiteLLM, and one cap over the other: a
        caller that sets `max_completion_tokens` is not given the file's `max_tokens` as well.
        """
        if not self.changes_requests:
            return fields
        given = {name: raw for name, raw in fields.items() if name not in self.drops}
        for name in _CAPS & given.keys():
            if bytes(given[name]) == b"null":  # it would hide a default, or the other cap
                del given[name]
        defaults = self.defaults
        if not _CAPS.isdisjoint(given):
            defaults = {n: raw for n, raw in defaults.items() if n not in _CAPS}
        if operation == "text_completion":
            defaults = {n: r for n, r in defaults.items() if n not in _DIALOGUE_ONLY}
        elif operation != "chat":
            defaults = {n: r for n, r in defaults.items() if n not in _CHAT_ONLY}
        merged = {**defaults, **given, **self.overrides}
        for name, known_as in self.renames.items():
            if (raw := merged.pop(name, None)) is not None:
                merged.setdefault(known_as, raw)
        return merged


_CHAT_ONLY = BODY_KEYS - {"dimensions", "encoding_format", "input_type", "user"}
_DIALOGUE_ONLY = frozenset(
    {
        "audio",
        "function_call",
        "functions",
        "max_completion_tokens",
        "messages",
        "modalities",
        "parallel_tool_calls",
        "reasoning_effort",
        "response_format",
        "thinking",
        "tool_choice",
        "tools",
        "top_logprobs",
        "verbosity",
        "web_search_options",
    }
)
_CAPS = frozenset({"max_tokens", "max_completion_tokens"})


PassOn = Callable[[Frame], bool]


class Call(msgspec.Struct, frozen=True):
    """One try: what to send where.

    Attributes:
        wire: the wire that the caller speaks.
        fields: the caller's body, top level, values undecoded (raw JSON); `model`, `stream` and
            `stream_options` in it are the caller's and are replaced by the adapter.
        max_output_tokens: a cap to enforce upstream because of a budget, None = as the caller
            asked. Never above the caller's own cap.
        stream_idle_timeout_s: longest silence between two chunks of a stream.
        total_s: longest time of a stream, whatever signs of life it gives.
        max_response_bytes: an answer (or one SSE event) larger than this is `malformed_response`.
        changed: names of the caller's fields that the adapter had to change or leave out; it adds
            to them when it encodes the request.
        headers: those of the caller's that are for deployments of its wire alone.
        request_id: the gateway's id of the request.
        trace_headers: the trace context, for a deployment that is to have it.
        upload: the caller's form, where its body is one.
        pass_on: takes an event of a stream out of turn, when everything before it was taken;
            returns whether it did. Only events that are `Frame.usual` may be given to it.
    """

    deployment: Deployment
    wire: Inbound
    fields: dict[str, msgspec.Raw]
    timeout_s: float
    max_output_tokens: int | None = None
    stream_idle_timeout_s: float = 60.0
    max_response_bytes: int = 64 * 1024 * 1024
    total_s: float = math.inf
    changed: list[str] = msgspec.field(default_factory=list)
    headers: Mapping[str, str] = msgspec.field(default_factory=dict)
    request_id: str = ""
    trace_headers: Mapping[str, str] = msgspec.field(default_factory=dict)
    upload: Upload | None = None
    pass_on: PassOn | None = None


@dataclass(frozen=True, slots=True)
class Passage:
    """A request that goes to a provider as it came.

    Attributes:
        provider: whose it is, as the caller named it.
        path: what goes behind the deployment's address, percent-encoded.
        query: without its question mark, as it came.
        headers: all of the caller's; those that must stay here do.
        body: the whole of it, or its pieces as they come.
        trace_headers: the trace context, for a deployment that is to have it.
    """

    provider: str
    method: str
    path: str
    query: str
    headers: Sequence[tuple[bytes, bytes]]
    body: bytes | AsyncIterable[bytes]
    trace_headers: Mapping[str, str] = field(default_factory=dict)


class PassedAnswer(Protocol):
    """The open answer of such a request; its owner must `close` it.

    Attributes:
        status: as the provider answered.
        headers: those that the caller may have.
        content_type: what the body is.
        request_id: the provider's id of the request.
    """

    status: int
    headers: Sequence[tuple[bytes, bytes]]
    content_type: str
    request_id: str

    def chunks(self, ends_at: float) -> AsyncGenerator[bytes]:
        """The body as it comes, until `ends_at` on the loop's clock. Raises ProviderError."""
        ...

    async def error_body(self, limit: int) -> bytes:
        """The body of a refusal, up to `limit` bytes, without anything that looks like a key."""
        ...

    def close(self) -> None:
        """The connection is kept if the body was read to its end, else closed."""
        ...


@runtime_checkable
class PassesThrough(Protocol):
    """An adapter that can send on a request as it is."""

    async def forward(self, call: Call, passage: Passage) -> PassedAnswer:
        """Send it. Raises ProviderError, or InvalidRequestError for what must not be sent on."""
        ...


class Provider(Protocol):
    """An adapter; one instance serves all its deployments and owns its connection pool."""

    async def complete(self, call: Call) -> Answer:
        """Ask for a whole answer. Raises ProviderError; cancelling it cancels upstream."""
        ...

    def stream(self, call: Call) -> AsyncGenerator[Frame]:
        """Ask for a stream. Raises ProviderError, before the first frame when the provider
        answered with an error; `aclose()` cancels upstream at once. A stream that ends without
        the provider's end marker raises `stream_interrupted`."""
        ...

    async def close(self) -> None:
        """Close connections."""
        ...


@runtime_checkable
class CountsTokens(Protocol):
    """An adapter whose providers can count the input of a request."""

    async def count(self, call: Call, counter: TokenCounter) -> bytes:
        """The provider's count, as it answers it. Raises ProviderError."""
        ...


@runtime_checkable
class KeepsAnswers(Protocol):
    """An adapter whose providers keep answers."""

    async def kept(self, call: Call, method: str, path: str, query: str) -> bytes:
        """Read or change a kept answer; `path` begins with its id. Raises ProviderError."""
        ...
