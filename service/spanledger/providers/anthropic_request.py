"""A chat completions request, said in Anthropic's Messages API.

What has no counterpart there is left out when that changes nothing the caller can see in the
answer's shape (`seed`, `logit_bias`, `store`, …) and refused when it does (`n` above 1, audio).
Fields unknown to OpenAI's wire (`thinking`, `top_k`, …) pass untouched.

Choices made here:
    max_tokens       required there; a caller that sets none gets `DEFAULT_MAX_TOKENS`
    temperature      0 to 2 here, 0 to 1 there: clamped
    system           system and developer messages, wherever they stand, in order, go to `system`
    reasoning_effort adaptive thinking and `output_config.effort`; a token budget on models before
                     Claude 4.6, which know nothing else
    response_format  `json_schema` is `output_config.format` there, with objects closed, as it
                     demands; `json_object` has no counterpart and becomes an instruction
    cache_control    on content parts, messages and tools: passed on
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from spanledger.providers.anthropic_content import to_conversation
from spanledger.providers.base import Call
from spanledger.providers.failures import invalid
from spanledger.providers.openai_wire import DECODE_ERRORS, is_set

DEFAULT_MAX_TOKENS = 4096
MIN_THINKING_TOKENS = 1024
"""Anthropic's own lower bound of `thinking.budget_tokens`."""
JSON_INSTRUCTION = "Answer with one JSON object and nothing else: no prose, no code fence."

_THINKING_TOKENS = {"minimal": 1024, "low": 1024, "medium": 4096, "high": 16384, "xhigh": 32768}
_EFFORT = {"minimal": "low", "low": "low", "medium": "medium", "high": "high", "xhigh": "xhigh"}
_BUDGET_MODELS = re.compile(r"claude-(?:3|(?:opus|sonnet|haiku)-4(?:-[0-5])?(?:-?\d{8})?$)")
"""Models that take a thinking budget and no effort."""

_DROPPED = frozenset(
    {
        "frequency_penalty",
        "presence_penalty",
        "logit_bias",
        "logprobs",
        "top_logprobs",
        "seed",
        "store",
        "prediction",
        "service_tier",
        "verbosity",
        "web_search_options",
        "prompt_cache_key",
        "prompt_cache_options",
        "prompt_cache_retention",
        "moderation",
        "stream",
        "stream_options",
    }
)
_REFUSED = {
    "audio": "audio",
    "functions": "`functions`; use `tools`",
    "function_call": "`function_call`; use `tool_choice`",
}
_CONVERTED = frozenset(
    {
        "model",
        "messages",
        "n",
        "modalities",
        "max_tokens",
        "max_completion_tokens",
        "temperature",
        "stop",
        "user",
        "safety_identifier",
        "metadata",
        "tools",
        "tool_choice",
        "parallel_tool_calls",
        "response_format",
        "reasoning_effort",
        "thinking",
        "output_config",
    }
)
_ENCODER = msgspec.json.Encoder()


def encode_messages_request(call: Call, *, stream: bool) -> bytes:
    """The body of `POST /v1/messages`.

    Raises:
        ProviderError: `invalid_request`, with what the Messages API cannot do.
    """
    try:
        return _ENCODER.encode(_convert(call, stream=stream))
    except DECODE_ERRORS:
        raise invalid("a field of the request is not valid JSON of the right kind") from None


def _convert(call: Call, *, stream: bool) -> dict[str, object]:
    given = {name: raw for name, raw in call.fields.items() if is_set(raw)}
    for name, what in _REFUSED.items():
        if name in given:
            raise invalid(f"this model has no {what}", param=name)
    values = {name: msgspec.json.decode(raw) for name, raw in given.items() if name in _CONVERTED}
    _check_choices(values)
    system, messages = to_conversation(values.get("messages"))
    body: dict[str, object] = {
        name: raw for name, raw in given.items() if name not in _CONVERTED and name not in _DROPPED
    }
    body["model"] = call.deployment.model
    body["messages"] = messages
    shape = _format(values.get("response_format"), system)
    if system:
        body["system"] = system[0]["text"] if _is_plain(system) else system
    _put_limits(body, values, call, shape)
    _put_sampling(body, values)
    _put_tools(body, values)
    if stream:
        body["stream"] = True
    return body


def _check_choices(values: dict[str, Any]) -> None:
    if values.get("n", 1) != 1:
        raise invalid("this model gives one choice; leave out 'n' or set it to 1", param="n")
    modalities = values.get("modalities", ["text"])
    if modalities != ["text"]:
        raise invalid("this model answers in text only; leave out 'modalities'", param="modalities")


def _is_plain(system: list[dict[str, Any]]) -> bool:
    return len(system) == 1 and set(system[0]) == {"type", "text"}


def _put_limits(
    body: dict[str, object], values: dict[str, Any], call: Call, shape: dict[str, Any] | None
) -> None:
    """`max_tokens`, thinking, which must fit in it, and `output_config`."""
    wanted = values.get("max_completion_tokens", values.get("max_tokens"))
    if wanted is not None and (not isinstance(wanted, int) or wanted < 0):
        raise invalid("'max_completion_tokens' must be a positive integer", param="max_tokens")
    max_tokens = DEFAULT_MAX_TOKENS if wanted is None else wanted
    thinking = values.get("thinking")
    config = dict(values.get("output_config") or {})
    effort = values.get("reasoning_effort")
    if effort is not None and thinking is None:
        thinking = _thinking(effort, call.deployment.known_as, config)
        if wanted is None and thinking.get("type") == "enabled":
            max_tokens += thinking["budget_tokens"]
    if call.max_output_tokens is not None:
        max_tokens = min(max_tokens, call.max_output_tokens)
    if isinstance(thinking, dict) and thinking.get("type") == "enabled":
        thinking = _fit_thinking(thinking, max_tokens)
    if thinking is not None:
        body["thinking"] = thinking
    if shape is not None:
        config.setdefault("format", shape)
    if config:
        body["output_config"] = config
    body["max_tokens"] = max_tokens


