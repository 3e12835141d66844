"""A chat completions request, translated to Anthropic's Messages API.

Fields without a counterpart are left out (`seed`, `logit_bias`, `store`, …). What Anthropic refuses
is sent in the nearest form that it accepts: `oddities` lists these forms. The caller learns of both,
by field. What would change the answer's shape is refused (`n` above 1, audio). Fields unknown to
OpenAI's wire (`thinking`, `top_k`, …) pass.

Choices made here:
    max_tokens       required; a caller that sets none gets `DEFAULT_MAX_TOKENS`
    temperature      0 to 2 at OpenAI, 0 to 1 at Anthropic: clamped
    system           system and developer messages, wherever they stand, in order, go to `system`
    reasoning_effort adaptive thinking and `output_config.effort`; a token budget on models before
                     Claude 4.6, which have nothing else
    response_format  `json_schema` becomes `output_config.format`, with objects closed, as it
                     requires; `json_object` has no counterpart and becomes an instruction
    cache_control    on content parts, messages and tools: passed on
"""

from __future__ import annotations

import hashlib
import re
from typing import Any

import msgspec

from spanledger.wires.anthropic.content import to_conversation
from spanledger.wires.anthropic.models import Abilities, abilities_of
from spanledger.wires.anthropic.thinking import think
from spanledger.wires.anthropic.tools import Names, tool_choice_of, tools_called, tools_of
from spanledger.wires.anthropic.turns import mend
from spanledger.wires.base import Outgoing, Written
from spanledger.wires.failures import invalid
from spanledger.wires.fields import DECODE_ERRORS, is_set

MAX_CACHE_MARKS = 4
MAX_USER_CHARS = 256
JSON_INSTRUCTION = "Answer with one JSON object and nothing else: no prose, no code fence."

