"""Every attribute of every signal: name, type, meaning, stability. Part of the registry."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Stability = Literal["stable", "development"]
"""`development`: the OpenTelemetry convention behind it may still change its name."""

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
    """A name of the GenAI conventions, all of which are in development."""
    return Attribute(name, kind, meaning, "development")


_ALL = (
    _convention("gen_ai.operation.name", "string", "`chat` or `embeddings`."),
    _convention("gen_ai.provider.name", "string", "Who serves the model."),
    _convention(
        "gen_ai.request.model", "string", "The provider's own name of the model asked for."
    ),
    _convention("gen_ai.request.stream", "boolean", "Whether a stream was asked for; set if so."),
    _convention("gen_ai.request.max_tokens", "int", "The caller's cap on output."),
    _convention("gen_ai.request.temperature", "double", "As the caller sent it."),
    _convention("gen_ai.request.top_p", "double", "As the caller sent it."),
    _convention("gen_ai.request.top_k", "double", "As the caller sent it."),
    _convention("gen_ai.request.frequency_penalty", "double", "As the caller sent it."),
    _convention("gen_ai.request.presence_penalty", "double", "As the caller sent it."),
    _convention("gen_ai.request.seed", "int", "As the caller sent it."),
    _convention("gen_ai.request.stop_sequences", "string[]", "As the caller sent them, cut."),
    _convention("gen_ai.request.choice.count", "int", "Choices asked for, if not one."),
    _convention("gen_ai.request.encoding_formats", "string[]", "Of embeddings."),
    _convention("gen_ai.embeddings.dimension.count", "int", "Dimensions asked for."),
    _convention("gen_ai.output.type", "string", "`text` or `json`, if the caller said."),
    _convention("openai.request.service_tier", "string", "As the caller sent it."),
    _convention("gen_ai.response.id", "string", "The answer's id."),
    _convention("gen_ai.response.model", "string", "The model that answered, as it says."),
    _convention(
        "gen_ai.response.finish_reasons",
        "string[]",
        "Why each choice ended (`tool_call` for tools).",
    ),
    _convention(
        "gen_ai.response.time_to_first_chunk", "double", "Seconds from start to first content."
    ),
    _convention("gen_ai.usage.input_tokens", "int", "Input tokens, cached ones included."),
    _convention("gen_ai.usage.output_tokens", "int", "Output tokens, reasoning included."),
    _convention("gen_ai.usage.cache_read.input_tokens", "int", "Part read from the cache."),
    _convention("gen_ai.usage.cache_creation.input_tokens", "int", "Part written to the cache."),
    _convention("gen_ai.usage.reasoning.output_tokens", "int", "Part spent on reasoning."),
    _convention("gen_ai.token.type", "string", "`input` or `output`."),
    _convention("gen_ai.input.messages", "string", "Content: JSON of what was asked."),
    _convention("gen_ai.output.messages", "string", "Content: JSON of what was answered."),
    _convention("gen_ai.tool.definitions", "string", "Content: JSON of the tools offered."),
    Attribute("error.type", "string", "Why it failed; a small fixed set. Absent on success."),
    Attribute("http.request.method", "string", "`POST`."),
    Attribute("http.route", "string", "Path of the gateway that was called."),
    Attribute(
        "http.response.status_code", "int", "To the caller (SERVER), by the provider (CLIENT)."
    ),
    Attribute("server.address", "string", "The provider's host."),
    Attribute("server.port", "int", "The provider's port."),
    Attribute("spanledger.request.id", "string", "The id in `x-request-id`."),
    Attribute(
        "spanledger.route",
        "string",
        "What the caller sent as `model`. On metrics, `unknown` if no deployment serves it.",
    ),
    Attribute(
        "spanledger.customer", "string", "Who pays. On metrics, `other` beyond `max_customers`."
    ),
    Attribute("spanledger.team", "string", "The key's team."),
    Attribute("spanledger.key.id", "string", "The virtual key's public name."),
    Attribute("spanledger.deployment", "string", "The entry of `model_list` that was tried."),
    Attribute("spanledger.attempt.number", "int", "1 for the first attempt of a request."),
    Attribute(
        "spanledger.attempt.state",
        "string",
        "`settled` (charged), `released` (nothing billed), `expired` (outcome unknown, charged in"
        " full).",
    ),
    Attribute("spanledger.attempts", "int", "Attempts of the request."),
    Attribute(
        "spanledger.outcome", "string", "`ok`, `error`, `refused`, `cancelled` or `abandoned`."
    ),
    Attribute("spanledger.fallback.from", "string", "The route left behind for this attempt."),
    Attribute("spanledger.fallback.to", "string", "The deployment gone to."),
    Attribute(
        "spanledger.fallback.reason",
        "string",
        "`error.type` of the attempt before; on a first attempt what kept its route from being asked:"
        " `cooldown`, `rate_limit_reached`, `budget_exceeded`, `unpriced_model` or"
        " `unbounded_cost`.",
    ),
    Attribute("spanledger.cost.usd", "double", "Cost of the attempt."),
    Attribute("spanledger.cost.nano_usd", "int", "The same, exact, in billionths of a dollar."),
    Attribute("spanledger.request.cost.usd", "double", "Cost of all attempts of the request."),
    Attribute("spanledger.request.cost.nano_usd", "int", "The same, exact."),
    Attribute(
        "spanledger.service_tier",
        "string",
        "What it was charged as, if not as usual: what the answer says, or else what was asked.",
    ),
    Attribute("spanledger.usage.audio.input_tokens", "int", "Part of the input that is sound."),
    Attribute("spanledger.usage.audio.output_tokens", "int", "Part of the output that is speech."),
    Attribute(
        "spanledger.usage.cache_creation_1h.input_tokens", "int", "Part written for an hour."
    ),
    Attribute("spanledger.usage.searches", "int", "Searches of the web the provider bills."),
    Attribute(
        AMBIGUITY,
        "string",
        "Why the usage that was reported can be read in more than one way, of the few reasons in"
        " [usage](usage.md#ambiguous-usage); absent where it is clear.",
    ),
    Attribute("spanledger.price.id", "string", "Where the price comes from."),
    Attribute(
        "spanledger.provider.cost.usd",
        "double",
        "What the provider itself says it charged (OpenRouter's `usage.cost`), USD.",
    ),
    Attribute("spanledger.provider.cost.nano_usd", "int", "The same, exact."),
    Attribute("spanledger.overrun.nano_usd", "int", "Cost beyond what was held, if any."),
    Attribute("spanledger.estimated", "boolean", "Tokens or cost are our estimate; set if so."),
    Attribute("spanledger.unpriced", "boolean", "The model has no price; set if so."),
    Attribute(
        "spanledger.corrected",
        "boolean",
        "The cost replaces that of an expired attempt; set if so.",
    ),
    Attribute("spanledger.budget.decision", "string", "`allow`, `warn` or `deny`; absent without."),
    Attribute("spanledger.budget.scope", "string", "Scope of the budget that refused."),
    Attribute("spanledger.budget.refused_by", "string", "Name of the budget that refused."),
    Attribute("spanledger.provider.request.id", "string", "The provider's id, for its support."),
    Attribute("spanledger.drop.reason", "string", "`refused` or `too_large`."),
    Attribute("otel.metric.overflow", "boolean", "The series that takes all beyond the cap."),
)

ATTRIBUTES: dict[str, Attribute] = {attribute.name: attribute for attribute in _ALL}
