"""A `generateContent` request as a chat completions request.

Thoughts of earlier turns are left out: they are signed for Google alone. Settings without a counterpart
are left out and named in `changed`. What would change the answer's meaning is refused: tools that run at
Google, contents that are stored there, answers that are not text. Fields unknown to Google's API pass,
as a deployment's own settings may be among them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from spanledger.wires.base import Habits, Inbound, Outgoing, Server
from spanledger.wires.failures import invalid
from spanledger.wires.fields import DECODE_ERRORS, is_set
from spanledger.wires.gemini.spelling import OWN, GoogleItem, objects, pick, whole
from spanledger.wires.gemini_as_chat.contents import Conversation
from spanledger.wires.gemini_as_chat.schemas import is_strict, json_schema
from spanledger.wires.openai.models import REASONS, TOOLS_APART

STAYS_HERE = frozenset(
    {"cachedContent", "labels", "responseModalities", "safetySettings", "store", "tools"}
)
"""What is not sent, or refused, so that it costs nothing here that nothing would bound at Google."""
_LEFT_OUT = ("labels", "safetySettings", "store")
_CAPS = ("max_tokens", "max_completion_tokens")
_SAME = {
    "temperature": "temperature",
    "topP": "top_p",
    "seed": "seed",
    "presencePenalty": "presence_penalty",
    "frequencyPenalty": "frequency_penalty",
    "responseLogprobs": "logprobs",
    "logprobs": "top_logprobs",
    "candidateCount": "n",
    "stopSequences": "stop",
}
"""Settings that a chat has as well, and their names there."""
_READ = frozenset(
    {
        *_SAME,
        "maxOutputTokens",
        "responseJsonSchema",
        "responseMimeType",
        "responseModalities",
        "responseSchema",
        "thinkingConfig",
    }
)
_MODES = {"AUTO": "auto", "VALIDATED": "auto", "ANY": "required", "NONE": "none"}
_LEVELS = {"minimal": "minimal", "low": "low", "medium": "medium", "high": "high"}
_MEDIUM_TOKENS, _HIGH_TOKENS = 4096, 16384
"""Budgets for thinking from which on the effort is medium and high."""


@dataclass(frozen=True, slots=True)
class Chatted:
    """The translated request, as the wire of chat completions wants it."""

    deployment: Server
    wire: Inbound
    fields: Mapping[str, msgspec.Raw]
    max_output_tokens: int | None
    changed: list[str]
    upload: None = None


def chat_request(out: Outgoing, spoken: str, habits: Habits) -> Chatted:
    """The request for a deployment that is spoken to in this wire.

    Raises:
        ProviderError: `invalid_request`, saying what has no counterpart.
    """
    given = {name: raw for name, raw in out.fields.items() if is_set(raw)}
    fields = {name: raw for name, raw in given.items() if name not in OWN}
    try:
        values = {name: msgspec.json.decode(raw) for name, raw in given.items() if name in OWN}
    except DECODE_ERRORS:
        raise invalid("a field of the request is not valid JSON") from None
    if values.get("cachedContent"):
        raise invalid("this model has nothing cached; send the contents", param="cachedContent")
    out.changed.extend(name for name in _LEFT_OUT if values.get(name))
    made = _converted(values, out, spoken)
    config = values.get("generationConfig")
    cap = whole(pick(config, "maxOutputTokens")) if isinstance(config, dict) else None
    if cap is not None:
        for name in _CAPS:
            fields.pop(name, None)
        made[habits.cap_name] = cap
    encoded = {name: msgspec.Raw(msgspec.json.encode(value)) for name, value in made.items()}
    # A deployment's own setting wins over a default, not over what the caller says.
    return Chatted(
        out.deployment, out.wire, {**fields, **encoded}, out.max_output_tokens, out.changed
    )


def _converted(values: GoogleItem, out: Outgoing, spoken: str) -> GoogleItem:
    messages = Conversation(out.changed)
    messages.system(values.get("systemInstruction"))
    contents = values.get("contents")
    for number, content in enumerate(contents if isinstance(contents, list) else [contents]):
        messages.add(content, f"contents[{number}]")
    made: GoogleItem = {"messages": messages.messages}
    if tools := _tools(values.get("tools")):
        made |= _chosen(tools, values.get("toolConfig"))
    if tier := str(values.get("serviceTier") or "").lower():
        if tier in ("flex", "priority"):
            made["service_tier"] = tier
        elif tier != "standard":
            out.changed.append("serviceTier")
    config = values.get("generationConfig")
    if isinstance(config, dict):
        made |= _settings(config, out)
        with_tools = spoken == "chat" and "tools" in made
        made |= _effort(pick(config, "thinkingConfig"), out, spoken, tools=with_tools)
    return made


def _settings(config: GoogleItem, out: Outgoing) -> GoogleItem:
    made: GoogleItem = {}
    for name, own in _SAME.items():
        value = pick(config, name)
        if value in (None, []):
            continue
        made[own] = value
    if made.get("n") == 1:
        del made["n"]
    kinds = pick(config, "responseModalities")
    if isinstance(kinds, list) and any(str(kind).upper() != "TEXT" for kind in kinds):
        raise invalid(
            "this model answers with text; leave out 'responseModalities'",
            param="generationConfig.responseModalities",
        )
    made |= _format(config)
    names = {name for name in config if config[name] is not None}
    known = {*_READ, *(name for name in names if _camel(name) in _READ)}
    if names - known:
        out.changed.append("generationConfig")
    return made


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)


def _format(config: GoogleItem) -> GoogleItem:
    kind = pick(config, "responseMimeType")
    schema = pick(config, "responseJsonSchema")
    if schema is None and (own := pick(config, "responseSchema")) is not None:
        schema = json_schema(own)
    if kind in (None, "", "text/plain"):
        return {}
    if kind != "application/json":
        raise invalid(
            "'responseMimeType' must be text/plain or application/json for this model",
            param="generationConfig.responseMimeType",
        )
    if schema is None:
        return {"response_format": {"type": "json_object"}}
    described = {"name": "answer", "schema": schema, "strict": is_strict(schema)}
    return {"response_format": {"type": "json_schema", "json_schema": described}}


def _tools(value: Any) -> list[GoogleItem]:
    made: list[GoogleItem] = []
    for tool in objects(value):
        for name in tool:
            if name not in ("functionDeclarations", "function_declarations"):
                raise invalid(
                    f"this model has no tool {name[:64]!r}, which runs at Google; use"
                    " functionDeclarations",
                    param="tools",
                )
        made += [_function(one) for one in objects(pick(tool, "functionDeclarations"))]
    return made


def _function(declared: GoogleItem) -> GoogleItem:
    if not isinstance(declared.get("name"), str):
        raise invalid("each of 'functionDeclarations' needs a name", param="tools")
    function: GoogleItem = {"name": declared["name"]}
    if declared.get("description"):
        function["description"] = declared["description"]
    schema = pick(declared, "parametersJsonSchema")
    function["parameters"] = json_schema(declared.get("parameters")) if schema is None else schema
    return {"type": "function", "function": function}


def _chosen(tools: list[GoogleItem], config: Any) -> GoogleItem:
    """The tools, and which of them may be called."""
    calling = pick(config, "functionCallingConfig") if isinstance(config, dict) else None
    calling = calling if isinstance(calling, dict) else {}
    mode = str(calling.get("mode") or "AUTO").upper()
    if mode == "MODE_UNSPECIFIED":
        mode = "AUTO"
    if mode not in _MODES:
        raise invalid(
            "functionCallingConfig.mode must be AUTO, ANY, VALIDATED or NONE", param="toolConfig"
        )
    allowed = pick(calling, "allowedFunctionNames")
    if isinstance(allowed, list) and allowed:
        tools = [tool for tool in tools if tool["function"]["name"] in allowed]
        if not tools:
            raise invalid("no tool has a name of allowedFunctionNames", param="toolConfig")
    made: GoogleItem = {"tools": tools}
    if mode == "ANY" and len(tools) == 1:
        named = {"name": tools[0]["function"]["name"]}
        made["tool_choice"] = {"type": "function", "function": named}
    elif mode != "AUTO":
        made["tool_choice"] = _MODES[mode]
    return made


def _effort(thinking: Any, out: Outgoing, spoken: str, *, tools: bool) -> GoogleItem:
    if not isinstance(thinking, dict):
        return {}
    level, budget = pick(thinking, "thinkingLevel"), pick(thinking, "thinkingBudget")
    wanted = _LEVELS.get(level.lower()) if isinstance(level, str) else None
    if wanted is None and (tokens := whole(budget) or 0) > 0:
        wanted = (
            "high" if tokens >= _HIGH_TOKENS else "medium" if tokens >= _MEDIUM_TOKENS else "low"
        )
    model = out.deployment.known_as
    if wanted is None and whole(budget) != 0:
        return {}
    if wanted and (
        spoken == "messages" or (REASONS.match(model) and not (tools and TOOLS_APART.match(model)))
    ):
        return {"reasoning_effort": wanted}
    out.changed.append("generationConfig")
    return {}
