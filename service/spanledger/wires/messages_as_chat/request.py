"""A Messages request as a chat completions request.

Thinking of earlier turns is left out: it is signed for Anthropic alone. Fields without a counterpart
are left out and named in `changed`. What would change the answer's meaning is refused: tools that run
at Anthropic, MCP servers, files that are stored there. Fields unknown to the Messages API pass, as a
deployment's own settings may be among them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from spanledger.wires.base import Inbound, Outgoing, Server
from spanledger.wires.failures import invalid
from spanledger.wires.fields import DECODE_ERRORS, is_set
from spanledger.wires.messages_as_chat.turns import chat_messages, texts_of
from spanledger.wires.openai.models import REASONS, TOOLS_APART

MAX_CHAT_USER_CHARS = 64
_EFFORTS = {"low": "low", "medium": "medium", "high": "high", "xhigh": "high", "max": "high"}
_MEDIUM_TOKENS, _HIGH_TOKENS = 4096, 16384
"""Budgets for thinking from which on the effort is medium and high."""
_REFUSED = {
    "container": "containers",
    "mcp_servers": "MCP servers",
}
LEFT_OUT = frozenset(
    {
        "cache_control",
        "compaction",
        "context_management",
        "diagnostics",
        "fallback_credit_token",
        "fallbacks",
        "inference_geo",
        "n",
        "output_format",
        "speed",
        "thread",
        "top_k",
        "user_profile_id",
        "workspace_id",
    }
)
"""Fields that are not sent."""
_CONVERTED = frozenset(
    {
        "messages",
        "metadata",
        "output_config",
        "stop_sequences",
        "system",
        "thinking",
        "tool_choice",
        "tools",
    }
)


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """The translated request, as the wire of chat completions wants it."""

    deployment: Server
    wire: Inbound
    fields: Mapping[str, msgspec.Raw]
    max_output_tokens: int | None
    changed: list[str]
    upload: None = None


def chat_request(out: Outgoing, spoken: str) -> ChatRequest:
    """The request for a deployment that is spoken to in this wire.

    Raises:
        ProviderError: `invalid_request`, saying what has no counterpart.
    """
    given = {name: raw for name, raw in out.fields.items() if is_set(raw)}
    for name, what in _REFUSED.items():
        if name in given and bytes(given[name]) != b"[]":
            raise invalid(f"this model has no {what}; leave out {name!r}", param=name)
    fields: dict[str, msgspec.Raw] = {}
    for name, raw in given.items():
        if name in LEFT_OUT or (name == "service_tier" and bytes(raw) == b'"standard_only"'):
            out.changed.append(name)
        elif name not in _CONVERTED and name not in _REFUSED:
            fields[name] = raw
    try:
        values = {n: msgspec.json.decode(raw) for n, raw in given.items() if n in _CONVERTED}
    except DECODE_ERRORS:
        raise invalid("a field of the request is not valid JSON") from None
    made = _converted(values, out, spoken)
    encoded = {name: msgspec.Raw(msgspec.json.encode(value)) for name, value in made.items()}
    # A deployment's own setting wins over a default, not over what the caller says.
    return ChatRequest(
        out.deployment, out.wire, {**fields, **encoded}, out.max_output_tokens, out.changed
    )


def _converted(values: dict[str, Any], out: Outgoing, spoken: str) -> dict[str, object]:
    changed = out.changed
    system = texts_of(values.get("system"), "system", changed)
    messages = chat_messages(values.get("messages"), changed)
    if system:
        messages.insert(0, {"role": "system", "content": system})
    made: dict[str, object] = {"messages": messages}
    if values.get("tools"):
        made["tools"] = [_tool(tool, changed) for tool in _list(values["tools"], "tools")]
        made |= _choice(values.get("tool_choice"))
    if "stop_sequences" in values:
        stop = [text for text in _list(values["stop_sequences"], "stop_sequences") if text]
        made |= {"stop": stop} if stop else {}
    config = values.get("output_config")
    config = config if isinstance(config, dict) else {}
    if (shape := config.get("format")) is not None:
        made["response_format"] = _format(shape)
    with_tools = spoken == "chat" and "tools" in made
    made |= _effort(values.get("thinking"), config.get("effort"), out, tools=with_tools)
    made |= _user(values.get("metadata"), changed)
    return made


def _list(value: Any, name: str) -> list[Any]:
    if not isinstance(value, list):
        raise invalid(f"{name!r} must be an array", param=name)
    return value


def _tool(tool: Any, changed: list[str]) -> dict[str, Any]:
    if not isinstance(tool, dict) or not isinstance(tool.get("name"), str):
        raise invalid("each of 'tools' needs a name", param="tools")
    if tool.get("type") not in (None, "custom"):
        raise invalid(
            f"this model has no tool of type {str(tool['type'])[:64]!r}; describe it with an"
            " input_schema",
            param="tools",
        )
    if tool.get("cache_control"):
        changed.append("cache_control")
    function = {"name": tool["name"]}
    function |= {name: tool[name] for name in ("description", "strict") if tool.get(name)}
    function["parameters"] = tool.get("input_schema") or {"type": "object", "properties": {}}
    return {"type": "function", "function": function}


def _choice(choice: Any) -> dict[str, object]:
    if choice is None:
        return {}
    kind = choice.get("type") if isinstance(choice, dict) else None
    made: dict[str, object] = {}
    if kind == "tool" and isinstance(choice.get("name"), str):
        made["tool_choice"] = {"type": "function", "function": {"name": choice["name"]}}
    elif kind in ("auto", "any", "none"):
        made["tool_choice"] = "required" if kind == "any" else kind
    else:
        raise invalid("'tool_choice' must be of type auto, any, tool or none", param="tool_choice")
    if choice.get("disable_parallel_tool_use") is True:
        made["parallel_tool_calls"] = False
    return made


def _format(shape: Any) -> dict[str, object]:
    schema = shape.get("schema") if isinstance(shape, dict) else None
    if not isinstance(schema, dict) or shape.get("type") != "json_schema":
        raise invalid(
            "output_config.format must be of type json_schema with a schema", param="output_config"
        )
    described = {"name": "answer", "schema": schema, "strict": _is_strict(schema)}
    return {"type": "json_schema", "json_schema": described}


def _is_strict(schema: Any) -> bool:
    """Whether every object names all its properties as required and allows no others."""
    if isinstance(schema, list):
        return all(map(_is_strict, schema))
    if not isinstance(schema, dict):
        return True
    properties = schema.get("properties")
    if isinstance(properties, dict) and (
        schema.get("additionalProperties") is not False
        or set(schema.get("required") or ()) != set(properties)
    ):
        return False
    return all(map(_is_strict, schema.values()))


def _effort(thinking: Any, effort: Any, out: Outgoing, *, tools: bool) -> dict[str, object]:
    kind = thinking.get("type") if isinstance(thinking, dict) else None
    wanted = _EFFORTS.get(effort) if isinstance(effort, str) else None
    if wanted is None and kind == "enabled":
        budget = thinking.get("budget_tokens")
        tokens = budget if isinstance(budget, int) else 0
        wanted = (
            "high" if tokens >= _HIGH_TOKENS else "medium" if tokens >= _MEDIUM_TOKENS else "low"
        )
    model = out.deployment.known_as
    if wanted is None:
        return {}
    if REASONS.match(model) and not (tools and TOOLS_APART.match(model)):
        return {"reasoning_effort": wanted}
    out.changed.append("thinking" if kind is not None else "output_config")
    return {}


def _user(metadata: Any, changed: list[str]) -> dict[str, object]:
    user = metadata.get("user_id") if isinstance(metadata, dict) else None
    if not isinstance(user, str) or not user:
        return {}
    if len(user) > MAX_CHAT_USER_CHARS:
        changed.append("metadata")
        user = hashlib.sha256(user.encode("utf-8", "surrogatepass")).hexdigest()
    return {"user": user}