def _thinking(effort: object, model: str, config: dict[str, Any]) -> dict[str, Any]:
    if effort == "none":
        return {"type": "disabled"}
    if not isinstance(effort, str) or effort not in _EFFORT:
        levels = ", ".join(("none", *_EFFORT))
        raise invalid(f"'reasoning_effort' must be one of {levels}", param="reasoning_effort")
    if _BUDGET_MODELS.match(model):
        return {"type": "enabled", "budget_tokens": _THINKING_TOKENS[effort]}
    config.setdefault("effort", _EFFORT[effort])
    return {"type": "adaptive"}


def _fit_thinking(thinking: dict[str, Any], max_tokens: int) -> dict[str, Any] | None:
    """A budget must be below `max_tokens`; half of it is left for the answer where it is not."""
    budget = thinking.get("budget_tokens")
    if not isinstance(budget, int) or budget < max_tokens:
        return thinking
    budget = max(MIN_THINKING_TOKENS, max_tokens // 2)
    return {**thinking, "budget_tokens": budget} if budget < max_tokens else None


def _put_sampling(body: dict[str, object], values: dict[str, Any]) -> None:
    temperature = values.get("temperature")
    if temperature is not None:
        if not isinstance(temperature, int | float) or isinstance(temperature, bool):
            raise invalid("'temperature' must be a number", param="temperature")
        body["temperature"] = min(max(temperature, 0), 1)
    stop = values.get("stop")
    if stop is not None:
        sequences = [stop] if isinstance(stop, str) else stop
        if not isinstance(sequences, list) or not all(isinstance(s, str) for s in sequences):
            raise invalid("'stop' must be a string or an array of strings", param="stop")
        # One of white space alone is an error there.
        if sequences := [sequence for sequence in sequences if sequence.strip()]:
            body["stop_sequences"] = sequences
    metadata = values.get("metadata")
    named = metadata.get("user_id") if isinstance(metadata, dict) else None
    user = named or values.get("user") or values.get("safety_identifier")
    if isinstance(user, str):
        body["metadata"] = {"user_id": user}


def _put_tools(body: dict[str, object], values: dict[str, Any]) -> None:
    tools = values.get("tools")
    if not tools:
        return
    if not isinstance(tools, list):
        raise invalid("'tools' must be an array", param="tools")
    body["tools"] = [_tool(tool) for tool in tools]
    choice = _tool_choice(values.get("tool_choice"))
    if values.get("parallel_tool_calls") is False:
        choice = choice or {"type": "auto"}
        if choice["type"] != "none":
            choice["disable_parallel_tool_use"] = True
    if choice is not None:
        body["tool_choice"] = choice


def _tool(tool: Any) -> dict[str, Any]:
    if not isinstance(tool, dict):
        raise invalid("each of 'tools' must be an object", param="tools")
    kind = tool.get("type")
    if kind == "custom" and "input_schema" not in tool:
        raise invalid("this model has no tools of type 'custom'", param="tools")
    if kind != "function":
        return tool  # one of Anthropic's own
    function = tool.get("function")
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise invalid("each of 'tools' needs function.name", param="tools")
    converted: dict[str, Any] = {
        "name": function["name"],
        "input_schema": function.get("parameters") or {"type": "object", "properties": {}},
    }
    if function.get("description"):
        converted["description"] = function["description"]
    if function.get("strict") is True:
        converted["strict"] = True
    if cache := tool.get("cache_control") or function.get("cache_control"):
        converted["cache_control"] = cache
    return converted


def _tool_choice(choice: Any) -> dict[str, Any] | None:
    if choice is None:
        return None
    if isinstance(choice, str) and choice in ("auto", "none", "required"):
        return {"type": "any" if choice == "required" else choice}
    if isinstance(choice, dict):
        function = choice.get("function")
        if choice.get("type") == "function" and isinstance(function, dict) and "name" in function:
            return {"type": "tool", "name": function["name"]}
        if choice.get("type") in ("any", "auto", "none", "tool"):
            return dict(choice)
    raise invalid(
        "'tool_choice' must be auto, none, required, or name a function", param="tool_choice"
    )


def _format(shape: Any, system: list[dict[str, Any]]) -> dict[str, Any] | None:
    """`output_config.format`; JSON mode becomes one more system block."""
    kind = shape.get("type") if isinstance(shape, dict) else None
    if shape is None or kind == "text":
        return None
    if kind == "json_object":
        system.append({"type": "text", "text": JSON_INSTRUCTION})
        return None
    described = shape.get("json_schema") if isinstance(shape, dict) else None
    schema = described.get("schema") if isinstance(described, dict) else None
    if kind != "json_schema" or not isinstance(schema, dict):
        raise invalid(
            "'response_format' must be of type text, json_object, or json_schema with a schema",
            param="response_format",
        )
    return {"type": "json_schema", "schema": _closed(schema)}


def _closed(schema: Any) -> Any:
    """The schema with `additionalProperties: false` wherever an object leaves it open."""
    if isinstance(schema, list):
        return [_closed(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {
        # Values below these keys are data, not schemas.
        key: value if key in ("enum", "const", "default", "examples") else _closed(value)
        for key, value in schema.items()
    }
    kind = schema.get("type")
    is_object = kind == "object" or (isinstance(kind, list) and "object" in kind)
    if is_object and isinstance(schema.get("properties", {}), dict):
        closed.setdefault("additionalProperties", False)
    return closed