_PERSON = re.compile(r"[^@\s]+@[^@\s]+\.[^@\s]+|^\+?[\d\s().-]{7,}$")
"""An e-mail address or a phone number."""
_OF_NO_EFFECT = frozenset(
    {b"0", b"0.0", b"false", b"{}", b"[]", b'"auto"', b'"default"', b'"medium"', b"null"}
)
"""Values that ask for the default, so that leaving the field out changes nothing."""
_SILENT = frozenset({"stream", "stream_options", "store", "moderation", "prediction"})
"""Fields that are left out without changing an answer."""
NOT_SENT = frozenset(
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
        "top_p",
        "top_k",
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


def encode_messages_request(out: Outgoing, *, stream: bool) -> Written:
    """The request, with the caller's names of its tools as the memo. Fields that had to change are
    added to `out.changed`.

    Raises:
        ProviderError: `invalid_request`, saying what the Messages API cannot do.
    """
    names = Names()
    try:
        body = _ENCODER.encode(_convert(out, names, stream=stream))
    except DECODE_ERRORS:
        raise invalid("a field of the request is not valid JSON of the right kind") from None
    return Written(out, body, names)


def _convert(out: Outgoing, names: Names, *, stream: bool) -> dict[str, object]:
    changed = out.changed
    given = {name: raw for name, raw in out.fields.items() if is_set(raw)}
    for name, what in _REFUSED.items():
        if name in given:
            raise invalid(f"this model has no {what}", param=name)
    values = {name: msgspec.json.decode(raw) for name, raw in given.items() if name in _CONVERTED}
    _check_choices(values)
    able = abilities_of(out.deployment.known_as)
    body: dict[str, object] = {
        name: raw for name, raw in given.items() if name not in _CONVERTED and name not in NOT_SENT
    }
    changed += _left_out(given)
    _put_tools(body, values, names, changed)
    system, turns = to_conversation(values.get("messages"), names, changed)
    turns = mend(turns, prefill=able.prefill, changed=changed)
    if "tools" not in body and (called := tools_called(turns)):
        body["tools"], body["tool_choice"] = called, {"type": "none"}
        changed.append("tools")
    body["model"] = out.deployment.model
    body["messages"] = turns
    shape = _format(values.get("response_format"), system, changed)
    if system:
        body["system"] = system[0]["text"] if _is_plain(system) else system
    thinks = think(body, values, out, able, turns)
    if shape is not None:
        config = body.setdefault("output_config", {})
        assert isinstance(config, dict)
        config.setdefault("format", shape)
    _put_sampling(body, values, able, changed, thinks=thinks)
    _put_stop(body, values, changed)
    _put_user(body, values, changed)
    _limit_cache_marks(body, system, turns, changed)
    if names.changed:
        changed.append("tools")
    if stream:
        body["stream"] = True
    return body


def _left_out(given: dict[str, msgspec.Raw]) -> list[str]:
    """The fields without a counterpart, where a caller could miss them."""
    return [
        name
        for name, raw in given.items()
        if name in NOT_SENT and name not in _SILENT and bytes(raw) not in _OF_NO_EFFECT
    ]


def _check_choices(values: dict[str, Any]) -> None:
    if values.get("n", 1) != 1:
        raise invalid("this model gives one choice; leave out 'n' or set it to 1", param="n")
    modalities = values.get("modalities", ["text"])
    if modalities != ["text"]:
        raise invalid("this model answers in text only; leave out 'modalities'", param="modalities")


def _is_plain(system: list[dict[str, Any]]) -> bool:
    return len(system) == 1 and set(system[0]) == {"type", "text"}


def _number(values: dict[str, Any], name: str) -> float | None:
    value = values.get(name)
    if value is not None and (not isinstance(value, int | float) or isinstance(value, bool)):
        raise invalid(f"{name!r} must be a number", param=name)
    return value


def _put_sampling(
    body: dict[str, object],
    values: dict[str, Any],
    able: Abilities,
    changed: list[str],
    *,
    thinks: bool,
) -> None:
    """`temperature`, `top_p` and `top_k`, as far as the model accepts them, also together. Defaults
    are left out silently."""
    temperature, top_p, top_k = (_number(values, n) for n in ("temperature", "top_p", "top_k"))
    dropped: list[str] = []
    if temperature is not None and not 0 <= temperature <= 1:
        temperature = min(max(temperature, 0), 1)
        changed.append("temperature")
    if able.sampling == "none" or thinks:
        if temperature is not None and temperature != 1:
            dropped.append("temperature")
        if top_p is not None and (top_p < 0.95 or (able.sampling == "none" and top_p != 1)):
            dropped.append("top_p")
        if top_k is not None:
            dropped.append("top_k")
        if able.sampling == "none":
            temperature = top_p = None
    if able.sampling == "one" and None not in (temperature, top_p) and not dropped:
        if temperature == 1:
            temperature = None
        else:
            dropped += ["top_p"] if top_p != 1 else []
            top_p = None
    changed += dropped
    shown = {"temperature": temperature, "top_p": top_p, "top_k": top_k}
    body |= {n: value for n, value in shown.items() if value is not None and n not in dropped}


def _put_stop(body: dict[str, object], values: dict[str, Any], changed: list[str]) -> None:
    stop = values.get("stop")
    if stop is None:
        return
    sequences = [stop] if isinstance(stop, str) else stop
    if not isinstance(sequences, list) or not all(isinstance(s, str) for s in sequences):
        raise invalid("'stop' must be a string or an array of strings", param="stop")
    # Anthropic refuses a sequence that is only white space.
    kept = [sequence for sequence in sequences if sequence.strip()]
    if kept:
        body["stop_sequences"] = kept
    if len(kept) < len(sequences):
        changed.append("stop")


def _put_user(body: dict[str, object], values: dict[str, Any], changed: list[str]) -> None:
    """The caller's user as an opaque id, which Anthropic requires."""
    metadata = values.get("metadata")
    named = metadata.get("user_id") if isinstance(metadata, dict) else None
    found = {"metadata": named, "user": values.get("user")}
    found["safety_identifier"] = values.get("safety_identifier")
    for name, user in found.items():
        if not isinstance(user, str) or not user:
            continue
        if _PERSON.search(user) or len(user) > MAX_USER_CHARS:
            changed.append(name)
            user = hashlib.sha256(user.encode("utf-8", "surrogatepass")).hexdigest()
        body["metadata"] = {"user_id": user}
        return


def _put_tools(
    body: dict[str, object], values: dict[str, Any], names: Names, changed: list[str]
) -> None:
    if not values.get("tools"):
        return
    body["tools"] = tools_of(values["tools"], names, changed)
    choice = tool_choice_of(values.get("tool_choice"), names)
    if values.get("parallel_tool_calls") is False:
        choice = choice or {"type": "auto"}
        if choice["type"] != "none":
            choice["disable_parallel_tool_use"] = True
    if choice is not None:
        body["tool_choice"] = choice


def _limit_cache_marks(
    body: dict[str, object],
    system: list[dict[str, Any]],
    turns: list[dict[str, Any]],
    changed: list[str],
) -> None:
    """Anthropic accepts four marks; the last ones cover what earlier ones did."""
    tools = body.get("tools")
    places = [*(tools if isinstance(tools, list) else ()), *system]
    places += [block for turn in turns for block in turn["content"]]
    marked = [block for block in places if block.get("cache_control")]
    for block in marked[:-MAX_CACHE_MARKS]:
        del block["cache_control"]
        changed.append("cache_control")


def _format(shape: Any, system: list[dict[str, Any]], changed: list[str]) -> dict[str, Any] | None:
    """`output_config.format`; JSON mode becomes one more system block."""
    kind = shape.get("type") if isinstance(shape, dict) else None
    if shape is None or kind == "text":
        return None
    if kind == "json_object":
        system.append({"type": "text", "text": JSON_INSTRUCTION})
        changed.append("response_format")
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
    """The schema with `additionalProperties: false` wherever an object does not set it."""
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
