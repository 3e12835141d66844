"""What a request can use up, read off its body: tokens, and what makes them dearer than text.

A hold is as good as this reading: whatever a provider bills that is not bounded here can pass a
budget. So a request that asks for what nothing bounds is told apart, and refused where a budget
blocks. A plain request pays for this with one look at the names of its fields.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import msgspec

from spanledger.pricing.book import SERVICES
from spanledger.pricing.media import bound_input
from spanledger.pricing.price import USUAL, USUAL_SERVICES, Price, Terms
from spanledger.providers.base import Deployment
from spanledger.routing.history import OutputHistory
from spanledger.routing.request import Exchange

NO_HISTORY_TOKENS = 4_096
"""Usual output of a route that has not answered yet."""
MIN_USUAL_TOKENS = 256
MAX_OUTPUT_TOKENS = 10_000_000
"""Far above any model's; keeps sums of prices within 64 bits."""
MAX_CHOICES = 128
BUILT_IN_TOOL_TOKENS = 4_096
"""Instructions that a provider adds for a tool of its own that the caller runs: the longest known
are under 1,300 tokens."""

_LONGER = "it can make answers longer than `max_tokens` says; use `max_tokens`"
_MORE = "it can make more answers than `n` says; use `n`"
_ELSEWHERE = "another model may answer; leave it out"
_RUNS_THERE = "the provider runs tools for it and bills what they read; leave it out"
_STORED = "the provider reads what it has stored beside it; send the messages"
_TWICE = "one of its objects has the key {!r} twice; send it once"
UNBOUNDED = {
    "best_of": _MORE,
    "candidateCount": _MORE,
    "candidate_count": _MORE,
    "num_generations": _MORE,
    "num_return_sequences": _MORE,
    "use_beam_search": _MORE,
    "extra_body": _LONGER,
    "generationConfig": _LONGER,
    "generation_config": _LONGER,
    "inferenceConfig": _LONGER,
    "max_gen_len": _LONGER,
    "max_length": _LONGER,
    "max_new_tokens": _LONGER,
    "max_output_tokens": _LONGER,
    "max_tokens_to_sample": _LONGER,
    "n_predict": _LONGER,
    "num_predict": _LONGER,
    "options": _LONGER,
    "fallbacks": _ELSEWHERE,
    "models": _ELSEWHERE,
    "compaction": _RUNS_THERE,
    "container": _RUNS_THERE,
    "context_management": _RUNS_THERE,
    "enable_search": _RUNS_THERE,
    "mcp_servers": _RUNS_THERE,
    "plugins": _RUNS_THERE,
    "search_parameters": _RUNS_THERE,
    "web_search_options": _RUNS_THERE,
    "cachedContent": _STORED,
    "cached_content": _STORED,
    "conversation": _STORED,
    "previous_response_id": _STORED,
    "thread": _STORED,
}
"""Fields with which a request can cost more than all that is read here, and what to say of each."""

_SERVICE = ("service_tier", "speed", "inference_geo")
WATCHED = frozenset({*UNBOUNDED, *_SERVICE, "audio", "modalities", "prediction", "tools"})
_DROPPED = {"anthropic": frozenset({"service_tier", "web_search_options"})}
"""Fields an adapter leaves out."""
_CALLERS_TOOLS = ("bash_", "browser_", "computer_", "memory_", "text_editor_")
"""Beginnings of the types of Anthropic's own tools that run at the caller's."""
_FUNCTION_KEYS = frozenset(
    {
        "type",
        "function",
        "custom",
        "name",
        "description",
        "input_schema",
        "input_examples",
        "parameters",
        "strict",
        "cache_control",
        "defer_loading",
        "allowed_callers",
        "eager_input_streaming",
    }
)
"""All that a definition of a caller's function may have."""

_INTEGER = msgspec.json.Decoder(int | None)
_TEXT = msgspec.json.Decoder(str)
_TOOLS = msgspec.json.Decoder(list[dict[str, msgspec.Raw]])


@dataclass(slots=True)
class Demand:
    """What a request can use up, wherever it goes.

    Attributes:
        input_tokens: a bound.
        cap: output tokens of one choice the caller allows; None = no cap; 0 for embeddings.
        usual: output tokens of one choice to expect: the cap, or what history says.
        choices: answers asked for.
        tokens: what rpm and tpm are counted with.
        predicted: output tokens that may be billed beside the answers: a prediction it refuses.
        sound: the input may have sound in it.
        speech: the answer may be spoken.
        services: values of the fields that choose how it is served, by name.
        unbounded: fields that nothing bounds, and what to say of them.
    """

    input_tokens: int
    cap: int | None
    usual: int
    choices: int
    tokens: int
    predicted: int = 0
    sound: bool = False
    speech: bool = False
    services: dict[str, str] = field(default_factory=dict)
    unbounded: dict[str, str] = field(default_factory=dict)


def demand_of(exchange: Exchange, history: OutputHistory) -> Demand:
    """Read what bounds a request off its body; the gateway has checked the values."""
    fields = exchange.fields
    input_tokens, sound, repeated = bound_input(exchange.body_bytes, fields)
    if exchange.operation == "embeddings":
        demand = Demand(input_tokens, 0, 0, 1, input_tokens, sound=sound)
        if b"data:" in bytes(fields.get("input", b"")):
            demand.unbounded["input"] = "what is no text has another price; embed text"
        if repeated:
            demand.unbounded["input"] = _TWICE.format(repeated)
        return demand
    caps = (
        _integer(fields, "max_completion_tokens", MAX_OUTPUT_TOKENS),
        _integer(fields, "max_tokens", MAX_OUTPUT_TOKENS),
    )
    # A provider obeys one of two caps, and we do not know which.
    cap = max((cap for cap in caps if cap is not None), default=None)
    choices = _integer(fields, "n", MAX_CHOICES) or 1
    usual = cap
    if usual is None:
        p99 = history.p99()
        usual = NO_HISTORY_TOKENS if p99 is None else max(MIN_USUAL_TOKENS, 2 * p99)
    demand = Demand(input_tokens, cap, usual, choices, input_tokens + usual * choices, sound=sound)
    if repeated:
        demand.unbounded["messages"] = _TWICE.format(repeated)
    if not WATCHED.isdisjoint(fields):
        _read_watched(demand, fields)
    return demand


