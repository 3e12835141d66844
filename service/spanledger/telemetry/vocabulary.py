"""Every attribute of every signal: name, type, meaning and stability. Part of the registry."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Stability = Literal["stable", "development"]
"""`development`: the OpenTelemetry convention may still rename it."""

AttributeType = Literal["string", "int", "double", "boolean", "string[]"]


@dataclass(frozen=True, slots=True)
class Attribute:
    """One attribute."""

    name: str
    type: AttributeType
    meaning: str
    stability: Stability = "stable"


AMBIGUITY = "spanledger.usage.ambiguity"


def _convention(name: str, kind: AttributeType, meaning: str) -> Attribute:
    """A name from the GenAI conventions, all of which are in development."""
    return Attribute(name, kind, meaning, "development")


_ALL = (
    _convention(
        "gen_ai.operation.name",
        "string",
        "`chat`, `embeddings`, `text_completion`, `moderation`, `rerank`, `image_generation`,"
        " `image_edit`, `image_variation`, `speech`, `transcription` or `translation`.",
    ),
    _convention("gen_ai.provider.name", "string", "The provider that serves the model."),
    _convention(
        "gen_ai.request.model", "string", "The requested model, by the provider's name for it."
    ),
    _convention("gen_ai.request.stream", "boolean", "Set if a stream was requested."),
    _convention("gen_ai.request.max_tokens", "int", "The caller's cap on output."),
    _convention("gen_ai.request.temperature", "double", "As the caller sent it."),
    _convention("gen_ai.request.top_p", "double", "As the caller sent it."),
    _convention("gen_ai.request.top_k", "double", "As the caller sent it."),
    _convention(
        "gen_ai.request.reasoning.level", "string", "Reasoning effort, as the caller sent it."
    ),
    _convention(
        "gen_ai.conversation.id",
        "string",
        "The conversation, if the request names one: `conversation`, `session_id`,"
        " `litellm_session_id` or `metadata.session_id`.",
    ),
    _convention("gen_ai.request.frequency_penalty", "double", "As the caller sent it."),
    _convention("gen_ai.request.presence_penalty", "double", "As the caller sent it."),
    _convention("gen_ai.request.seed", "int", "As the caller sent it."),
    _convention("gen_ai.request.stop_sequences", "string[]", "As the caller sent them, truncated."),
    _convention("gen_ai.request.choice.count", "int", "Number of choices requested, if not 1."),
    _convention(
        "gen_ai.request.encoding_formats", "string[]", "Encoding requested for embeddings."
    ),
    _convention("gen_ai.embeddings.dimension.count", "int", "Number of dimensions requested."),
    _convention("gen_ai.output.type", "string", "`text` or `json`, if the caller specified it."),
    _convention("openai.request.service_tier", "string", "As the caller sent it."),
    _convention("gen_ai.response.id", "string", "The answer's id."),
    _convention("gen_ai.response.model", "string", "The model named in the answer."),
    _convention(
        "gen_ai.response.finish_reasons",
        "string[]",
        "Why each choice ended (`tool_call` for tools).",
    ),
    _convention(
        "gen_ai.response.time_to_first_chunk",
        "double",
        "Seconds from the start to the first content.",
    ),
    _convention("gen_ai.usage.input_tokens", "int", "Input tokens, including cached ones."),
    _convention("gen_ai.usage.output_tokens", "int", "Output tokens, including reasoning."),
    _convention("gen_ai.usage.cache_read.input_tokens", "int", "Input tokens read from the cache."),
    _convention(
        "gen_ai.usage.cache_creation.input_tokens", "int", "Input tokens written to the cache."
    ),
    _convention("gen_ai.usage.reasoning.output_tokens", "int", "Output tokens spent on reasoning."),
    _convention("gen_ai.token.type", "string", "`input` or `output`."),
    _convention("gen_ai.input.messages", "string", "Content: the request's messages as JSON."),
    _convention("gen_ai.output.messages", "string", "Content: the answer's messages as JSON."),
    _convention("gen_ai.tool.definitions", "string", "Content: the tools offered, as JSON."),
    Attribute("error.type", "string", "Why it failed, from a small fixed set. Absent on success."),
    Attribute(
        "http.request.method",
        "string",
        "`POST`. Of a request that is passed through, the CLIENT span has the method and the SERVER"
        " span `_OTHER`.",
    ),
    Attribute("http.route", "string", "The gateway path that was called."),
    Attribute("url.path", "string", "Same as `http.route`, also for aliases of the path."),
    Attribute(
        "url.template",
        "string",
        "Of a request that is passed through: the path at the provider, with `{id}` for each part"
        " that is not a plain word.",
    ),
    Attribute("url.scheme", "string", "`http`; TLS ends in a proxy in front of the gateway."),
    Attribute(
        "http.response.status_code",
        "int",
        "Status sent to the caller (SERVER) or by the provider (CLIENT).",
    ),
    Attribute(
        "spanledger.batch.requests", "int", "Of a batch that was charged: the lines of its input."
    ),
    Attribute("server.address", "string", "The provider's host."),
    Attribute("server.port", "int", "The provider's port."),
    Attribute("spanledger.request.id", "string", "The id in `x-request-id`."),
    Attribute(
        "spanledger.route",
        "string",
        "What the caller sent as `model`. On metrics, `unknown` if the route is not configured.",
    ),
    Attribute(
        "spanledger.customer",
        "string",
        "The customer charged. On metrics, `other` beyond `max_customers`.",
    ),
    Attribute("spanledger.team", "string", "The key's team."),
    Attribute("spanledger.key.id", "string", "The virtual key's public name."),
    Attribute(
        "user.id",
        "string",
        "The user that the key or the request names. Not on metrics.",
        "development",
    ),
    Attribute("spanledger.project", "string", "The project that the key or the request names."),
    Attribute("spanledger.tags", "string[]", "The tags of the key and the request."),
    Attribute("spanledger.deployment", "string", "The entry of `model_list` that was called."),
    Attribute("spanledger.attempt.number", "int", "1 for the first attempt of a request."),
    Attribute(
        "spanledger.attempt.state",
        "string",
        "`settled` (charged), `released` (nothing billed) or `expired` (outcome unknown, charged in"
        " full).",
    ),
    Attribute("spanledger.attempts", "int", "Number of attempts of the request."),
    Attribute(
        "spanledger.outcome", "string", "`ok`, `error`, `refused`, `cancelled` or `abandoned`."
    ),
    Attribute("spanledger.fallback.from", "string", "The route that this attempt falls back from."),
    Attribute("spanledger.fallback.to", "string", "The deployment called instead."),
    Attribute(
        "spanledger.fallback.reason",
        "string",
        "`error.type` of the previous attempt; on a first attempt, why the requested route could not"
        " be used: `cooldown`, `rate_limit_reached`, `unsupported_endpoint`, `budget_exceeded`,"
        " `budget_degraded`, `budget_throttled`, `rate_limit_exceeded`, `unpriced_model` or `unbounded_cost`.",
    ),
    Attribute("spanledger.cost.usd", "double", "Cost of the attempt."),
    Attribute("spanledger.cost.nano_usd", "int", "The same, exact, in billionths of a US dollar."),
    Attribute(
        "spanledger.list_cost.usd",
        "double",
        "What the attempt would cost without contracts; absent while none are configured.",
    ),
    Attribute("spanledger.list_cost.nano_usd", "int", "The same, exact."),
    Attribute(
        "spanledger.charge.usd",
        "double",
        "What the customer is charged for the attempt; absent while `pricing.charges` is empty.",
    ),
    Attribute("spanledger.charge.nano_usd", "int", "The same, exact."),
    Attribute("spanledger.charge.rule", "string", "The rule that says so; absent if none matches."),
    Attribute("spanledger.request.cost.usd", "double", "Cost of all attempts of the request."),
    Attribute("spanledger.request.cost.nano_usd", "int", "The same, exact."),
    Attribute(
        "spanledger.service_tier",
        "string",
        "The service tier charged, if not the default: from the answer if it names one, else from"
        " the request.",
    ),
    Attribute("spanledger.usage.audio.input_tokens", "int", "Input tokens that are audio."),
    Attribute("spanledger.usage.audio.output_tokens", "int", "Output tokens that are audio."),
    Attribute(
        "spanledger.usage.cache_creation_1h.input_tokens",
        "int",
        "Input tokens written to the cache for an hour.",
    ),
    Attribute(
        "spanledger.usage.unit",
        "string",
        "What else the attempt may be billed by: `query`, `image QUALITY/SIZE`.",
    ),
    Attribute("spanledger.usage.units", "int", "How many of these."),
    Attribute("spanledger.usage.image.input_tokens", "int", "Input tokens that are images."),
    Attribute("spanledger.usage.image.output_tokens", "int", "Output tokens that are images."),
    Attribute("spanledger.usage.searches", "int", "Web searches billed by the provider."),
    Attribute(
        AMBIGUITY,
        "string",
        "Why the reported usage can be read in more than one way: one of the reasons in"
        " [usage](usage.md#ambiguous-usage). Absent if it is unambiguous.",
    ),
    Attribute("spanledger.price.id", "string", "Source of the price used."),
    Attribute(
        "spanledger.provider.cost.usd",
        "double",
        "What the provider reports it charged (OpenRouter's `usage.cost`), in USD.",
    ),
    Attribute("spanledger.provider.cost.nano_usd", "int", "The same, exact."),
    Attribute("spanledger.overrun.nano_usd", "int", "Cost beyond the hold, if any."),
    Attribute("spanledger.estimated", "boolean", "Set if tokens or cost are our estimate."),
    Attribute("spanledger.unpriced", "boolean", "Set if the model has no price."),
    Attribute(
        "spanledger.corrected",
        "boolean",
        "Set if the cost replaces that of an expired attempt.",
    ),
    Attribute(
        "spanledger.budget.decision",
        "string",
        "`allow`, `warn` (a budget that warns is over its limit, or one that blocks is in grace),"
        " `degrade` (another route serves it) or `deny`, and in the metric `throttle`, which is `deny`"
        " on a span; absent if no budget applies.",
    ),
    Attribute(
        "spanledger.budget.degraded_by",
        "string",
        "Names of the budgets that sent the request to another route.",
    ),
    Attribute("spanledger.rate.refused_by", "string", "Name of the rate that refused."),
    Attribute("spanledger.rate.scope", "string", "Scope of the rate that refused."),
    Attribute("spanledger.budget.scope", "string", "Scope of the budget that refused."),
    Attribute("spanledger.budget.refused_by", "string", "Name of the budget that refused."),
    Attribute(
        "spanledger.provider.request.id",
        "string",
        "The provider's request id, to quote to its support.",
    ),
    Attribute("spanledger.drop.reason", "string", "`refused` or `too_large`."),
    Attribute(
        "otel.metric.overflow",
        "boolean",
        "Set on the series that absorbs everything above the cap.",
    ),
)

ATTRIBUTES: dict[str, Attribute] = {attribute.name: attribute for attribute in _ALL}

REQUEST_PARAMETERS = (
    "gen_ai.request.max_tokens",
    "gen_ai.request.temperature",
    "gen_ai.request.top_p",
    "gen_ai.request.top_k",
    "gen_ai.request.reasoning.level",
    "gen_ai.conversation.id",
    "gen_ai.request.frequency_penalty",
    "gen_ai.request.presence_penalty",
    "gen_ai.request.seed",
    "gen_ai.request.stop_sequences",
    "gen_ai.request.choice.count",
    "gen_ai.request.encoding_formats",
    "gen_ai.embeddings.dimension.count",
    "gen_ai.output.type",
    "openai.request.service_tier",
)
"""What a request asks for, on the spans of its attempts."""
WHO = (
    "spanledger.request.id",
    "spanledger.route",
    "spanledger.customer",
    "spanledger.team",
    "spanledger.key.id",
    "user.id",
    "spanledger.project",
    "spanledger.tags",
)
"""Who asks, and for whom, on every span."""
