"""A Responses request as a chat completions request.

Nothing is stored here, so what refers to something stored is refused, and `store` is answered with
false. Fields without a counterpart that do not change an answer's meaning are left out and named in
`changed`. Fields unknown to the Responses API pass, as a deployment's own settings may be among them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from spanledger.wires.base import Habits, Inbound, Outgoing, Server
from spanledger.wires.failures import invalid
from spanledger.wires.fields import DECODE_ERRORS, is_set
from spanledger.wires.responses_as_chat.items import chat_messages
from spanledger.wires.responses_as_chat.mistakes import Item, Mistakes
from spanledger.wires.responses_as_chat.tools import Toolbox, add_tools, chosen

_OPENAIS = re.compile(r"^(?:gpt-(?!oss)|chatgpt|o\d|codex|computer-use)")
"""OpenAI's own models, which are served by OpenAI or Azure: they know all of OpenAI's fields, and no
reasoning of other models."""
_REASONS = re.compile(r"^(?:o\d|gpt-[5-9])(?!.*chat)")
"""Those of them that know `reasoning_effort`; the others refuse it."""
_NO_TOOLS = re.compile(r"^gpt-(?:5\.[4-9]|[6-9])")
"""Those that refuse it on this wire together with tools."""
_VERBOSE = re.compile(r"^gpt-[5-9]")
"""Those that know `verbosity`."""
_EARLIER_REASONING = {"cerebras": "reasoning", "groq": "reasoning", "mistral": ""}
"""What servers take reasoning of earlier turns by, where that is not `reasoning_content` as at
DeepSeek and Moonshot, which refuse calls of tools without it. Sources: the servers' own answers,
which name it so; QwenLM/qwen-code#11045 and agentjido/req_llm#772 for what they refuse."""

_REFUSED = {
    "background": "an answer of this model is not stored; leave it out and wait for the answer",
    "conversation": "this model stores nothing; send the conversation's items in 'input'",
    "moderation": "this model's answers are not checked; leave it out",
    "previous_response_id": "this model stores nothing; send the earlier items in 'input'",
    "prompt": "prompts are stored at OpenAI; send the text in 'instructions' and 'input'",
}
_LEFT_OUT = frozenset(
    {
        "client_metadata",
        "context_management",
        "max_tool_calls",
        "metadata",
        "n",
        "store",
        "stream_options",
        "truncation",
    }
)
"""Fields that are not sent."""
DROPS = _LEFT_OUT | _REFUSED.keys() | {"input", "tools"}
"""What costs nothing here that nothing would bound elsewhere: items that are stored are refused, and
no tool is sent that runs at the provider."""
_OPENAIS_FIELDS = frozenset(
    {
        "prompt_cache_key",
        "prompt_cache_options",
        "prompt_cache_retention",
        "safety_identifier",
    }
)
"""Fields that are the same in a chat, but only at OpenAI; strict servers refuse them."""
_CONVERTED = frozenset(
    {
        "include",
        "input",
        "instructions",
        "max_output_tokens",
        "parallel_tool_calls",
        "reasoning",
        "text",
        "tool_choice",
        "tools",
        "top_logprobs",
    }
)
_BRING_TOOLS = ("additional_tools", "tool_search_output")
"""Items of the input that have tools."""
_NEUTRAL: tuple[object, ...] = (None, False, "disabled", [], {})
"""Values that ask for nothing."""
_SILENT = frozenset({"stream_options"})
"""Left out without a word: its padding hides lengths, and nobody sees a difference."""


@dataclass(frozen=True, slots=True)
class Translated:
    """The translated request, as the wire of chat completions wants it."""

    deployment: Server
    wire: Inbound
    fields: Mapping[str, msgspec.Raw]
    max_output_tokens: int | None
    changed: list[str]
    upload: None = None


def chat_request(out: Outgoing, spoken: str, habits: Habits) -> tuple[Translated, Toolbox]:
    """The request in chat's form, for a deployment that is spoken to in this wire, and what its
    tools stand for.

    Raises:
        ProviderError: `invalid_request`, saying all that has no counterpart.
    """
    given = {name: raw for name, raw in out.fields.items() if is_set(raw)}
    try:
        values: dict[str, Any] = {
            name: msgspec.json.decode(raw)
            for name, raw in given.items()
            if name in _CONVERTED or name in _LEFT_OUT or name in _REFUSED
        }
    except DECODE_ERRORS:
        raise invalid("a field of the request is not valid JSON") from None
    mistakes, openais = Mistakes(out.changed), bool(_OPENAIS.match(out.deployment.known_as))
    fields: dict[str, msgspec.Raw] = {}
    for name, raw in given.items():
        if name in values:
            _check(name, values[name], mistakes)
        elif openais or name not in _OPENAIS_FIELDS:
            fields[name] = raw
        else:
            mistakes.note(name)
    box = Toolbox()
    made = _converted(values, box, out.deployment, mistakes)
    made |= _effort(
        values.get("reasoning"),
        out.deployment,
        mistakes,
        alone=spoken == "chat" and bool(box.functions),
    )
    mistakes.check()
    _cap(values.get("max_output_tokens"), fields, made, habits.cap_name)
    encoded = {name: msgspec.Raw(msgspec.json.encode(value)) for name, value in made.items()}
    # A deployment's own setting wins over a default, not over what the caller says.
    fields |= encoded
    return Translated(out.deployment, out.wire, fields, out.max_output_tokens, out.changed), box