def demand_at(
    callers: Demand, exchange: Exchange, deployment: Deployment, history: OutputHistory
) -> Demand:
    """What a request can use up at a deployment: the caller's demand, unless the deployment adds
    to what is sent or takes something away."""
    adds = deployment.defaults or deployment.overrides
    if not adds and deployment.drops.isdisjoint(exchange.fields):
        return callers  # a field under another name costs the same
    fields = deployment.fields_for(exchange.fields, exchange.operation)
    added = sum(len(name) + len(bytes(raw)) + 4 for name, raw in deployment.defaults.items())
    added += sum(len(name) + len(bytes(raw)) + 4 for name, raw in deployment.overrides.items())
    return demand_of(
        replace(exchange, fields=fields, body_bytes=exchange.body_bytes + added), history
    )


def terms_of(demand: Demand, deployment: Deployment, unasked: str) -> Terms:
    """What makes a request's tokens dearer at a deployment.

    `unasked` is the service tier its answers come at when nobody asks for one.
    """
    service = _service(demand, deployment) or ("" if demand.services else unasked)
    if not (service or demand.sound or demand.speech):
        return USUAL
    return Terms(service, demand.sound, demand.speech)


def unbounded_by(demand: Demand, deployment: Deployment, price: Price | None) -> str:
    """Why nothing bounds what a request costs at a deployment; empty where its hold does."""
    dropped = _DROPPED.get(deployment.kind, frozenset())
    for name, why in demand.unbounded.items():
        if name not in dropped:
            return f"nothing bounds what {name!r} costs: {why}"
    service = _service(demand, deployment)
    if not service or price is None or price.knows(service):
        return ""
    own = "priority" if service == "fast" else service
    keys = f"input_cost_per_token_{own} and output_cost_per_token_{own}"
    return (
        f"model {deployment.model!r} has no price when served as {service!r}: leave out"
        f" {' and '.join(demand.services) or 'service_tier'}"
        + (f", or set {keys} on deployment {deployment.id!r}" if own in SERVICES else "")
    )


def _service(demand: Demand, deployment: Deployment) -> str:
    """The service tier asked for; the deployment's own where the caller says nothing."""
    own = deployment.extra.get("service_tier")
    asked = demand.services
    if not asked and own is None:
        return ""
    dropped = _DROPPED.get(deployment.kind, frozenset())
    found = [asked[name] for name in _SERVICE if name in asked and name not in dropped]
    if "service_tier" not in asked and isinstance(own, str):
        found.append(own.lower())
    return " ".join(filter(None, found))


def _read_watched(demand: Demand, fields: dict[str, msgspec.Raw]) -> None:
    """Read the fields that can make a request dear."""
    given = {name: bytes(fields[name]) for name in fields.keys() & WATCHED}
    for name, raw in sorted(given.items()):
        if raw in (b"null", b"false"):
            continue
        if name in UNBOUNDED:
            demand.unbounded[name] = UNBOUNDED[name]
        elif name in _SERVICE:
            _read_service(demand, name, raw)
        elif name == "prediction":
            demand.predicted = len(raw)
        elif name == "audio" or (name == "modalities" and b"audio" in raw):
            demand.speech = True
        elif name == "tools":
            fields["tools"] = _read_tools(demand, raw)


def _read_service(demand: Demand, name: str, raw: bytes) -> None:
    try:
        value = _TEXT.decode(raw)
    except msgspec.DecodeError:
        value = "?"
    value = value.lower()
    usual = (value != "flex" and value in USUAL_SERVICES) or value in ("global", "not_available")
    demand.services[name] = "" if usual else value


def _read_tools(demand: Demand, raw: bytes) -> msgspec.Raw:
    """Functions are the caller's to run; whatever else stands here may run at the provider.

    What was read is what is sent: of a key that a tool has twice, the value that was looked at.
    """
    try:
        tools = _TOOLS.decode(raw)
    except (msgspec.DecodeError, RecursionError):
        demand.unbounded["tools"] = "'tools' must be an array of objects"
        return msgspec.Raw(raw)
    for tool in tools:
        kind = _text(tool.get("type"))
        if kind.startswith(_CALLERS_TOOLS):
            demand.input_tokens += BUILT_IN_TOOL_TOKENS
        elif kind not in ("", "function", "custom") or not tool.keys() <= _FUNCTION_KEYS:
            name = kind or next(iter(tool.keys() - _FUNCTION_KEYS))
            demand.unbounded["tools"] = f"{name[:64]!r} may run at the provider; give functions"
    return msgspec.Raw(msgspec.json.encode(tools))


def _text(raw: msgspec.Raw | None) -> str:
    try:
        return "" if raw is None else _TEXT.decode(raw)
    except msgspec.DecodeError:
        return "?"


def _integer(fields: Mapping[str, msgspec.Raw], name: str, most: int) -> int | None:
    raw = fields.get(name)
    if raw is None:
        return None
    try:
        value = _INTEGER.decode(raw)
    except msgspec.DecodeError:
        return None
    return None if value is None or value < 1 else min(value, most)
