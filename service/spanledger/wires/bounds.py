"""What bounds the cost of a request for a dialogue, read off its fields, on whatever wire it came.

A plain request pays for this with one look at the names of its fields.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from spanledger.pricing.demand import SERVICE_FIELDS, Demand
from spanledger.pricing.media import bound_input, plainly
from spanledger.pricing.price import USUAL_SERVICES
from spanledger.wires.fields import Fields

MAX_OUTPUT_TOKENS = 10_000_000
"""Far above any model's; keeps sums of prices within 64 bits."""
MAX_CHOICES = 128
"""What OpenAI allows, and so the most a caller may ask for. The limit is not for a deployment's own
`n`, which is held for as it stands."""
BUILT_IN_TOOL_TOKENS = 4_096
"""Instructions that a provider adds for one of its own tools that the caller runs. The longest known
are under 1,300 tokens."""
TOOL_TOKENS = 128
"""What a provider's template or another wire writes around one tool: up to 30 bytes for a function, and a
namespace's name, which may have 64."""
FREE_TEXT_TOOL_TOKENS = 256
"""The same for a tool without a schema, which other wires need one for."""
ANY_WINDOW_TOKENS = 10_000_000
"""More than any model reads: a hold lowers it to the model's context window."""

_LONGER = "it can make answers longer than `max_tokens` says; use `max_tokens`"
_MORE = "it can make more answers than `n` says; use `n`"
_ELSEWHERE = "another model may answer; leave it out"
_RUNS_THERE = "the provider runs tools for it and bills what they read; leave it out"
_STORED = "the provider also reads what it has stored; send the messages"
TWICE = "one of its objects has the key {!r} twice; send it once"
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
"""Fields that can make a request cost more than anything read here bounds, each with the reason."""

WATCHED = frozenset({*UNBOUNDED, *SERVICE_FIELDS, "audio", "modalities", "prediction", "tools"})
_CALLERS_TOOLS = ("bash_", "browser_", "computer_", "memory_", "text_editor_")
"""Prefixes of the types of Anthropic's own tools that the caller runs."""
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
"""Every key that the definition of a caller's function may have."""

_INTEGER = msgspec.json.Decoder(int | None)
_TEXT = msgspec.json.Decoder(str)
_TOOLS = msgspec.json.Decoder(list[dict[str, msgspec.Raw]])


def bounded(
    fields: Fields, body_bytes: int, caps: tuple[int | None, int | None], choices: int | None
) -> Demand:
    """What bounds a request with these caps and this many choices.

    The usual length of the route's answers is not known here: `usual` is the caller's cap, or 0.
    """
    bound = bound_input(body_bytes, fields)
    input_tokens, sound, repeated = bound.tokens, bound.sound, bound.repeated
    first, second = caps
    # A provider respects one of two caps, and we do not know which.
    cap = second if first is None else first if second is None else max(first, second)
    usual, choices = cap or 0, choices or 1
    demand = Demand(input_tokens, cap, usual, choices, input_tokens + usual * choices, sound=sound)
    if repeated:
        demand.unbounded["messages"] = TWICE.format(repeated)
    if not WATCHED.isdisjoint(fields):
        _read_watched(demand, fields)
    return demand


def _read_watched(demand: Demand, fields: Fields) -> None:
    """Read the fields that can make a request expensive."""
    given = {name: bytes(fields[name]) for name in fields.keys() & WATCHED}
    for name, raw in sorted(given.items()):
        if raw in (b"null", b"false"):
            continue
        if name in UNBOUNDED:
            demand.unbounded[name] = UNBOUNDED[name]
        elif name in SERVICE_FIELDS:
            _read_service(demand, name, raw)
        elif name == "prediction":
            demand.predicted = len(raw)
        elif name == "audio" or (name == "modalities" and b"audio" in plainly(raw)):
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
    """The caller runs functions; any other tool may run at the provider.

    The tools are sent as they were read: of a key that a tool has twice, the value that was checked.
    """
    try:
        tools = _TOOLS.decode(raw)
    except (msgspec.DecodeError, RecursionError):
        demand.unbounded["tools"] = "'tools' must be an array of objects"
        return msgspec.Raw(raw)
    for tool in tools:
        kind = _text(tool.get("type"))
        demand.input_tokens += FREE_TEXT_TOOL_TOKENS if kind == "custom" else TOOL_TOKENS
        if kind.startswith(_CALLERS_TOOLS):
            demand.input_tokens += BUILT_IN_TOOL_TOKENS
        elif kind not in ("", "function", "custom") or not tool.keys() <= _FUNCTION_KEYS:
            name = kind or next(iter(tool.keys() - _FUNCTION_KEYS))
            demand.unbounded["tools"] = f"{name[:64]!r} may run at the provider; use functions"
    return msgspec.Raw(msgspec.json.encode(tools))


def _text(raw: msgspec.Raw | None) -> str:
    try:
        return "" if raw is None else _TEXT.decode(raw)
    except msgspec.DecodeError:
        return "?"


def unchecked(fields: Mapping[str, msgspec.Raw], name: str) -> int | None:
    """A cap or a number of choices that nobody has checked, because a deployment set it; None if it
    is absent or invalid."""
    raw = fields.get(name)
    if raw is None:
        return None
    try:
        value = _INTEGER.decode(raw)
    except msgspec.DecodeError:
        return None
    return None if value is None or value < 1 else min(value, MAX_OUTPUT_TOKENS)