def _check(name: str, value: Any, mistakes: Mistakes) -> None:
    if value in _NEUTRAL:
        return
    if name in _REFUSED:
        mistakes.add(name, _REFUSED[name])
    elif name in _LEFT_OUT and name not in _SILENT:
        mistakes.note(name)


def _converted(values: Item, box: Toolbox, server: Server, mistakes: Mistakes) -> Item:
    add_tools(box, values.get("tools"), "tools", mistakes)
    given = values.get("input")
    for number, item in enumerate(given if isinstance(given, list) else ()):
        if isinstance(item, dict) and item.get("type") in _BRING_TOOLS:
            add_tools(box, item.get("tools"), f"input[{number}].tools", mistakes)
    by_provider = _EARLIER_REASONING.get(server.provider, "reasoning_content")
    thought = "" if _OPENAIS.match(server.known_as) else by_provider
    made: Item = {
        "messages": chat_messages(
            values.get("instructions"), values.get("input"), box, thought, mistakes
        )
    }
    if box.functions:
        made |= chosen(box, values.get("tool_choice"), mistakes)
        if isinstance(parallel := values.get("parallel_tool_calls"), bool):
            made["parallel_tool_calls"] = parallel
    made |= _text(values.get("text"), server, mistakes)
    made |= _logprobs(values.get("include"), values.get("top_logprobs"), mistakes)
    return made


def _cap(cap: Any, fields: dict[str, msgspec.Raw], made: Item, name: str) -> None:
    """The caller's cap under the server's name for it; a deployment's own, where that is less."""
    if not isinstance(cap, int):
        return
    for own in ("max_tokens", "max_completion_tokens"):
        if (raw := fields.pop(own, None)) is not None:
            try:
                cap = min(cap, msgspec.json.decode(raw, type=int))
            except DECODE_ERRORS:
                raise invalid(f"{own!r} must be an integer", param=own) from None
    made[name] = cap


def _effort(reasoning: Any, server: Server, mistakes: Mistakes, *, alone: bool) -> Item:
    """`alone`: models that take no effort together with tools would be sent both."""
    effort = reasoning.get("effort") if isinstance(reasoning, dict) else None
    if not isinstance(effort, str):
        return {}
    model = server.known_as
    if _OPENAIS.match(model) and (
        not _REASONS.match(model) or (alone and _NO_TOOLS.match(model) and effort != "none")
    ):
        mistakes.note("reasoning")
        return {}
    return {"reasoning_effort": effort}


def _text(text: Any, server: Server, mistakes: Mistakes) -> Item:
    if not isinstance(text, dict):
        return {}
    made: Item = {}
    if isinstance(verbosity := text.get("verbosity"), str):
        if _VERBOSE.match(server.known_as):
            made["verbosity"] = verbosity
        elif verbosity != "medium":
            mistakes.note("text")
    given = text.get("format")
    shape = given if isinstance(given, dict) else {}
    kind = shape.get("type")
    if kind == "json_schema" and isinstance(shape.get("schema"), dict):
        known = ("name", "description", "schema", "strict")
        described = {name: shape[name] for name in known if shape.get(name) is not None}
        made["response_format"] = {"type": kind, "json_schema": {"name": "answer", **described}}
    elif kind == "json_object":
        made["response_format"] = {"type": kind}
    elif given is not None and kind != "text":
        mistakes.add("text.format", "it must be of type text, json_object or json_schema")
    return made


def _logprobs(include: Any, top: Any, mistakes: Mistakes) -> Item:
    asked = include if isinstance(include, list) else []
    wanted = "message.output_text.logprobs" in asked
    if any(name != "message.output_text.logprobs" for name in asked):
        mistakes.note("include")
    if isinstance(top, int) and top > 0:
        return {"logprobs": True, "top_logprobs": top}
    return {"logprobs": True} if wanted else {}
