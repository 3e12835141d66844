"""A chat completions request as a Responses request.

Chat keeps nothing at the provider, so `store` is false unless the caller says otherwise. Fields that
are left out are in `UNSENT`, and the caller learns of them by name. What would change the answer's
shape or end is refused: `n` above 1, audio, stop sequences. Fields unknown to chat completions pass,
so a deployment's own settings may have this API's names (`reasoning`, `text`, `include`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from spanledger.wires.base import Outgoing, Written
from spanledger.wires.chat_as_responses.items import Item, input_items
from spanledger.wires.failures import invalid
from spanledger.wires.fields import DECODE_ERRORS, is_set

LEAST_OUTPUT = 16
"""The lowest cap that OpenAI accepts."""
UNSENT = frozenset(
    {
        "frequency_penalty",
        "logit_bias",
        "prediction",
        "presence_penalty",
        "seed",
        "web_search_options",
    }
)
"""Fields that are not sent."""
_SILENT = frozenset({"prediction", "seed"})
"""Those that promise nothing, so that nobody misses them."""
_OF_NO_EFFECT = frozenset({b"0", b"0.0", b"false", b"{}", b"[]", b'""', b"null"})
_REFUSED = {
    "audio": "this model gives no audio; leave out 'audio'",
    "functions": "this model has no 'functions'; use 'tools'",
    "function_call": "this model has no 'function_call'; use 'tool_choice'",
    "stop": "this model knows no stop sequences; leave out 'stop'",
}
_CONVERTED = frozenset(
    {
        "include",
        "logprobs",
        "max_completion_tokens",
        "max_output_tokens",
        "max_tokens",
        "messages",
        "modalities",
        "n",
        "reasoning",
        "reasoning_effort",
        "response_format",
        "stream_options",
        "text",
        "tool_choice",
        "tools",
        "verbosity",
    }
)
_ENCODER = msgspec.json.Encoder()
_NO_PARAMETERS = {"type": "object", "properties": {}}


def responses_request(out: Outgoing, *, stream: bool) -> Written:
    """The request. Fields that had to change are added to `out.changed`.

    Raises:
        ProviderError: `invalid_request`, saying what this API cannot do.
    """
    given = {name: raw for name, raw in out.fields.items() if is_set(raw)}
    for name, what in _REFUSED.items():
        if name in given and bytes(given[name]) not in _OF_NO_EFFECT:
            raise invalid(what, param=name)
    try:
        values = {n: msgspec.json.decode(raw) for n, raw in given.items() if n in _CONVERTED}
    except DECODE_ERRORS:
        raise invalid("a field of the request is not valid JSON") from None
    missed = (UNSENT & given.keys()) - _SILENT
    out.changed.extend(name for name in missed if bytes(given[name]) not in _OF_NO_EFFECT)
    body: dict[str, object] = {
        name: raw
        for name, raw in given.items()
        if name not in _CONVERTED and name not in UNSENT and name not in _REFUSED
    }
    body.setdefault("store", False)
    body |= _converted(values, out)
    body["model"] = out.deployment.model
    body.pop("stream", None)
    if stream:
        body["stream"] = True
    return Written(out, _ENCODER.encode(body))


def _converted(values: Item, out: Outgoing) -> Item:
    _check_choices(values)
    made: Item = {"input": input_items(values.get("messages"), out.deployment.id, out.changed)}
    if values.get("tools"):
        made["tools"] = [_tool(tool, out.changed) for tool in _list(values["tools"])]
        if (choice := _choice(values.get("tool_choice"))) is not None:
            made["tool_choice"] = choice
    made |= _cap(values, out.max_output_tokens, out.changed)
    made |= _text(values)
    made |= _reasoning(values)
    include = list(_list(values.get("include") or []))
    if values.get("logprobs") is True:
        include.append("message.output_text.logprobs")
    if include:
        made["include"] = include
    options = values.get("stream_options")
    if isinstance(options, dict) and "include_obfuscation" in options:
        made["stream_options"] = {"include_obfuscation": options["include_obfuscation"]}
    return made


def _check_choices(values: Item) -> None:
    if values.get("n", 1) != 1:
        raise invalid("this model gives one choice; leave out 'n' or set it to 1", param="n")
    if values.get("modalities", ["text"]) != ["text"]:
        raise invalid("this model answers in text only; leave out 'modalities'", param="modalities")


def _list(value: Any, name: str = "tools") -> list[Any]:
    if not isinstance(value, list):
        raise invalid(f"{name!r} must be an array", param=name)
    return value


def _tool(tool: Any, changed: list[str]) -> Item:
    """The tool, flat. A function is strict here unless it says that it is not."""
    kind = tool.get("type") if isinstance(tool, dict) else None
    inner = tool.get(kind) if kind in ("function", "custom") else None
    if kind in ("function", "custom") and (
        not isinstance(inner, dict) or not isinstance(inner.get("name"), str)
    ):
        raise invalid(f"each {kind} of 'tools' needs a name", param="tools")
    if not isinstance(tool, dict) or not isinstance(kind, str):
        raise invalid("each of 'tools' needs a type", param="tools")
    if tool.get("cache_control"):
        changed.append("cache_control")
    if inner is None:
        return tool
    made: Item = {"type": kind, **inner}
    if kind == "function":
        made["parameters"] = inner.get("parameters") or _NO_PARAMETERS
        made["strict"] = inner.get("strict") is True
        return made
    shape = inner.get("format")
    if isinstance(shape, dict) and isinstance(grammar := shape.get("grammar"), dict):
        made["format"] = {"type": "grammar", **grammar}
    return made


def _choice(choice: Any) -> Any:
    """The choice; a name is one level higher here."""
    if choice is None or isinstance(choice, str):
        return choice
    kind = choice.get("type") if isinstance(choice, dict) else None
    inner = choice.get(kind) if isinstance(kind, str) else None
    if kind in ("function", "custom") and isinstance(inner, dict) and "name" in inner:
        return {"type": kind, "name": inner["name"]}
    if kind == "allowed_tools" and isinstance(inner, dict):
        tools = [_choice(tool) for tool in _list(inner.get("tools"), "tool_choice")]
        return {"type": kind, "mode": inner.get("mode") or "auto", "tools": tools}
    if isinstance(kind, str):
        return choice  # of a tool that runs there, or in this API's own form
    raise invalid("'tool_choice' must be auto, none, required, or name a tool", param="tool_choice")


def _cap(values: Item, bought: int | None, changed: list[str]) -> Item:
    """The lowest of the caps; which of two a server would obey nobody knows."""
    found: list[int] = [] if bought is None else [bought]
    for name in ("max_completion_tokens", "max_tokens", "max_output_tokens"):
        if (value := values.get(name)) is None:
            continue
        if not isinstance(value, int) or isinstance(value, bool):
            raise invalid(f"{name!r} must be an integer", param=name)
        if value < LEAST_OUTPUT:
            changed.append(name)
        found.append(value)
    return {"max_output_tokens": max(LEAST_OUTPUT, min(found))} if found else {}


def _text(values: Item) -> Item:
    made: Item = dict(_object(values, "text"))
    if values.get("verbosity") is not None:
        made["verbosity"] = values["verbosity"]
    shape = values.get("response_format")
    kind = shape.get("type") if isinstance(shape, dict) else None
    if isinstance(shape, dict) and kind == "json_schema":
        described = shape.get("json_schema")
        if not isinstance(described, dict) or not isinstance(described.get("schema"), dict):
            raise invalid(
                "'response_format' of type json_schema needs a json_schema with a schema",
                param="response_format",
            )
        made["format"] = {"type": kind, "name": "answer", **described}
    elif kind == "json_object":
        made["format"] = {"type": kind}
    elif shape is not None and kind != "text":
        raise invalid(
            "'response_format' must be of type text, json_object or json_schema",
            param="response_format",
        )
    return {"text": made} if made else {}


def _reasoning(values: Item) -> Item:
    """`reasoning_effort` may be an object with the effort and the summary, as LiteLLM's callers
    write it."""
    made: Item = dict(_object(values, "reasoning"))
    effort = values.get("reasoning_effort")
    if isinstance(effort, dict):
        made |= effort
    elif effort is not None:
        made["effort"] = effort
    return {"reasoning": made} if made else {}


def _object(values: Item, name: str) -> Mapping[str, Any]:
    value = values.get(name)
    if value is not None and not isinstance(value, dict):
        raise invalid(f"{name!r} must be an object", param=name)
    return value or {}
